/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How far the watched consumer groups have committed: asks Kafka about every
 * second and keeps outbox.watched as the answers say.
 *
 * Owns the questions and the table. One relay does it for all, the owner of
 * stream 0. Has a client of its own, so that nothing that happens to it
 * concerns publishing; what it stores is only what Kafka has told.
 */
#ifndef OUTBOX_WATCH_H
#define OUTBOX_WATCH_H

#include "outbox/sink.h"

struct watch;

/* Contacts nobody yet. `options` and `groups` (ends with NULL) must outlive it. */
int watch_open(struct watch **watch, const struct sink_options *options, const char *const *groups,
               struct saga_error *err);
void watch_close(struct watch *watch); /* NULL is allowed */

/* What is due: asks, takes in answers that are there, stores what has changed.
 * Never waits for Kafka, nor for a lock. To be called often. */
int watch_step(struct watch *watch, struct pg *pg, struct saga_error *err);

/* Forgets what is known of the stream: from now on nobody is watched, and a
 * message without a range must not be taken for one of an older range. Not
 * `done`: somebody has locked the tables; to be called again. */
int watch_nobody(struct pg *pg, int32_t stream, bool *done, struct saga_error *err);

#endif
