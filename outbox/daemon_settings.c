/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a setting may be.
 */
#include "outbox/daemon_settings.h"

#include "base/log.h"
#include "outbox/brokers.h"
#include "outbox/daemon_listen.h"

#include <errno.h>
#include <libpq-fe.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STALL_MS = 90000, ONCE_MS = 60000, DAY_MS = 86400000 };

#define RETENTION_LONGEST_MS (3650LL * DAY_MS)

static char program[] = "outbox-relay";

static const char milliseconds[] = "milliseconds, without a unit";

/* --- one value ------------------------------------------------------------ */

static int
read_number(int32_t *number, int32_t least, int32_t most, const char *unit,
            const struct value *value, struct saga_error *err)
{
    char *end;
    long read;

    errno = 0;
    read = strtol(value->text, &end, 10);
    if (errno != 0 || end == value->text || *end != '\0' || read < least || read > most)
        return value_error(value, err, "must be a whole number from %d to %d (%s)", least, most,
                           unit);
    *number = (int32_t)read;
    return 0;
}

/* "forever", or more milliseconds than read_number() can say. */
static int
read_retention(int64_t *ms, const struct value *value, struct saga_error *err)
{
    char *end;
    long long read;

    errno = 0;
    if (strcmp(value->text, "forever") == 0)
        return *ms = -1, 0;
    read = strtoll(value->text, &end, 10);
    if (errno != 0 || end == value->text || *end != '\0' || read < 1 || read > RETENTION_LONGEST_MS)
        return value_error(value, err, "must be a whole number from 1 to %lld (%s), or forever",
                           RETENTION_LONGEST_MS, milliseconds);
    *ms = read;
    return 0;
}

/* The number of the word in `words`, which ends with NULL. */
static int
read_word(int32_t *number, const char *const *words, const char *list, const struct value *value,
          struct saga_error *err)
{
    for (int32_t i = 0; words[i] != NULL; i++) {
        if (strcmp(words[i], value->text) == 0) {
            *number = i;
            return 0;
        }
    }
    return value_error(value, err, "must be one of %s", list);
}

static int
read_switch(int32_t *number, const struct value *value, struct saga_error *err)
{
    static const char *const words[] = { "off", "on", NULL };

    return read_word(number, words, "off, on", value, err);
}

/* libpq quotes what it does not understand, which may be a part of a password. */
static int
check_database(const struct value *value, struct saga_error *err)
{
    PQconninfoOption *options = PQconninfoParse(value->text, NULL);

    if (options == NULL)
        return value_error(value, err,
                           "libpq cannot read this connection string (not shown: there may be a "
                           "password in it)");
    PQconninfoFree(options);
    return 0;
}

static int
check_brokers(const struct value *value, struct saga_error *err)
{
    return brokers_valid(value->text) ? 0 : value_error(value, err, "%s", brokers_allowed);
}

/* "billing, shipping" */
static int
read_groups(struct settings *settings, const struct value *value, struct saga_error *err)
{
    size_t n = 0, commas = 0;
    char *rest, *group;

    settings->groups = rest = strdup(value->text);
    for (const char *c = value->text; *c != '\0'; c++)
        commas += *c == ',';
    settings->watch = calloc(commas + 2, sizeof *settings->watch);
    if (settings->groups == NULL || settings->watch == NULL)
        return error_set(err, SAGA_ENOMEM, "out of memory");
    while ((group = strsep(&rest, ",")) != NULL) {
        group += strspn(group, " \t");
        group[strcspn(group, " \t")] = '\0';
        if (*group == '\0')
            return value_error(value, err, "must be names of consumer groups: GROUP, GROUP");
        settings->watch[n++] = group;
    }
    settings->options.watch = settings->watch;
    return 0;
}

/* --- the sections ---------------------------------------------------------- */

static int
no_such(const struct value *value, struct saga_error *err, const char *there_are)
{
    return value_error(value, err, "there is no such setting; there are %s", there_are);
}

static int
set_log(struct settings *settings, const struct value *value, struct saga_error *err)
{
    static const char *const levels[] = { "debug", "info", "warning", "error", NULL };
    static const char *const formats[] = { "text", "json", NULL };
    struct saga_log *log = &settings->options.log;
    int32_t format = 0;
    int rc;

    if (strcmp(value->name, "log") == 0)
        return read_word(&log->level, levels, "debug, info, warning, error", value, err);
    rc = read_word(&format, formats, "text, json", value, err);
    log->write = format == 1 ? log_json_to_stderr : log_to_stderr;
    return rc;
}

static int
set_relay(struct settings *settings, const struct value *value, struct saga_error *err)
{
    struct saga_relay_options *options = &settings->options;
    const struct {
        const char *name;
        int32_t *number;
        int32_t least, most;
        const char *unit;
    } numbers[] = {
        { "lease_ms", &options->lease_ms, 300, 300000, milliseconds },
        { "page_rows", &options->page_rows, 1, 1000000, "messages" },
        { "page_bytes", &options->page_bytes, 1, 1 << 30, "bytes, without a unit" },
        { "idle_ms", &options->idle_ms, 1, 60000, milliseconds },
        { "drain_ms", &options->drain_ms, 1, DAY_MS, milliseconds },
        { "once_ms", &settings->once_ms, 100, DAY_MS, milliseconds },
        { "stall_ms", &settings->stall_ms, 100, DAY_MS, milliseconds },
    };
    const char *name = value->name;

    if (strcmp(name, "database") == 0)
        return options->conninfo = value->text, check_database(value, err);
    if (strcmp(name, "brokers") == 0)
        return options->brokers = value->text, check_brokers(value, err);
    if (strcmp(name, "source") == 0)
        return options->source = value->text, 0;
    if (strcmp(name, "instance") == 0)
        return options->instance = value->text, 0;
    if (strcmp(name, "retention_ms") == 0)
        return read_retention(&options->retention_ms, value, err);
    if (strcmp(name, "standby_gate") == 0)
        return read_switch(&options->standby_gate, value, err);
    if (strcmp(name, "transactional") == 0)
        return read_switch(&options->transactional, value, err);
    if (strcmp(name, "log") == 0 || strcmp(name, "log_format") == 0)
        return set_log(settings, value, err);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (strcmp(numbers[i].name, name) == 0)
            return read_number(numbers[i].number, numbers[i].least, numbers[i].most,
                               numbers[i].unit, value, err);
    return no_such(value, err,
                   "database, brokers, source, log, log_format, lease_ms, page_rows, page_bytes, "
                   "idle_ms, drain_ms, once_ms, stall_ms, retention_ms, standby_gate, "
                   "transactional, instance");
}

static int
set_http(struct settings *settings, const struct value *value, struct saga_error *err)
{
    struct listen_address address;

    if (strcmp(value->name, "listen") != 0)
        return no_such(value, err, "listen");
    if (!listen_parse(&address, value->text))
        return value_error(value, err,
                           "must be PORT (of 127.0.0.1), ADDRESS:PORT or [ADDRESS]:PORT, with a "
                           "numeric address");
    settings->listen = value->text;
    return 0;
}

static int
set_watch(struct settings *settings, const struct value *value, struct saga_error *err)
{
    if (strcmp(value->name, "groups") != 0)
        return no_such(value, err, "groups");
    return read_groups(settings, value, err);
}

/* librdkafka, or the relay, judges the names and values of these. */
static int
set_pair(struct saga_pair *pairs, const struct value *value)
{
    while (pairs->name != NULL)
        pairs++;
    *pairs = (struct saga_pair){ value->name, value->text };
    return 0;
}

static int
set(struct settings *settings, struct value *value, struct saga_error *err)
{
    static const char *const sections[] = { "relay", "kafka", "topics", "watch", "http", NULL };
    size_t section = 0;
    int rc;

    while (sections[section] != NULL && strcmp(sections[section], value->section) != 0)
        section++;
    if (sections[section] == NULL)
        return value_error(value, err,
                           "there is no such section; there are relay, kafka, topics, watch, http");
    if (*value->name == '\0')
        return 0;
    rc = value_resolve(value, err);
    if (rc != 0)
        return rc;
    switch (section) {
    case 0:
        return set_relay(settings, value, err);
    case 1:
        return set_pair(settings->kafka, value);
    case 2:
        return set_pair(settings->formats, value);
    case 3:
        return set_watch(settings, value, err);
    default:
        return set_http(settings, value, err);
    }
}

/* --- all ------------------------------------------------------------------- */

static int
collect(struct values *values, const struct arguments *arguments, char *const *environment,
        struct saga_error *err)
{
    int rc = 0;

    if (arguments->config != NULL)
        rc = values_read_file(values, arguments->config, err);
    if (rc == 0)
        rc = values_read_environment(values, environment, err);
    if (rc == 0 && arguments->database != NULL)
        rc = values_put(values, "relay", "database", arguments->database, "--database", err);
    if (rc == 0 && arguments->brokers != NULL)
        rc = values_put(values, "relay", "brokers", arguments->brokers, "--brokers", err);
    if (rc == 0 && arguments->metrics != NULL)
        rc = values_put(values, "http", "listen", arguments->metrics, "--metrics", err);
    return rc;
}

int
settings_read(struct settings *settings, const struct arguments *arguments,
              char *const *environment, struct saga_error *err)
{
    int rc;

    *settings = (struct settings){ .options = { SAGA_RELAY_OPTIONS },
                                   .stall_ms = STALL_MS,
                                   .once_ms = ONCE_MS };
    settings->options.log =
        (struct saga_log){ .write = log_to_stderr, .user = program, .level = SAGA_LOG_INFO };
    for (char *const *variable = environment; *variable != NULL; variable++)
        if (variable_is_stray(settings->ignored, sizeof settings->ignored, *variable))
            break;
    rc = collect(&settings->values, arguments, environment, err);
    if (rc != 0)
        return rc;
    settings->kafka = calloc(settings->values.n + 1, sizeof *settings->kafka);
    settings->formats = calloc(settings->values.n + 1, sizeof *settings->formats);
    if (settings->kafka == NULL || settings->formats == NULL)
        return error_set(err, SAGA_ENOMEM, "out of memory");
    settings->options.kafka = settings->kafka;
    settings->options.formats = settings->formats;
    for (size_t i = 0; rc == 0 && i < settings->values.n; i++)
        rc = set(settings, &settings->values.all[i], err);
    if (rc == 0 && settings->options.brokers == NULL)
        rc =
            error_set(err, SAGA_EINVAL,
                      "no brokers; give --brokers HOST:PORT, or brokers below [relay] in --config");
    return rc;
}

/* Where the name stands in the text as a word of its own. */
static bool
mentions(const char *text, const char *name)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    size_t len = strlen(name);

    for (const char *at = text; (at = strstr(at, name)) != NULL; at++) {
        bool begins = at == text || (strchr(letters, at[-1]) == NULL && at[-1] != '.');
        bool goes_on =
            at[len] == '.' && at[len + 1] != '\0' && strchr(letters, at[len + 1]) != NULL;

        if (begins && !goes_on && (at[len] == '\0' || strchr(letters, at[len]) == NULL))
            return true;
    }
    return false;
}

void
settings_locate(const struct settings *settings, struct saga_error *err)
{
    const struct value *found = NULL;
    char sentence[sizeof err->message];

    for (size_t i = 0; i < settings->values.n; i++) {
        const struct value *value = &settings->values.all[i];
        bool judged = strcmp(value->section, "kafka") == 0 ||
                      strcmp(value->section, "topics") == 0 || strcmp(value->name, "source") == 0;

        if (judged && *value->name != '\0' && mentions(err->message, value->name) &&
            (found == NULL || strlen(value->name) > strlen(found->name)))
            found = value;
    }
    if (err->code != SAGA_EINVAL || found == NULL)
        return;
    snprintf(sentence, sizeof sentence, "%s", err->message);
    value_error(found, err, "%s", sentence);
}

void
settings_clear(struct settings *settings)
{
    values_clear(&settings->values);
    free(settings->kafka);
    free(settings->formats);
    free(settings->groups);
    free(settings->watch);
    *settings = (struct settings){ 0 };
}
