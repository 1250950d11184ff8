/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection to Redis, and one question at a time within a deadline.
 *
 * hiredis writes and reads the protocol; the socket is ours, because its own
 * calls know no deadline for a whole reply and raise SIGPIPE. After anything
 * but a whole, plain answer the connection must not be used again: a late
 * answer would be taken for the next question's.
 */
#ifndef IDEMPOTENCY_GATE_WIRE_H
#define IDEMPOTENCY_GATE_WIRE_H

#include "idempotency/gate.h"

#include <hiredis/hiredis.h>

struct wire {
    int fd; /* -1: not connected */
    redisReader *reader;
};

bool wire_open(struct wire *wire, const struct gate_address *address, int64_t deadline_ms);
void wire_close(struct wire *wire);

/* NULL: no usable answer; then the connection is closed. Else the caller frees
 * the reply: a status, a string, nil, or an error of the server's. */
redisReply *wire_ask(struct wire *wire, int argc, const char **argv, int64_t deadline_ms);

#endif
