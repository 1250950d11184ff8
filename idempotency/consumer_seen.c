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
    return taken->item.state == HAND_READY && !taken->partition->route->answers && !taken->unknown;
}

static size_t
take_unasked(struct saga_consumer *consumer, struct taken **unasked)
{
    size_t n = 0;

    for (struct partition *at = consumer->partitions; at != NULL; at = at->next)
        for (; at->unasked != NULL; at->unasked = at->unasked->next) {
            struct taken *taken = (struct taken *)at->unasked;

            if (!may_be_seen(taken))
                continue;
            if (n == GATE_MANY)
                break; /* not at a finished one: it may be freed before its turn comes */
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

/* What the inbox has, in the order of ids. */
struct known {
    struct pg_elements ids, hashes;
    struct saga_bytes id, hash;
    bool more;
};

static void
next_known(struct known *known)
{
    known->more = pg_elements_next(&known->ids, &known->id) && known->id.data != NULL &&
                  known->id.len == sizeof(struct saga_uuid) &&
                  pg_elements_next(&known->hashes, &known->hash) && known->hash.data != NULL;
}

static struct known
known_of(const struct pg_rows *rows)
{
    struct known known = { .ids = pg_elements_of(pg_bytes(rows, 0, 0)),
                           .hashes = pg_elements_of(pg_bytes(rows, 0, 1)) };

    next_known(&known);
    return known;
}

/* Goes on to the message's id. Another message's hash is not it. */
static bool
is_known(struct known *known, const struct incoming *record)
{
    while (known->more && memcmp(known->id.data, &record->public.id, known->id.len) < 0)
        next_known(known);
    return known->more && memcmp(known->id.data, &record->public.id, known->id.len) == 0 &&
           known->hash.len == sizeof record->hash &&
           memcmp(known->hash.data, record->hash, sizeof record->hash) == 0;
}

/* Those that are known are finished; the others are left in `unseen`. Returns how many. */
static size_t
finish_known(struct saga_consumer *consumer, struct known known, struct taken **unseen, size_t n)
{
    struct taken *found[GATE_MANY];
    size_t n_found = 0;

    for (size_t i = 0; i < n; i++)
        if (is_known(&known, &unseen[i]->record)) {
            unseen[i]->item.state = HAND_FINISHED;
            unseen[i]->verdict = SAGA_INBOX_DUPLICATE;
            found[n_found++] = unseen[i];
        } else {
            unseen[i - n_found] = unseen[i];
        }
    atomic_fetch_add(&consumer->counters.duplicates_by_inbox, (long long)n_found);
    marks_done(consumer, found, n_found);
    return n - n_found;
}

static int
ask_inbox(struct saga_consumer *consumer, struct taken *const *unseen, size_t n,
          struct pg_rows *rows, struct saga_error *err)
{
    struct pg_array ids;
    struct pg_arg args[3];
    struct pg_statement statement = {
        .sql = SQL_INBOX_KNOWN, .args = args, .n_args = 3, .rows = rows
    };
    int rc;

    pg_array_init(&ids, PG_OID_UUID_ARRAY);
    for (size_t i = 0; i < n; i++)
        pg_array_add(&ids, &unseen[i]->record.public.id, sizeof(struct saga_uuid));
    args[0] = PG_TEXT(consumer->options.group);
    args[1] = PG_ARRAY(&ids);
    args[2] = PG_BOOL(consumer->scattered == 0);
    if (ids.bytes.failed)
        rc = error_set(err, SAGA_ENOMEM, "out of memory");
    else
        rc = pg_batch_send(&consumer->pg, &statement, 1, err);
    if (rc == 0) {
        kafka_read(consumer, 2);
        rc = pg_batch_receive(&consumer->pg, &statement, 1, err);
    }
    pg_array_clear(&ids);
    return rc;
}

/* Returns how many are left; 0 also where nobody answered. */
static size_t
look_into_inbox(struct saga_consumer *consumer, struct taken **unseen, size_t n)
{
    struct pg_rows rows = PG_ROWS_INIT;
    struct saga_error err;
    int rc = ask_inbox(consumer, unseen, n, &rows, &err);

    CRASH_POINT("consumer.after_look");
    if (rc != 0)
        database_failed(consumer, &err);
    n = rc == 0 ? finish_known(consumer, known_of(&rows), unseen, n) : 0;
    pg_rows_clear(&rows);
    return n;
}

/* Where others' rows lie between, by their ids, and the next ones at once so. What is still left,
 * the transaction tells of. */
static void
look_for_all(struct saga_consumer *consumer, struct taken **unseen, size_t n)
{
    enum { SCATTERED_LOOKS = 8 };
    bool by_ids = consumer->scattered > 0;
    size_t left;

    sort_by_id(unseen, n);
    left = look_into_inbox(consumer, unseen, n);
    if (by_ids) {
        consumer->scattered--;
    } else if (left >= REPEATS_MIN) {
        consumer->scattered = SCATTERED_LOOKS;
        (void)look_into_inbox(consumer, unseen, left);
    }
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
        look_for_all(consumer, asked, unseen);
}

void
seen_ask_again(struct saga_consumer *consumer)
{
    for (struct partition *at = consumer->partitions; at != NULL; at = at->next)
        at->unasked = at->hand.first;
}
