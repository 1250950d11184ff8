/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log events, turned into texts for the callback, and the line that programs
 * print of them.
 */
#include "base/log.h"

#include "base/utf8.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FIELDS_MAX = 12 };

void
log_write(const struct saga_log *log, int level, const char *message,
          const struct log_field *fields)
{
    struct saga_pair pairs[FIELDS_MAX + 1];
    char numbers[FIELDS_MAX][24];
    size_t n = 0;

    if (log == NULL || log->write == NULL || level < log->level)
        return;
    for (; n < FIELDS_MAX && fields[n].name != NULL; n++) {
        snprintf(numbers[n], sizeof numbers[n], "%" PRId64, fields[n].number);
        pairs[n].name = fields[n].name;
        pairs[n].value = fields[n].text != NULL ? fields[n].text : numbers[n];
    }
    pairs[n] = (struct saga_pair){ NULL, NULL };
    log->write(log->user, level, message, pairs);
}

void
log_error(const struct saga_log *log, int level, const char *message, const struct saga_error *err)
{
    log_event(log, level, message, LOG_TEXT("code", saga_error_name(err->code)),
              LOG_TEXT("sqlstate", err->sqlstate), LOG_TEXT("error", err->message));
}

/* --- lines ------------------------------------------------------------- */

static const char *const levels[] = { "debug", "info", "warning", "error" };

struct stamp {
    char text[32];
};

static struct stamp
stamp_now(void)
{
    struct timespec now;
    struct stamp stamp;
    struct tm utc;
    size_t len;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    len = strftime(stamp.text, sizeof stamp.text, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(stamp.text + len, sizeof stamp.text - len, ".%03dZ", (int)(now.tv_nsec / 1000000));
    return stamp;
}

/* A line is written at once, or lines of several threads would mix; it is never
 * cut, or it would not be read back. */
struct line {
    FILE *out;
    char *text;
    size_t len;
};

static bool
line_open(struct line *line)
{
    line->out = open_memstream(&line->text, &line->len);
    return line->out != NULL;
}

static void
line_write(struct line *line)
{
    fputc('\n', line->out);
    if (fclose(line->out) == 0)
        fwrite(line->text, 1, line->len, stderr);
    free(line->text);
}

/* A value with spaces or quotes is quoted, so that a line splits back into its
 * fields; a line's end never gets through. */
static void
put_value(FILE *out, const char *text)
{
    if (*text != '\0' && strpbrk(text, " \"=\n\r\t\\") == NULL) {
        fputs(text, out);
        return;
    }
    fputc('"', out);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', out);
        fputc((unsigned char)*text < ' ' ? ' ' : *text, out);
    }
    fputc('"', out);
}

void
log_to_stderr(void *user, int32_t level, const char *message, const struct saga_pair *fields)
{
    struct line line;

    if (!line_open(&line))
        return;
    fprintf(line.out, "time=%s level=%s ", stamp_now().text, levels[level & 3]);
    if (user != NULL)
        fprintf(line.out, "name=%s ", (const char *)user);
    fputs("event=", line.out);
    put_value(line.out, message);
    for (; fields->name != NULL; fields++) {
        if (*fields->value == '\0')
            continue;
        fprintf(line.out, " %s=", fields->name);
        put_value(line.out, fields->value);
    }
    line_write(&line);
}

/* JSON is UTF-8; of a text that is not, the odd bytes are question marks. */
static void
put_json(FILE *out, const char *text)
{
    bool utf8 = utf8_valid(text, strlen(text));

    fputc('"', out);
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;

        if (c == '"' || c == '\\')
            fprintf(out, "\\%c", c);
        else if (c < ' ' || c == 0x7f)
            fprintf(out, "\\u%04x", c);
        else
            fputc(c >= 0x80 && !utf8 ? '?' : c, out);
    }
    fputc('"', out);
}

void
log_json_to_stderr(void *user, int32_t level, const char *message, const struct saga_pair *fields)
{
    struct line line;

    if (!line_open(&line))
        return;
    fprintf(line.out, "{\"time\":\"%s\",\"level\":\"%s\"", stamp_now().text, levels[level & 3]);
    if (user != NULL) {
        fputs(",\"name\":", line.out);
        put_json(line.out, user);
    }
    fputs(",\"event\":", line.out);
    put_json(line.out, message);
    for (; fields->name != NULL; fields++) {
        if (*fields->value == '\0')
            continue;
        fputc(',', line.out);
        put_json(line.out, fields->name);
        fputc(':', line.out);
        put_json(line.out, fields->value);
    }
    fputc('}', line.out);
    line_write(&line);
}
