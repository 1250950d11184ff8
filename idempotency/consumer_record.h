/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A Kafka message, read as a record: id, hash, headers as texts; or the reason
 * why it is none.
 */
#ifndef IDEMPOTENCY_CONSUMER_RECORD_H
#define IDEMPOTENCY_CONSUMER_RECORD_H

#include "base/bytes.h"
#include "base/pg.h"

#include <librdkafka/rdkafka.h>
#include <saga/inbox.h>

struct incoming {
    struct saga_record public; /* borrows from the message and from below */
    const char *flaw;          /* NULL: it can be handled; else the reason */
    uint8_t hash[32];
    char hash_text[65];
    struct buffer texts; /* what `pairs` points into */
    struct saga_pair *pairs;
};

/* `message` must outlive the record. SAGA_ENOMEM, or 0 also with a flaw. */
int record_read(struct incoming *record, const rd_kafka_message_t *message, struct saga_error *err);
void record_clear(struct incoming *record);

/* All headers for the quarantine, nothing left out: see the column's comment. */
int record_headers(const rd_kafka_message_t *message, struct pg_array *into,
                   struct saga_error *err);

#endif
