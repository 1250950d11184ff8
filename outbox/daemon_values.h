/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Settings as they were given: section, name, text, and where that stands.
 *
 * Owns reading them from a file and from the environment, that the later source
 * wins over the earlier, and that a text "file:PATH" or "credential:NAME" stands
 * for what is in that file. Knows no setting; what one means is daemon_settings.c's.
 * No error says a value: it may be a secret.
 */
#ifndef OUTBOX_DAEMON_VALUES_H
#define OUTBOX_DAEMON_VALUES_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

struct value {
    char *section, *name, *text; /* name and text "": the section's own line */
    char *where;                 /* "/etc/relay.ini, line 7", "OUTBOX_RELAY_BROKERS" */
};

struct values {
    struct value *all;
    size_t n;
};

void values_clear(struct values *values);

/* Enters a setting, in the place of an earlier one. */
int values_put(struct values *values, const char *section, const char *name, const char *text,
               const char *where, struct saga_error *err);

/* A file in INI form, in which no setting stands twice. */
int values_read_file(struct values *values, const char *path, struct saga_error *err);

/*
 * The variables OUTBOX_RELAY_*. OUTBOX_RELAY_LEASE_MS is lease_ms of [relay];
 * OUTBOX_RELAY_KAFKA_SASL_PASSWORD is sasl.password of [kafka];
 * OUTBOX_RELAY_HTTP_LISTEN is listen of [http], OUTBOX_RELAY_WATCH_GROUPS is
 * groups of [watch]; OUTBOX_RELAY_TOPICS is all of [topics]: "orders=cloudevents,*=plain".
 * Those that Kubernetes makes of a service called outbox-relay are passed over.
 */
int values_read_environment(struct values *values, char *const *environment,
                            struct saga_error *err);

/* Whether NAME=VALUE looks as if it were meant for us, and is not read: OUTBOX_BROKERS. */
bool variable_is_stray(char *name, size_t size, const char *variable);

/* Puts what is in the file in the place of "file:PATH" or "credential:NAME". */
int value_resolve(struct value *value, struct saga_error *err);

/* Sets "WHERE: [section] name: " and then the sentence, cut where the whole is too
 * long; SAGA_EINVAL. */
int value_error(const struct value *value, struct saga_error *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
