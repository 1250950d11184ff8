/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The outbox's writing side: a message is stored in the same PostgreSQL
 * transaction as the business change that it tells of. A relay (relay.h, or
 * the program outbox-relay) publishes it to Kafka after the commit.
 */
#ifndef SAGA_OUTBOX_H
#define SAGA_OUTBOX_H

#include <saga/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Limits, checked at INSERT, by the C call and the SQL function alike. */
#define SAGA_TOPIC_MAX   249    /* characters: A-Z a-z 0-9 . _ - */
#define SAGA_KEY_MAX     1024   /* bytes */
#define SAGA_HEADERS_MAX 16384  /* bytes, as lines "name: value" in which \n and \ count twice */
#define SAGA_PAYLOAD_MAX 983040 /* bytes, 960 KiB */

/* One message. The struct's size is final; `reserved` must be zero. */
struct saga_message {
    struct saga_uuid id;             /* zero: a version-7 id is made */
    const char *topic;               /* of Kafka */
    const char *key;                 /* NULL: no order is promised */
    struct saga_bytes payload;       /* data NULL: a Kafka tombstone */
    const struct saga_pair *headers; /* NULL: none; a value must not be NULL */
    int64_t deliver_at_us;           /* Unix microseconds; 0: at once. See below */
    uint64_t reserved[8];
};

/*
 * Writes `n` messages to the outbox inside the transaction that is open on
 * `tx`. They are published after that transaction commits, and never if it
 * does not; in the order of the array where they share topic and key.
 *
 * To keep a key's order between transactions, lock a row that stands for the
 * key (the order's row, say) before enqueueing.
 *
 * A message whose `deliver_at_us` lies ahead by the database's clock waits in
 * the database and is published when it is due, within about a second; one that
 * lies behind is published at once. No order is promised between delayed
 * messages and others of their key; delayed ones among themselves are published
 * in the order of `deliver_at_us`, and of the array where that is the same. The
 * limits are checked now. An id that is made for it is one of the time at which
 * it is due: consumers forget ids by the time inside them, so a version-7 id of
 * your own should be that too.
 *
 * The messages are copied; nothing is kept after return. One round trip for
 * any `n`, and it blocks until the server answers. `ids`, if not NULL,
 * receives `n` message ids. `n` may be 0.
 *
 * If `tx` is in pipeline mode the statement is only queued: the caller reads
 * one result more (PGRES_COMMAND_OK), and "no transaction" is then the
 * server's answer (SQLSTATE 25P01) instead of this function's. (A pipeline up
 * to its sync is a transaction even without BEGIN; it is taken for one when a
 * statement before this one has written something.) Cheapest behind the first
 * statement that writes: before it, the server has to find out.
 *
 * Returns 0, or
 *   SAGA_EINVAL  a message is malformed (no topic, a character that topics
 *                must not have, invalid UTF-8, a deliver_at_us before 1970 or
 *                after 9999, `reserved` not zero); err->index tells which. Or
 *                `tx` has a client_encoding other than UTF8. Nothing was written
 *   SAGA_ENOTX   no transaction is open on `tx`. Nothing was written
 *   SAGA_ELIMIT  a message exceeds a size limit; err->index tells which.
 *                Nothing was written
 *   SAGA_ENOMEM  nothing was written
 *   SAGA_ESCHEMA the outbox's schema is missing: run `sagactl migrate up`
 *   SAGA_EDB     the server refused; the caller's transaction is aborted
 */
SAGA_API SAGA_MUSTCHECK int saga_enqueue(PGconn *tx, const struct saga_message *messages, size_t n,
                                         struct saga_uuid *ids, struct saga_error *err);

#ifdef __cplusplus
}
#endif
#endif
