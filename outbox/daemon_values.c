/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Collecting settings.
 */
#include "outbox/daemon_values.h"

#include "outbox/daemon_ini.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_BYTES_MAX = 1 << 20, SECRET_BYTES_MAX = 1 << 16 };

/* --- the list ------------------------------------------------------------ */

/* What was a secret is not left in memory that is given out again. */
static void
forget_text(char *text)
{
    if (text != NULL)
        explicit_bzero(text, strlen(text));
    free(text);
}

static void
value_clear(struct value *value)
{
    free(value->section);
    free(value->name);
    forget_text(value->text);
    free(value->where);
}

void
values_clear(struct values *values)
{
    for (size_t i = 0; i < values->n; i++)
        value_clear(&values->all[i]);
    free(values->all);
    *values = (struct values){ 0 };
}

static struct value *
find(const struct values *values, const char *section, const char *name)
{
    for (size_t i = 0; i < values->n; i++)
        if (strcmp(values->all[i].section, section) == 0 && strcmp(values->all[i].name, name) == 0)
            return &values->all[i];
    return NULL;
}

int
values_put(struct values *values, const char *section, const char *name, const char *text,
           const char *where, struct saga_error *err)
{
    struct value made = { strdup(section), strdup(name), strdup(text), strdup(where) };
    struct value *place = find(values, section, name), *grown;

    if (made.section == NULL || made.name == NULL || made.text == NULL || made.where == NULL)
        goto no_memory;
    if (place != NULL) {
        value_clear(place);
        *place = made;
        return 0;
    }
    grown = realloc(values->all, (values->n + 1) * sizeof *grown);
    if (grown == NULL)
        goto no_memory;
    values->all = grown;
    values->all[values->n++] = made;
    return 0;
no_memory:
    value_clear(&made);
    return error_set(err, SAGA_ENOMEM, "out of memory");
}

int
value_error(const struct value *value, struct saga_error *err, const char *format, ...)
{
    char sentence[256];
    va_list args;

    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    return error_set(err, SAGA_EINVAL, "%s: [%s]%s%s: %s", value->where, value->section,
                     *value->name != '\0' ? " " : "", value->name, sentence);
}

/* --- files --------------------------------------------------------------- */

/* All of a file, with a NUL behind it; the caller frees it. NULL: errno says
 * why, EFBIG where it has more than `most` bytes. */
static char *
read_all(const char *path, size_t most, size_t *len)
{
    FILE *file = fopen(path, "re");
    char *text = file != NULL ? malloc(most + 2) : NULL;

    if (text == NULL) {
        if (file != NULL)
            fclose(file);
        return NULL;
    }
    errno = 0;
    *len = fread(text, 1, most + 1, file);
    if (ferror(file) || *len > most) {
        errno = ferror(file) ? errno : EFBIG;
        explicit_bzero(text, *len);
        free(text);
        text = NULL;
    } else {
        text[*len] = '\0';
    }
    fclose(file);
    return text;
}

struct reading {
    struct values *values;
    const char *path;
    size_t before; /* settings that were there before the file */
    struct saga_error *err;
};

static bool
on_setting(void *user, const char *section, const char *name, const char *value, int line)
{
    struct reading *reading = user;
    const struct value *earlier = find(reading->values, section, name);
    char where[512];

    /* A section's own line: it may come twice. */
    if (*name == '\0')
        earlier = NULL;
    snprintf(where, sizeof where, "%s, line %d", reading->path, line);
    if (earlier != NULL && (size_t)(earlier - reading->values->all) >= reading->before) {
        error_set(reading->err, SAGA_EINVAL, "%s: [%s] %s is set twice; it also stands at %s",
                  where, section, name, earlier->where);
        return false;
    }
    return values_put(reading->values, section, name, value, where, reading->err) == 0;
}

int
values_read_file(struct values *values, const char *path, struct saga_error *err)
{
    struct reading reading = { values, path, values->n, err };
    const char *why = NULL;
    size_t len = 0;
    char *text = read_all(path, FILE_BYTES_MAX, &len);
    int line;

    if (text == NULL)
        return error_set(err, SAGA_EINVAL, "cannot read %s: %s", path, strerror(errno));
    line = ini_read(text, len, on_setting, &reading, &why);
    if (line != 0 && why != NULL)
        error_set(err, SAGA_EINVAL, "%s, line %d: %s", path, line, why);
    explicit_bzero(text, len);
    free(text);
    return line == 0 ? 0 : SAGA_EINVAL;
}

/* --- secrets ------------------------------------------------------------- */

/* The file that the text stands for. False: it stands for itself. */
static bool
file_of(const char *text, char *path, size_t size)
{
    const char *directory = getenv("CREDENTIALS_DIRECTORY");

    if (strncmp(text, "file:", 5) == 0)
        return snprintf(path, size, "%s", text + 5), true;
    if (strncmp(text, "credential:", 11) != 0)
        return false;
    snprintf(path, size, "%s/%s", directory != NULL ? directory : "", text + 11);
    return true;
}

int
value_resolve(struct value *value, struct saga_error *err)
{
    char path[4096];
    size_t len = 0;
    char *text;

    if (!file_of(value->text, path, sizeof path))
        return 0;
    if (strncmp(value->text, "credential:", 11) == 0 && getenv("CREDENTIALS_DIRECTORY") == NULL)
        return value_error(value, err,
                           "there are no credentials: systemd has not set CREDENTIALS_DIRECTORY "
                           "(LoadCredential=)");
    text = read_all(path, SECRET_BYTES_MAX, &len);
    if (text == NULL)
        return value_error(value, err, "cannot read %s: %s", path, strerror(errno));
    /* One line's end, which editors and echo put there, is not part of it. */
    if (len > 0 && text[len - 1] == '\n')
        text[--len] = '\0';
    if (len > 0 && text[len - 1] == '\r')
        text[--len] = '\0';
    if (len == 0 || strlen(text) != len) {
        explicit_bzero(text, len);
        free(text);
        return value_error(value, err, "%s %s", path,
                           len == 0 ? "is empty" : "is not a text: there is a byte 0 in it");
    }
    forget_text(value->text);
    value->text = text;
    return 0;
}

/* --- the environment ------------------------------------------------------ */

static const char prefix[] = "OUTBOX_RELAY_";

/* "KAFKA_SASL_PASSWORD" to "kafka" and "sasl.password". */
static void
name_of_variable(const char *variable, size_t len, const char **section, char *name)
{
    static const struct {
        const char *begin, *section;
        char underscore;
    } sections[] = {
        { "KAFKA_", "kafka", '.' }, /* no property of librdkafka has an underscore */
        { "HTTP_", "http", '_' },
        { "WATCH_", "watch", '_' },
        { "", "relay", '_' },
    };
    size_t i = 0, n;

    while (strncmp(variable, sections[i].begin, strlen(sections[i].begin)) != 0)
        i++;
    n = strlen(sections[i].begin);
    *section = sections[i].section;
    for (; n < len; n++)
        *name++ =
            variable[n] == '_' ? sections[i].underscore : (char)tolower((unsigned char)variable[n]);
    *name = '\0';
}

/* Whether a variable is one of those that Kubernetes makes of a service's name:
 * OUTBOX_RELAY_SERVICE_HOST, OUTBOX_RELAY_PORT_9187_TCP_ADDR. */
static bool
made_by_kubernetes(const char *variable, size_t len)
{
    static const char host[] = "_SERVICE_HOST", service_port[] = "_SERVICE_PORT", port[] = "_PORT";
    const char *end = variable + len, *found;

    if (len > sizeof host && strncmp(end - strlen(host), host, strlen(host)) == 0)
        return true;
    found = memmem(variable, len, service_port, strlen(service_port));
    if (found != NULL)
        return true;
    found = memmem(variable, len, port, strlen(port));
    if (found == NULL)
        return false;
    found += strlen(port);
    return found == end || (*found == '_' && isdigit((unsigned char)found[1]) != 0);
}

bool
variable_is_stray(char *name, size_t size, const char *variable)
{
    static const char *const begins[] = { "OUTBOX_", "SAGA_RELAY_" };
    size_t len = strcspn(variable, "=");
    bool ours = strncmp(variable, prefix, strlen(prefix)) == 0, like_ours = false;

    for (size_t i = 0; i < sizeof begins / sizeof *begins; i++)
        like_ours = like_ours || strncmp(variable, begins[i], strlen(begins[i])) == 0;
    if (ours || !like_ours || made_by_kubernetes(variable, len))
        return false;
    snprintf(name, size, "%.*s", (int)len, variable);
    return true;
}

/* "orders=cloudevents,*=plain" */
static int
put_topics(struct values *values, const char *text, const char *where, struct saga_error *err)
{
    char *copy = strdup(text), *rest = copy, *item;
    int rc = copy != NULL ? 0 : error_set(err, SAGA_ENOMEM, "out of memory");

    while (rc == 0 && (item = strsep(&rest, ",")) != NULL) {
        char *equals = strchr(item, '=');

        if (equals == NULL)
            rc = error_set(err, SAGA_EINVAL, "%s: must be TOPIC=FORMAT,TOPIC=FORMAT", where);
        else {
            *equals = '\0';
            rc = values_put(values, "topics", item, equals + 1, where, err);
        }
    }
    free(copy);
    return rc;
}

int
values_read_environment(struct values *values, char *const *environment, struct saga_error *err)
{
    int rc = 0;

    for (; rc == 0 && *environment != NULL; environment++) {
        const char *equals = strchr(*environment, '='), *section;
        size_t len = equals != NULL ? (size_t)(equals - *environment) : 0;
        char name[256], where[256];

        if (strncmp(*environment, prefix, sizeof prefix - 1) != 0 || len >= sizeof where ||
            made_by_kubernetes(*environment, len))
            continue;
        snprintf(where, sizeof where, "%.*s", (int)len, *environment);
        if (strcmp(where, "OUTBOX_RELAY_TOPICS") == 0) {
            rc = put_topics(values, equals + 1, where, err);
            continue;
        }
        name_of_variable(where + sizeof prefix - 1, len - (sizeof prefix - 1), &section, name);
        rc = values_put(values, section, name, equals + 1, where, err);
    }
    return rc;
}
