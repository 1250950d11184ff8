/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ranges of acknowledged messages.
 */
#include "outbox/range.h"

#include <stdlib.h>
#include <string.h>

enum {
    /* Rows from below the floor come in between those of older ranges. Each has
     * a range of its own, lest it covers what others have consumed already; but
     * not more of them than this at a time, after a transaction that wrote many. */
    LATE_MAX = 256
};

static bool
is_of(const struct range *range, const char *topic, int32_t partition, bool late)
{
    return range->partition == partition && range->late == late && strcmp(range->topic, topic) == 0;
}

/* Answers come partition by partition: mostly it is the one of the last time. */
static struct range *
find(struct ranges *ranges, const char *topic, int32_t partition, bool late)
{
    if (ranges->last < ranges->n && is_of(&ranges->all[ranges->last], topic, partition, late))
        return &ranges->all[ranges->last];
    for (size_t i = 0; i < ranges->n; i++) {
        if (is_of(&ranges->all[i], topic, partition, late)) {
            ranges->last = i;
            return &ranges->all[i];
        }
    }
    return NULL;
}

/* An empty one. NULL: out of memory. */
static struct range *
add(struct ranges *ranges, const char *topic, int32_t partition, bool late)
{
    char *copy = strdup(topic);

    if (copy != NULL && ranges->n == ranges->capacity) {
        size_t capacity = ranges->capacity > 0 ? ranges->capacity * 2 : 16;
        struct range *grown = realloc(ranges->all, capacity * sizeof *grown);

        if (grown != NULL) {
            ranges->all = grown;
            ranges->capacity = capacity;
        }
    }
    if (copy == NULL || ranges->n == ranges->capacity) {
        free(copy);
        ranges->failed = true;
        return NULL;
    }
    ranges->n_late += late;
    ranges->last = ranges->n;
    ranges->all[ranges->n] =
        (struct range){ .topic = copy, .partition = partition, .late = late, .stored = true };
    return &ranges->all[ranges->n++];
}

static void
begin(struct range *range, int64_t seq, int64_t offset, int64_t now_ms)
{
    range->first_seq = range->last_seq = seq;
    range->first_offset = range->last_offset = offset;
    range->begun_ms = now_ms;
}

static void
extend(struct range *range, int64_t seq, int64_t offset)
{
    if (seq < range->first_seq)
        range->first_seq = seq;
    if (seq > range->last_seq)
        range->last_seq = seq;
    if (offset < range->first_offset)
        range->first_offset = offset;
    if (offset > range->last_offset)
        range->last_offset = offset;
}

static void
count(struct ranges *ranges, const char *topic, int32_t partition, int64_t offset, int64_t seq,
      int64_t now_ms)
{
    bool late = seq <= *ranges->floor_seq;
    struct range *range = NULL;
    bool fresh;

    if (offset < 0)
        offset = INT64_MAX; /* nobody will ever have committed that far */
    if (!late || ranges->n_late >= LATE_MAX)
        range = find(ranges, topic, partition, late);
    fresh = range == NULL;
    if (fresh)
        range = add(ranges, topic, partition, late);
    if (range == NULL)
        return;
    /* One that lies in the table under this first_seq may only grow. */
    if (fresh ||
        (range->stored && (now_ms - range->begun_ms >= RANGE_MS || seq < range->first_seq)))
        begin(range, seq, offset, now_ms);
    else
        extend(range, seq, offset);
    range->stored = false;
}

static void
keep(struct ranges *ranges, const struct note *note)
{
    if (ranges->n_notes == ranges->notes_capacity) {
        size_t capacity = ranges->notes_capacity > 0 ? ranges->notes_capacity * 2 : 256;
        struct note *grown = realloc(ranges->notes, capacity * sizeof *grown);

        if (grown == NULL) {
            ranges->failed = true;
            return;
        }
        ranges->notes = grown;
        ranges->notes_capacity = capacity;
    }
    ranges->notes[ranges->n_notes++] = *note;
}

void
ranges_note(struct ranges *ranges, const char *topic, int32_t partition, int64_t offset,
            int64_t seq, int64_t now_ms)
{
    if (ranges->transactional)
        keep(ranges, &(struct note){ topic, partition, offset, seq });
    else
        count(ranges, topic, partition, offset, seq, now_ms);
}

void
ranges_commit(struct ranges *ranges, int64_t now_ms)
{
    for (size_t i = 0; i < ranges->n_notes; i++) {
        const struct note *note = &ranges->notes[i];

        count(ranges, note->topic, note->partition, note->offset, note->seq, now_ms);
    }
    ranges->n_notes = 0;
}

void
ranges_abort(struct ranges *ranges)
{
    ranges->n_notes = 0;
}

bool
ranges_pending(const struct ranges *ranges)
{
    for (size_t i = 0; i < ranges->n; i++)
        if (!ranges->all[i].stored)
            return true;
    return ranges->failed;
}

void
range_columns_init(struct range_columns *columns, const struct ranges *ranges)
{
    pg_array_init(&columns->topics, PG_OID_TEXT_ARRAY);
    pg_array_init(&columns->partitions, PG_OID_INT4_ARRAY);
    pg_array_init(&columns->first_seqs, PG_OID_INT8_ARRAY);
    pg_array_init(&columns->last_seqs, PG_OID_INT8_ARRAY);
    pg_array_init(&columns->first_offsets, PG_OID_INT8_ARRAY);
    pg_array_init(&columns->last_offsets, PG_OID_INT8_ARRAY);
    for (size_t i = 0; i < ranges->n; i++) {
        const struct range *range = &ranges->all[i];

        if (range->stored)
            continue;
        pg_array_add_text(&columns->topics, range->topic);
        pg_array_add_int4(&columns->partitions, range->partition);
        pg_array_add_int8(&columns->first_seqs, range->first_seq);
        pg_array_add_int8(&columns->last_seqs, range->last_seq);
        pg_array_add_int8(&columns->first_offsets, range->first_offset);
        pg_array_add_int8(&columns->last_offsets, range->last_offset);
    }
}

void
range_columns_clear(struct range_columns *columns)
{
    pg_array_clear(&columns->topics);
    pg_array_clear(&columns->partitions);
    pg_array_clear(&columns->first_seqs);
    pg_array_clear(&columns->last_seqs);
    pg_array_clear(&columns->first_offsets);
    pg_array_clear(&columns->last_offsets);
}

/* Those of late rows are complete; the others may grow for a while. */
void
ranges_stored(struct ranges *ranges)
{
    size_t kept = 0;

    for (size_t i = 0; i < ranges->n; i++) {
        if (ranges->all[i].late) {
            free(ranges->all[i].topic);
            continue;
        }
        ranges->all[i].stored = true;
        ranges->all[kept++] = ranges->all[i];
    }
    ranges->n = kept;
    ranges->n_late = 0;
}

void
ranges_clear(struct ranges *ranges)
{
    for (size_t i = 0; i < ranges->n; i++)
        free(ranges->all[i].topic);
    free(ranges->all);
    free(ranges->notes);
    *ranges = (struct ranges){ .wanted = ranges->wanted,
                               .transactional = ranges->transactional,
                               .floor_seq = ranges->floor_seq };
}
