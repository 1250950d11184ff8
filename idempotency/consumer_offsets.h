/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a partition is read from, and how far it is finished.
 */
#ifndef IDEMPOTENCY_CONSUMER_OFFSETS_H
#define IDEMPOTENCY_CONSUMER_OFFSETS_H

#include <stdbool.h>
#include <stdint.h>

enum { OFFSET_NONE = -1 };

/* Where to begin: OFFSET_NONE is the beginning of what Kafka still has. */
struct offsets_start {
    int64_t from;
    /* Below it the database may have lost what it had: a mark in Redis says
     * nothing about these. 0: nothing is known to be lost. */
    int64_t distrust_below;
};

/* From the group's offset in Kafka and the one in PostgreSQL; OFFSET_NONE
 * stands for "there is none". */
struct offsets_start offsets_start(int64_t kafka, int64_t postgres);

/*
 * The finished prefix of a partition: messages are taken in the order of their
 * offsets and may finish in any; gaps (compaction, transactions' markers)
 * are not waited for. Zero is not a valid one.
 */
enum { OFFSETS_OPEN_MAX = 64 };

struct offsets_prefix {
    int64_t next; /* to be stored; OFFSET_NONE: nothing has finished yet */
    int32_t n;    /* taken, from the first one that is not finished */
    struct {
        int64_t offset;
        bool finished;
    } taken[OFFSETS_OPEN_MAX];
};

void offsets_reset(struct offsets_prefix *prefix);

/* False: too many are open, or the offset is not above the last one taken. */
bool offsets_take(struct offsets_prefix *prefix, int64_t offset);

/* True: `next` has moved. False: an earlier one is open, or it was not taken. */
bool offsets_finish(struct offsets_prefix *prefix, int64_t offset);

#endif
