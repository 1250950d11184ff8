/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inbox row of a message, inside the library.
 *
 * Owns what the words of idempotency.receive() mean. Knows nothing of Kafka or
 * Redis, and neither begins nor ends a transaction.
 */
#ifndef IDEMPOTENCY_INBOX_H
#define IDEMPOTENCY_INBOX_H

#include "base/pg.h"

#include <saga/inbox.h>

/* As saga_inbox_enter() in a transaction that is open, with the deadline of
 * `pg`. */
int inbox_enter(struct pg *pg, const char *consumer, const struct saga_record *record,
                int32_t *verdict, struct saga_error *err);

/* What a word of idempotency.receive() means: SAGA_INBOX_*. */
int inbox_verdict(const char *text, int32_t *verdict, struct saga_error *err);

#endif
