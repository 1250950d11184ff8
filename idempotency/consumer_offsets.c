/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a partition is read from, and how far it is finished. Pure.
 */
#include "idempotency/consumer_offsets.h"

#include <string.h>

struct offsets_start
offsets_start(int64_t kafka, int64_t postgres)
{
    /* Without an offset in Kafka the group is new there, or was reset by
     * somebody who wants it all again: the inbox removes what it knows. Behind
     * PostgreSQL is normal too (Kafka's commit is the later one). */
    if (kafka <= 0 || postgres >= kafka)
        return (struct offsets_start){ kafka < 0 ? OFFSET_NONE : kafka, 0 };
    /* Kafka's offset moves only after PostgreSQL's, so the database was further
     * once and has come back without its last commits, or without any. (Or
     * only marks in Redis have moved Kafka's: that costs a reading.) */
    return (struct offsets_start){ postgres, kafka };
}

void
offsets_reset(struct offsets_prefix *prefix)
{
    *prefix = (struct offsets_prefix){ .next = OFFSET_NONE };
}

bool
offsets_take(struct offsets_prefix *prefix, int64_t offset)
{
    int32_t n = prefix->n;

    if (n == OFFSETS_OPEN_MAX || offset < prefix->next ||
        (n > 0 && offset <= prefix->taken[n - 1].offset))
        return false;
    prefix->taken[n].offset = offset;
    prefix->taken[n].finished = false;
    prefix->n++;
    return true;
}

static bool
mark_finished(struct offsets_prefix *prefix, int64_t offset)
{
    for (int32_t i = 0; i < prefix->n; i++)
        if (prefix->taken[i].offset == offset) {
            prefix->taken[i].finished = true;
            return true;
        }
    return false;
}

bool
offsets_finish(struct offsets_prefix *prefix, int64_t offset)
{
    int32_t settled = 0;

    if (!mark_finished(prefix, offset))
        return false;
    while (settled < prefix->n && prefix->taken[settled].finished)
        settled++;
    if (settled == 0)
        return false;
    prefix->next = prefix->taken[settled - 1].offset + 1;
    prefix->n -= settled;
    memmove(prefix->taken, prefix->taken + settled, (size_t)prefix->n * sizeof prefix->taken[0]);
    return true;
}
