/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a partition is read from.
 */
#ifndef IDEMPOTENCY_CONSUMER_OFFSETS_H
#define IDEMPOTENCY_CONSUMER_OFFSETS_H

#include "idempotency/hand.h"

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

#endif
