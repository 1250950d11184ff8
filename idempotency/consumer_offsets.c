/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a partition is read from. Pure.
 */
#include "idempotency/consumer_offsets.h"

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
