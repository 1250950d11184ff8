/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which messages have been applied before, as far as that shows without a
 * transaction: by their marks in Redis; and in the midst of duplicates by the
 * inbox, which is looked at from outside then.
 *
 * A row that is seen there is committed, and so is the effect. That no offset is
 * written with it is no loss: PostgreSQL's is moved later, with the next batch or without
 * (batch_catch_up()), and until then what was seen is seen again after a restart.
 */
#include "base/crash.h"
#include "idempotency/consumer_state.h"
#include "idempotency/sql.h"

#include <stdlib.h>
#include <string.h>

/* Somebody waits for an answer to each message; or this very one may be committed, and
 * counts as applied then. */
static bool
may_be_seen(const struct taken *taken)
{
    return taken->item.state == HAND_READY && !taken->partition->route->answers &&
           taken->record.flaw == NULL && !taken->unknown;
}

static size_t
take_unasked(struct saga_consumer *consumer, struct taken **unasked)
{
    size_t n = 0;

    for (struct partition *at = consumer->partitions; at != NULL; at = at->next)
        for (; at->unasked != NULL && n < GATE_MANY; at->unasked = at->unasked->next) {
            struct taken *taken = (struct taken *)at->unasked;

            if (may_be_seen(taken))
                unasked[n++] = taken;
        }
    return n;
}

/* --- the inbox ------------------------------------------------------------------- */

static int
compare(const void *a, const void *b)
{
    const struct taken *const *left = a, *const *right = b;

    return memcmp(&(*left)->record.public.id, &(*right)->record.public.id,
                  sizeof(struct saga_uuid));
}

static bool
is_same(const struct taken *a, const struct taken *b)
{
    return compare(&a, &b) == 0 &&
           memcmp(a->record.hash, b->record.hash, sizeof a->record.hash) == 0;
}

/* A producer's ids mostly come in order. */
static void
sort_by_id(struct taken **taken, size_t n)
{
    for (size_t i = 1; i < n; i++)
        if (compare(&taken[i - 1], &taken[i]) > 0) {
            qsort(taken, n, sizeof(struct taken *), compare);
            return;
        }
}

/* The answer has the hashes in the order of their ids: only if all are known, as what they
 * are, it is what was expected. */
static int
are_known(struct saga_consumer *consumer, struct taken *const *taken, size_t n, bool *known,
          struct saga_error *err)
{
    struct pg_rows rows = PG_ROWS_INIT;
    struct pg_array ids, hashes;
    struct pg_arg args[2], expected;
    struct pg_statement statement = {
        .sql = SQL_INBOX_KNOWN, .args = args, .n_args = 2, .rows = &rows
    };
    struct saga_bytes found;
    int rc;

    pg_array_init(&ids, PG_OID_UUID_ARRAY);
    pg_array_init(&hashes, PG_OID_BYTEA_ARRAY);
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && is_same(taken[i - 1], taken[i]))
            continue;
        pg_array_add(&ids, &taken[i]->record.public.id, sizeof(struct saga_uuid));
        pg_array_add(&hashes, taken[i]->record.hash, sizeof taken[i]->record.hash);
    }
    args[0] = PG_TEXT(consumer->options.group);
    args[1] = PG_ARRAY(&ids);
    expected = PG_ARRAY(&hashes);
    if (ids.bytes.failed || hashes.bytes.failed)
        rc = error_set(err, SAGA_ENOMEM, "out of memory");
    else
        rc = pg_batch_send(&consumer->pg, &statement, 1, err);
    if (rc == 0) {
        kafka_read(consumer, 2);
        rc = pg_batch_receive(&consumer->pg, &statement, 1, err);
    }
    if (rc == 0) {
        found = pg_bytes(&rows, 0, 0);
        *known = found.len == expected.len && memcmp(found.data, expected.data, found.len) == 0;
    }
    pg_rows_clear(&rows);
    pg_array_clear(&hashes);
    pg_array_clear(&ids);
    return rc;
}

/* All or none: where one is new, the transaction tells of all. */
static void
look_into_inbox(struct saga_consumer *consumer, struct taken **unseen, size_t n)
{
    bool known = false;
    struct saga_error err;

    sort_by_id(unseen, n);
    if (are_known(consumer, unseen, n, &known, &err) != 0) {
        database_failed(consumer, &err);
        return;
    }
    CRASH_POINT("consumer.after_look");
    if (!known) {
        consumer->repeated = 0;
        return;
    }
    for (size_t i = 0; i < n; i++) {
        unseen[i]->item.state = HAND_FINISHED;
        unseen[i]->verdict = SAGA_INBOX_DUPLICATE;
    }
    atomic_fetch_add(&consumer->counters.duplicates_by_inbox, (long long)n);
    marks_done(consumer, unseen, n);
}

void
seen_ask(struct saga_consumer *consumer)
{
    struct taken *asked[GATE_MANY] = { NULL };
    size_t n = take_unasked(consumer, asked), unseen = 0;

    marks_ask(consumer, asked, n);
    for (size_t i = 0; i < n; i++)
        if (asked[i]->item.state != HAND_FINISHED)
            asked[unseen++] = asked[i];
    if (consumer->repeated >= REPEATS_MIN && unseen >= REPEATS_MIN &&
        consumer->options.mode != SAGA_MODE_REDIS && pg_connected(&consumer->pg))
        look_into_inbox(consumer, asked, unseen);
}

void
seen_ask_again(struct saga_consumer *consumer)
{
    for (struct partition *at = consumer->partitions; at != NULL; at = at->next)
        at->unasked = at->hand.first;
}
