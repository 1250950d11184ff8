/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The window of messages handed to the broker and not yet acknowledged, and of
 * those among them that are to be parked instead.
 *
 * Owns the order in which acknowledgements may move the cursor: only over a
 * prefix without holes. Knows nothing of Kafka or PostgreSQL; the sink calls
 * window_ack() and the relay asks window_settle().
 */
#ifndef OUTBOX_WINDOW_H
#define OUTBOX_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct window {
    struct window_entry *entries; /* a ring; its size is a power of two */
    size_t capacity;
    uint64_t first, next; /* positions: the oldest unsettled one, the next to be given */
};

struct window_entry {
    int64_t seq;
    bool acked, parked;
};

/* Zero is a valid empty window. */
void window_clear(struct window *window);

/* Forgets all entries; positions given out before must not be acked any more. */
void window_reset(struct window *window);

/* Adds a message behind the others. False: out of memory. */
bool window_push(struct window *window, int64_t seq, uint64_t *position);

/* The same for one that nobody need acknowledge: it is to be parked. */
bool window_push_parked(struct window *window, int64_t seq);

/* Takes the youngest back; it was not handed over after all. */
void window_pop(struct window *window);

int64_t window_seq(const struct window *window, uint64_t position);
void window_ack(struct window *window, uint64_t position);

/* Removes the acknowledged prefix. Returns how many messages that were; if not
 * 0, `seq` is that of the last. `parked` of them are to be parked. */
size_t window_settle(struct window *window, int64_t *seq, size_t *parked);

size_t window_open(const struct window *window); /* messages in it */

#endif
