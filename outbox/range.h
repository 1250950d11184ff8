/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where in Kafka acknowledged messages lie: per topic and partition a range of
 * seqs and one of offsets.
 *
 * Owns the rule that makes a claim from ranges safe: a range may cover messages
 * that are not in it, but every acknowledged message is in one that is stored
 * no later than the cursor passes it. Knows nothing of Kafka's client, and
 * decides nothing about what is published.
 */
#ifndef OUTBOX_RANGE_H
#define OUTBOX_RANGE_H

#include "base/pg.h"

struct range {
    char *topic;
    int32_t partition;
    int64_t first_seq, last_seq, first_offset, last_offset;
    int64_t begun_ms; /* by clock_mono_ms() */
    bool late;        /* holds rows from below the floor */
    bool stored;      /* as it is */
};

/* An acknowledgement whose transaction is not committed yet. */
struct note {
    const char *topic;
    int32_t partition;
    int64_t offset, seq;
};

struct ranges {
    bool wanted;              /* else nothing is kept */
    bool transactional;       /* what is noted counts from ranges_commit() on */
    const int64_t *floor_seq; /* of the pair that is being published */
    struct range *all;
    size_t n, capacity, last; /* `last`: the one that was noted last */
    size_t n_late;
    struct note *notes;
    size_t n_notes, notes_capacity;
    bool failed; /* out of memory: one is missing, and the cursor must not move */
};

/* A range grows for so long. The view outbox.local_messages trusts it after twice
 * the time, so that what has been consumed does not stop being so. */
enum { RANGE_MS = 500 };

/* A message was acknowledged; `offset` below 0: Kafka did not tell. Where it is
 * transactional, `topic` must stay until one of the next two. */
void ranges_note(struct ranges *ranges, const char *topic, int32_t partition, int64_t offset,
                 int64_t seq, int64_t now_ms);

/* The transaction of all that were noted since is committed; or never will be,
 * so that they lie elsewhere or nowhere. */
void ranges_commit(struct ranges *ranges, int64_t now_ms);
void ranges_abort(struct ranges *ranges);

/* Whether something must be stored before, or together with, the cursor. */
bool ranges_pending(const struct ranges *ranges);

/* The columns of what has to be stored. */
struct range_columns {
    struct pg_array topics, partitions, first_seqs, last_seqs, first_offsets, last_offsets;
};
void range_columns_init(struct range_columns *columns, const struct ranges *ranges);
void range_columns_clear(struct range_columns *columns);

/* They are stored. */
void ranges_stored(struct ranges *ranges);

void ranges_clear(struct ranges *ranges); /* keeps what its user has set */

#endif
