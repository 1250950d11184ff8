/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gate from the inside: what gate.c and gate_questions.c share.
 */
#ifndef IDEMPOTENCY_GATE_STATE_H
#define IDEMPOTENCY_GATE_STATE_H

#include "idempotency/gate.h"
#include "idempotency/gate_wire.h"

struct gate {
    struct gate_address address;
    struct wire wire;
    const struct saga_log *log;
    const char *without; /* what is said when Redis is of no use */
    char token[GATE_TOKEN_LEN + 1], busy[5 + GATE_TOKEN_LEN + 1];
    char lease[16], window[16]; /* milliseconds, as the command wants them */
    int32_t timeout_ms;
    bool no_set_get;  /* older than Redis 7: SET cannot NX and GET at once */
    int32_t failures; /* without a success since */
    int64_t outages;  /* in all */
    int64_t retry_at_ms;
    int64_t log_at_ms;      /* not before */
    int32_t unlogged;       /* outages since */
    bool outage_logged;     /* the present one was; so its end will be */
    struct buffer commands; /* being made */
    int64_t answer_by_ms;   /* to gate_ask(); 0: it was not asked */
    char name[GATE_NAME_MAX];
};

/* What the server refuses (out of memory, read only, loading) is a failure like
 * silence; only the connection can go on being used. */
struct hearing {
    wire_take *take; /* NULL: nothing but errors matters */
    void *user;
    char error[64]; /* the last one; empty: none */
    bool too_new;   /* that was: it does not know the command like that */
};

/* Connected, and with nothing owed. False: not now. */
bool gate_ready(struct gate *gate, int64_t deadline_ms);

/* Sends gate->commands: `n` of them, or one that an array answers (see
 * wire_send()). */
bool gate_send(struct gate *gate, size_t n, size_t elements, int64_t deadline_ms);

/* Hears what is answered. False: nothing that was heard counts. True, also with an
 * error. */
bool gate_receive(struct gate *gate, struct hearing *hearing, int64_t deadline_ms);

#endif
