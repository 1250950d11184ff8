/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection to Redis: many questions in one piece, their answers within a
 * deadline.
 *
 * hiredis reads the protocol; the socket is ours, because its own calls know no
 * deadline for a whole reply and raise SIGPIPE. After anything but whole, plain
 * answers, as many as were asked for, the connection must not be used again: a
 * late answer would be taken for the next question's.
 */
#ifndef IDEMPOTENCY_GATE_WIRE_H
#define IDEMPOTENCY_GATE_WIRE_H

#include "base/bytes.h"
#include "idempotency/gate.h"

#include <hiredis/hiredis.h>

struct wire {
    int fd; /* -1: not connected */
    redisReader *reader;
    size_t owed;       /* answers that nobody has read so far */
    bool inside_reply; /* the reader has begun with one */
};

bool wire_open(struct wire *wire, const struct gate_address *address, int64_t deadline_ms);
void wire_close(struct wire *wire);

/* Appends a command to what will be sent. */
void wire_command(struct buffer *commands, int argc, const struct saga_bytes *argv);

/* Sends `n` commands. False: the connection is closed. */
bool wire_send(struct wire *wire, const struct buffer *commands, size_t n, int64_t deadline_ms);

/* Gets the i-th of the answers: a status, a string, nil, or an error of the
 * server's; freed by the wire. */
typedef void wire_take(void *user, size_t i, const redisReply *reply);

/* Reads all that is owed. False: no usable answers, also to those that `take`
 * has got by then; the connection is closed. */
bool wire_receive(struct wire *wire, wire_take *take, void *user, int64_t deadline_ms);

#endif
