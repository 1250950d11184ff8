/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log events: a constant sentence and named fields, handed to the callback of
 * the handle that is at work. Never payloads, never connection strings.
 *
 *     log_event(log, SAGA_LOG_WARNING, "lost the connection",
 *               LOG_TEXT("stream", name), LOG_INT("epoch", epoch));
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <saga/base.h>

struct log_field {
    const char *name;
    const char *text; /* NULL: the number counts */
    int64_t number;
};

#define LOG_TEXT(name, value)                                                                      \
    {                                                                                              \
        (name), (value) != NULL ? (value) : "", 0                                                  \
    }
#define LOG_INT(name, value)                                                                       \
    {                                                                                              \
        (name), NULL, (value)                                                                      \
    }

#define LOG_NO_FIELDS                                                                              \
    {                                                                                              \
        NULL, NULL, 0                                                                              \
    }

/* At most 12 fields; `log` may be NULL. */
#define log_event(log, level, ...) LOG_EVENT_(log, level, __VA_ARGS__, { NULL, NULL, 0 })
#define LOG_EVENT_(log, level, message, ...)                                                       \
    log_write((log), (level), (message), (const struct log_field[]){ __VA_ARGS__ })

void log_write(const struct saga_log *log, int level, const char *message,
               const struct log_field *fields);

/* The event that every failed call ends up as: code, sqlstate and message. */
void log_error(const struct saga_log *log, int level, const char *message,
               const struct saga_error *err);

/* A `write` for programs: one line of key=value on the standard error stream;
 * `user` is NULL or the program's name. The other one writes a JSON object. */
void log_to_stderr(void *user, int32_t level, const char *message, const struct saga_pair *fields);
void log_json_to_stderr(void *user, int32_t level, const char *message,
                        const struct saga_pair *fields);

#endif
