/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inbox: a unique row for each message and consumer, written in the same
 * transaction as the message's effect. It is the truth about "was this
 * applied already?"; everything else (Redis marks, Kafka offsets) only makes
 * asking cheaper.
 */
#ifndef SAGA_INBOX_H
#define SAGA_INBOX_H

#include <saga/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A message as it was received. Everything in it is borrowed. */
struct saga_record {
    struct saga_uuid id; /* its message-id header */
    const char *topic;
    int32_t partition;
    int32_t reserved0;
    int64_t offset;
    int64_t timestamp_us; /* Unix microseconds, as the broker says */
    struct saga_bytes key, payload;
    const struct saga_pair *headers; /* texts; ends with NULL name */
    struct saga_bytes hash;          /* what must be equal when the id comes again */
    uint64_t reserved[8];
};

/* What saga_inbox_enter() found. */
enum {
    SAGA_INBOX_NEW = 0,       /* the row is written: do the work */
    SAGA_INBOX_DUPLICATE = 1, /* applied already: do nothing */
    SAGA_INBOX_CONFLICT = 2,  /* same id, other contents: never apply it */
    SAGA_INBOX_BELOW = 3,     /* its id is so old that it is not known whether it was applied */
    SAGA_INBOX_FUTURE = 4     /* its id is of later than tomorrow: never apply it */
};

/*
 * Enters `record` for `consumer` in the transaction open on `tx`. If another
 * transaction has entered the same message and is still open, this waits for
 * its end: then it is a duplicate, or, if that one rolled back, new.
 *
 * The row stays only if the transaction commits, together with the effect.
 * `verdict` receives SAGA_INBOX_*. Nothing is kept after return.
 *
 * Use READ COMMITTED: in stricter levels a concurrent duplicate ends as
 * SAGA_EDB with sqlstate 40001; roll back and call again.
 *
 * Returns 0, or
 *   SAGA_EINVAL  no consumer, no id, no topic, or `tx` is in pipeline mode
 *   SAGA_ENOTX   no transaction is open on `tx`
 *   SAGA_ESCHEMA the schema is missing: run `sagactl migrate up`
 *   SAGA_EDB     the server refused; the caller's transaction is aborted
 */
SAGA_API SAGA_MUSTCHECK int saga_inbox_enter(PGconn *tx, const char *consumer,
                                             const struct saga_record *record, int32_t *verdict,
                                             struct saga_error *err);

#ifdef __cplusplus
}
#endif
#endif
