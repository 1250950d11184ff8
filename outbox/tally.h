/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a relay counts, and what it is doing, for other threads to read.
 *
 * Owns the counters and their two distributions; any thread may read them while
 * one writes. Decides nothing.
 */
#ifndef OUTBOX_TALLY_H
#define OUTBOX_TALLY_H

#include <saga/relay.h>

#include <stdatomic.h>
#include <stdbool.h>

/* How values are spread: counts for 1, 2, 5, 10, ... 50000, and beyond. */
struct spread {
    _Atomic int64_t counts[SAGA_RELAY_BUCKETS], sum;
};

struct tally {
    _Atomic int64_t published, pairs, polls, cursor_writes, forced_flushes, acquired, reconnects,
        refused, producers, parked;
    _Atomic int32_t state; /* SAGA_RELAY_CONNECTING, ... */
    _Atomic int32_t streams;
    _Atomic int64_t epoch, alive_us, answered_us;
    _Atomic int64_t waiting, silent_since_us;
    _Atomic int64_t open_since_us; /* 0: no transaction is open */
    uint64_t open_xid;             /* the oldest one; the relay's thread only */
    struct spread page_rows, ack_us;
};

/* The relay has come round: it does not hang. */
void tally_alive(struct tally *tally);

/* PostgreSQL has answered. */
void tally_answered(struct tally *tally);

/* `waiting` messages are with librdkafka; `heard`: Kafka has acknowledged some
 * since the last time, or there were none left. */
void tally_waiting(struct tally *tally, int64_t waiting, bool heard);

void tally_state(struct tally *tally, int32_t state, int64_t epoch);

/* Takes note of the oldest transaction that the snapshot "xmin:xmax:..." shows
 * open. How long it has been open is known from when it was first seen. */
void tally_snapshot(struct tally *tally, const char *snapshot);

void tally_page(struct tally *tally, int64_t rows);
void tally_ack(struct tally *tally, int64_t us);

/* What saga_relay_stats() says. */
void tally_read(const struct tally *tally, struct saga_relay_stats *stats);

#endif
