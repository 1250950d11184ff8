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
    int64_t timestamp_us; /* Unix microseconds, as the broker says; 0: it was parked */
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
 * The row stays only if the transaction commits, together with the effect. That
 * commit is on disk when it is answered, whatever synchronous_commit was before.
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

/*
 * The guard: the same for whatever else may be asked twice and brings a key of
 * its own, such as an HTTP request with an Idempotency-Key, or a cron job.
 * The key is entered, the effect is written, the response is stored, all in one
 * transaction; a repetition gets the stored response. Its key is remembered for
 * seven days, or as idempotency.keep('guard', ...) says; after that it is new, and
 * the request is carried out again. Consumers forget what is older; where none
 * runs, call the SQL function idempotency.clean_up() now and then.
 */
enum {
    SAGA_GUARD_FRESH = 0,    /* carry it out, then saga_guard_answer(), then commit */
    SAGA_GUARD_ANSWERED = 1, /* carried out already: respond as it is stored */
    SAGA_GUARD_OTHER = 2,    /* the key was used for another request: refuse */
    SAGA_GUARD_BUSY = 3      /* somebody is at it and has not ended: let the client come again */
};

enum { SAGA_GUARD_NAME_MAX = 255 }; /* bytes */

struct saga_guard {
    const char *scope; /* what the keys belong to: the endpoint and its client; not empty */
    const char *key;   /* not empty */
    struct saga_bytes fingerprint; /* a hash of the request, or the request itself */
    int32_t wait_ms;               /* for a transaction that is at it; 0: 5000 */
    int32_t reserved0;
    uint64_t reserved[4];
};

struct saga_response {
    int32_t status; /* the caller's; an HTTP status, for instance */
    int32_t reserved0;
    struct saga_bytes body;
    uint64_t reserved[4];
};

/*
 * Enters `guard` in the transaction open on `tx`; its key is taken only if that
 * commits. `verdict` receives SAGA_GUARD_*. With SAGA_GUARD_ANSWERED `stored`
 * receives the response; free() its body.data when done (NULL where none was
 * stored; otherwise a NUL stands behind it). With the other verdicts it is zero.
 * Whatever the verdict is, the transaction goes on.
 *
 * Use READ COMMITTED: in stricter levels a concurrent repetition ends as
 * SAGA_EDB with sqlstate 40001; roll back and call again.
 *
 * Returns 0, or
 *   SAGA_EINVAL  no scope, no key, or `tx` is in pipeline mode
 *   SAGA_ELIMIT  scope or key is longer than SAGA_GUARD_NAME_MAX; a client's key that may be so
 *                long is best refused, as a bad request. The transaction goes on
 *   SAGA_ENOTX   no transaction is open on `tx`
 *   SAGA_ENOMEM
 *   SAGA_ESCHEMA the schema is missing: run `sagactl migrate up`
 *   SAGA_EDB     the server refused; the caller's transaction is aborted
 */
SAGA_API SAGA_MUSTCHECK int saga_guard_enter(PGconn *tx, const struct saga_guard *guard,
                                             int32_t *verdict, struct saga_response *stored,
                                             struct saga_error *err);

/*
 * Stores what a request is answered with, in the transaction that found it
 * fresh. Send it only after that transaction has committed.
 *
 * Returns as saga_guard_enter(); SAGA_EDB with sqlstate 55000 also if this
 * transaction has not entered it.
 */
SAGA_API SAGA_MUSTCHECK int saga_guard_answer(PGconn *tx, const struct saga_guard *guard,
                                              const struct saga_response *response,
                                              struct saga_error *err);

#ifdef __cplusplus
}
#endif
#endif
