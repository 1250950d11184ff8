/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gate in front of the database: a mark in Redis for each message, which
 * says "busy" (somebody is at it) or "done" (it was committed).
 *
 * Only a hint. It may suppress a message only by a mark "done" that was
 * written after a COMMIT, for the same database and with the same hash;
 * everything else, silence and nonsense included, means: go on, the inbox
 * will tell. Marks always expire and are never deleted.
 */
#ifndef IDEMPOTENCY_GATE_H
#define IDEMPOTENCY_GATE_H

#include "base/error.h"
#include "base/log.h"

#include <stdbool.h>

enum gate_verdict {
    GATE_GO,   /* go on to the inbox */
    GATE_SKIP, /* done before, with the same hash */
    GATE_BUSY  /* another one is at it: wait a little, then go on all the same */
};

/* The longest mark: "done:" and a SHA-256 in hexadecimal, or "busy:" and a token. */
enum { GATE_TOKEN_LEN = 16, GATE_HASH_LEN = 64, GATE_NAME_MAX = 512 };

/*
 * The decision. `found` is what the mark said before this question (`len`
 * bytes; NULL: nothing, or no answer came). Our own token is a question of ours
 * whose answer was lost.
 */
enum gate_verdict gate_decide(const char *found, size_t len, const char *token, const char *hash);

/* host:port or a socket's path, taken apart. */
struct gate_address {
    char host[256]; /* or the path, then port is 0 */
    int port;
};

/* SAGA_EINVAL: not an address; or not this host's, and `remote` is false. */
int gate_parse(struct gate_address *address, const char *text, bool remote, struct saga_error *err);

struct gate_options {
    const char *address;
    bool remote;        /* another host's Redis is wanted, in clear text */
    int32_t timeout_ms; /* for one round trip, connecting included */
    int32_t lease_ms, window_ms;
    const char *without;        /* Redis is of no use: what follows; must outlive the gate */
    const struct saga_log *log; /* the same */
};

struct gate;

/* Connects to nothing yet. */
int gate_new(struct gate **gate, const struct gate_options *options, struct saga_error *err);
void gate_free(struct gate *gate); /* NULL is allowed */

/* One message's mark, whose name is `prefix` and `suffix`. */
struct gate_question {
    char suffix[37];
    const char *hash;          /* GATE_HASH_LEN digits */
    enum gate_verdict verdict; /* the answer */
    bool absent;               /* there was no mark */
    bool leased;               /* the mark says "busy" and is ours; meaningless after a failure */
};

/* So many questions at most in one call. */
enum { GATE_MANY = 1000 };

/*
 * Asks for `n` marks, whose suffixes are of one length; and hears the answers,
 * before anything else is asked of the gate. Both together wait at most timeout_ms,
 * or not at all while the circuit is open, which it is for a while after each
 * failure.
 */
void gate_ask(struct gate *gate, const char *prefix, struct gate_question *questions, size_t n);
void gate_hear(struct gate *gate, struct gate_question *questions, size_t n);

/* Asks for one mark, and where there is none writes it: "busy". Blocks as
 * gate_ask(). */
void gate_enter(struct gate *gate, const char *prefix, struct gate_question *question);

enum gate_lease {
    GATE_LEASE_OURS,   /* it lives for another lease_ms */
    GATE_LEASE_LOST,   /* it has expired, and somebody else may have been at it since */
    GATE_LEASE_UNKNOWN /* Redis did not say */
};

/* Prolongs the mark "busy" if it is still ours; never makes a new one. Blocks as
 * gate_ask(). */
enum gate_lease gate_prolong(struct gate *gate, const char *prefix,
                             const struct gate_question *question);

/* After the COMMIT: "done" for window_ms. Best effort, and does not wait for the
 * answer. */
void gate_done(struct gate *gate, const char *prefix, const struct gate_question *questions,
               size_t n);

/* Waits for the answers to gate_done(), at most timeout_ms. */
void gate_settle(struct gate *gate);

enum gate_circuit {
    GATE_CLOSED,   /* Redis answers */
    GATE_OPEN,     /* it did not; it is not asked */
    GATE_HALF_OPEN /* it did not; the next question will show */
};
enum gate_circuit gate_circuit(const struct gate *gate);
/* How often it has opened after it was closed. */
int64_t gate_outages(const struct gate *gate);

#endif
