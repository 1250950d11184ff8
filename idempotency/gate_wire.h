/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection to Redis: many questions in one piece, their answers within a
 * deadline.
 *
 * hiredis reads the protocol; the socket is ours, because its own calls know no
 * deadline for a whole reply and raise SIGPIPE; so are the answers, of which it
 * would allocate each, and as many as the server says. After anything but whole, plain
 * answers, as many as were asked for, the connection must not be used again: a
 * late answer would be taken for the next question's.
 */
#ifndef IDEMPOTENCY_GATE_WIRE_H
#define IDEMPOTENCY_GATE_WIRE_H

#include "base/bytes.h"
#include "idempotency/gate.h"

#include <hiredis/hiredis.h>

/* An answer: a status, a string, nil, or an error of the server's. */
struct wire_answer {
    int type;         /* REDIS_REPLY_... */
    const char *text; /* no NUL behind it */
    size_t len;
};

/* Gets the i-th of the answers. An array's elements are answers of their own;
 * where an error came in its place there is only that. */
typedef void wire_take(void *user, size_t i, const struct wire_answer *answer);

struct wire {
    int fd; /* -1: not connected */
    redisReader *reader;
    size_t owed;       /* replies that nobody has read so far */
    size_t elements;   /* what is owed is one array of so many answers; 0: it is none */
    bool inside_reply; /* the reader has begun with one */

    wire_take *take; /* while answers are received */
    void *user;
    size_t taken;
};

bool wire_open(struct wire *wire, const struct gate_address *address, int64_t deadline_ms);
void wire_close(struct wire *wire);

/* Appends a command to what will be sent. */
void wire_command(struct buffer *commands, int argc, const struct saga_bytes *argv);

/* Sends `n` commands; or, with `elements`, one that is answered by an array of so
 * many, while nothing is owed. False: the connection is closed. */
bool wire_send(struct wire *wire, const struct buffer *commands, size_t n, size_t elements,
               int64_t deadline_ms);

/* Reads all that is owed. False: no usable answers, also to those that `take`
 * has got by then; the connection is closed. */
bool wire_receive(struct wire *wire, wire_take *take, void *user, int64_t deadline_ms);

#endif
