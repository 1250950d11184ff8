/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inbox rows of many messages, by one statement, in the caller's
 * transaction.
 *
 * The verdicts are those of inbox_enter() for one, also between two of the same
 * batch.
 */
#ifndef IDEMPOTENCY_INBOX_BATCH_H
#define IDEMPOTENCY_INBOX_BATCH_H

#include "base/pg.h"

#include <saga/inbox.h>

struct inbox_batch {
    struct pg_array ids, hashes, topics, partitions, offsets;
    struct pg_arg args[6];
    struct pg_rows rows;
    size_t n;
};

void inbox_batch_init(struct inbox_batch *batch, const char *consumer);
void inbox_batch_add(struct inbox_batch *batch, const struct saga_record *record);

/* To go with others in one pg_batch(); nothing may be added after it. Waits
 * while another transaction that is open has entered one of the messages. */
struct pg_statement inbox_batch_enter(struct inbox_batch *batch);

/* After it has succeeded: a verdict for each, in the order in which they were
 * added. */
int inbox_batch_verdicts(const struct inbox_batch *batch, int32_t *verdicts,
                         struct saga_error *err);

void inbox_batch_clear(struct inbox_batch *batch);

#endif
