/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log events, turned into texts for the callback, and the line that programs
 * print of them.
 */
#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>
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
    static const char *const levels[] = { "debug", "info", "warning", "error" };
    char line[2048], stamp[32];
    struct timespec now;
    struct tm utc;
    FILE *out = fmemopen(line, sizeof line, "w");

    if (out == NULL)
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &utc);
    fprintf(out, "time=%s.%03ldZ level=%s ", stamp, now.tv_nsec / 1000000, levels[level & 3]);
    if (user != NULL)
        fprintf(out, "name=%s ", (const char *)user);
    fputs("event=", out);
    put_value(out, message);
    for (; fields->name != NULL; fields++) {
        if (*fields->value == '\0')
            continue;
        fprintf(out, " %s=", fields->name);
        put_value(out, fields->value);
    }
    fputc('\n', out);
    fclose(out);
    line[sizeof line - 1] = '\0';
    fputs(line, stderr);
}
