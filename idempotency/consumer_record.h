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
#include <openssl/evp.h>
#include <saga/inbox.h>

struct incoming {
    struct saga_record public; /* borrows from the message and from below */
    const char *flaw;          /* NULL: it can be handled; else the reason */
    uint8_t hash[32];
    char hash_text[65];
    struct buffer raw;       /* the headers, all of them; its memory stays for the next message */
    struct saga_pair *pairs; /* those that are texts, or NULL so far; they point into `raw` */
};

/* SHA-256, made ready once for many messages; freed by EVP_MD_CTX_free(). NULL:
 * out of memory. */
EVP_MD_CTX *record_digest(void);

/* Id, hash and a copy of the headers, which are taken from the message. `message` must outlive the
 * record. SAGA_ENOMEM, or 0 also with a flaw. A record that is all zero can be read into, and
 * one that was cleared. */
int record_read(struct incoming *record, rd_kafka_message_t *message, EVP_MD_CTX *digest,
                struct saga_error *err);
/* The headers as texts, for a handler; a second time it does nothing. */
int record_read_headers(struct incoming *record, struct saga_error *err);
void record_clear(struct incoming *record); /* its memory stays, for the next message */
void record_free(struct incoming *record);

/* All headers for the quarantine, nothing left out: see the column's comment. */
int record_headers(const struct incoming *record, struct pg_array *into, struct saga_error *err);

#endif
