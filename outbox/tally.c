/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counting.
 */
#include "outbox/tally.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>

enum { US_PER_MS = 1000 };

/* --- writing, on the relay's thread -------------------------------------- */

void
tally_alive(struct tally *tally)
{
    atomic_store_explicit(&tally->alive_us, clock_mono_ms() * US_PER_MS, memory_order_relaxed);
}

void
tally_answered(struct tally *tally)
{
    atomic_store_explicit(&tally->answered_us, clock_mono_ms() * US_PER_MS, memory_order_relaxed);
}

void
tally_waiting(struct tally *tally, int64_t waiting, bool heard)
{
    atomic_store_explicit(&tally->waiting, waiting, memory_order_relaxed);
    if (heard)
        atomic_store_explicit(&tally->silent_since_us, 0, memory_order_relaxed);
    else if (waiting > 0 &&
             atomic_load_explicit(&tally->silent_since_us, memory_order_relaxed) == 0)
        atomic_store_explicit(&tally->silent_since_us, clock_mono_ms() * US_PER_MS,
                              memory_order_relaxed);
}

void
tally_state(struct tally *tally, int32_t state, int64_t epoch)
{
    atomic_store(&tally->epoch, epoch);
    atomic_store(&tally->state, state);
    if (state != SAGA_RELAY_OWNER) {
        atomic_store(&tally->open_since_us, 0);
        tally_waiting(tally, 0, true);
    }
    tally_alive(tally);
}

void
tally_snapshot(struct tally *tally, const char *snapshot)
{
    char *end;
    uint64_t xmin = strtoull(snapshot, &end, 10);
    uint64_t xmax = *end == ':' ? strtoull(end + 1, NULL, 10) : xmin;

    if (xmin == xmax) {
        atomic_store(&tally->open_since_us, 0);
    } else if (xmin != tally->open_xid || atomic_load(&tally->open_since_us) == 0) {
        tally->open_xid = xmin;
        atomic_store(&tally->open_since_us, clock_mono_ms() * US_PER_MS);
    }
}

/* In which of 1, 2, 5, 10, ... 50000, more. */
static int
bucket_of(int64_t value)
{
    static const int8_t steps[] = { 1, 2, 5 };
    int64_t ten = 1;
    int i = 0;

    for (; i < SAGA_RELAY_BUCKETS - 1 && value > ten * steps[i % 3]; i++)
        if (i % 3 == 2)
            ten *= 10;
    return i;
}

static void
spread_add(struct spread *spread, int bucket, int64_t value)
{
    /* Nobody else writes; an addition that is atomic would cost ten times as much. */
    int64_t count = atomic_load_explicit(&spread->counts[bucket], memory_order_relaxed);
    int64_t sum = atomic_load_explicit(&spread->sum, memory_order_relaxed);

    atomic_store_explicit(&spread->counts[bucket], count + 1, memory_order_relaxed);
    atomic_store_explicit(&spread->sum, sum + value, memory_order_relaxed);
}

void
tally_page(struct tally *tally, int64_t rows)
{
    spread_add(&tally->page_rows, bucket_of(rows), rows);
}

void
tally_ack(struct tally *tally, int64_t us)
{
    if (us >= 0)
        spread_add(&tally->ack_us, bucket_of((us + US_PER_MS - 1) / US_PER_MS), us);
}

/* --- reading, on any -------------------------------------------------------- */

static int64_t
us_since(int64_t then_us)
{
    return then_us != 0 ? clock_mono_ms() * US_PER_MS - then_us : 0;
}

static void
spread_read(const struct spread *spread, int64_t *counts, int64_t *sum)
{
    for (int i = 0; i < SAGA_RELAY_BUCKETS; i++)
        counts[i] = atomic_load_explicit(&spread->counts[i], memory_order_relaxed);
    *sum = atomic_load_explicit(&spread->sum, memory_order_relaxed);
}

void
tally_read(const struct tally *tally, struct saga_relay_stats *stats)
{
    struct saga_relay_stats now = { .size = stats->size };

    now.state = atomic_load(&tally->state);
    now.published = atomic_load(&tally->published);
    now.pairs = atomic_load(&tally->pairs);
    now.polls = atomic_load(&tally->polls);
    now.cursor_writes = atomic_load(&tally->cursor_writes);
    now.forced_flushes = atomic_load(&tally->forced_flushes);
    now.acquired = atomic_load(&tally->acquired);
    now.reconnects = atomic_load(&tally->reconnects);
    now.refused = atomic_load(&tally->refused);
    now.producers = atomic_load(&tally->producers);
    now.parked = atomic_load(&tally->parked);
    now.epoch = atomic_load(&tally->epoch);
    now.streams = atomic_load(&tally->streams);
    now.alive_us = atomic_load(&tally->alive_us);
    now.answered_us = atomic_load(&tally->answered_us);
    now.waiting = atomic_load(&tally->waiting);
    now.silent_us = us_since(atomic_load(&tally->silent_since_us));
    now.open_us = us_since(atomic_load(&tally->open_since_us));
    spread_read(&tally->page_rows, now.pages, &now.page_rows);
    spread_read(&tally->ack_us, now.acks, &now.ack_us);
    memcpy(stats, &now, stats->size < sizeof now ? stats->size : sizeof now);
}
