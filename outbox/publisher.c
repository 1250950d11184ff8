/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Publishing pair after pair.
 */
#include "outbox/publisher.h"

#include "base/clock.h"
#include "base/crash.h"
#include "base/error.h"
#include "outbox/next_pair.h"
#include "outbox/retry.h"

#include <stdlib.h>

enum {
    PAGES_MAX = 3, /* one being read, one handed over, one being acknowledged */
    BATCH_BYTES = 1 << 20,
    SERVE_MS = 50, /* longest wait for the brokers before looking around */
    UNWATCH_MS = 1000,
    STORE_MS = 100 /* between two writes of a position within a pair */
};

bool
publisher_stopped(const struct publisher *p)
{
    return atomic_load(p->stop) || p->cursor.wanted;
}

/* --- pages ------------------------------------------------------------- */

static void
page_add(struct publisher *p, struct page *page)
{
    *p->end = page;
    p->end = &page->next;
    p->n_pages++;
    tally_page(p->tally, (int64_t)page->n);
}

static void
page_remove_first(struct publisher *p)
{
    struct page *page = p->first;

    p->first = page->next;
    if (p->first == NULL)
        p->end = &p->first;
    p->n_pages--;
    source_give_back(&p->source, page);
}

/* The page whose rows are to be handed over next, or NULL. */
static struct page *
page_to_produce(const struct publisher *p)
{
    struct page *page = p->first;

    while (page != NULL && page->produced == page->n)
        page = page->next;
    return page;
}

static void
drop_pages(struct publisher *p)
{
    while (p->first != NULL)
        page_remove_first(p);
    p->end = &p->first;
}

void
publisher_forget(struct publisher *p)
{
    /* First the sink: librdkafka reads payloads where they lie in the pages. */
    outlet_forget(&p->outlet);
    watch_close(p->watch);
    p->watch = NULL;
    drop_pages(p);
    parked_clear(&p->parked);
    ranges_clear(&p->cursor.ranges);
    source_clear(&p->source);
    look_clear(&p->look);
    free(p->empty);
    p->empty = NULL;
    p->settled_seq = 0;
}

/* --- the cursor -------------------------------------------------------- */

int
publisher_wrote(struct publisher *p, int rc)
{
    atomic_fetch_add(&p->tally->cursor_writes, 1);
    p->stored_ms = clock_mono_ms();
    if (rc == 0)
        tally_answered(p->tally);
    return rc;
}

int
publisher_keep_lease(struct publisher *p, struct saga_error *err)
{
    bool asked = p->outlet.sink != NULL && sink_asks_for_owner(p->outlet.sink);
    int rc = 0;

    if (asked || cursor_renewal_due(&p->cursor))
        rc = publisher_wrote(p, cursor_renew(&p->cursor, &p->writer, err));
    if (rc == 0 && asked)
        sink_hears_owner(p->outlet.sink);
    return rc;
}

static int
watch_groups(struct publisher *p, struct saga_error *err)
{
    bool done = false;
    int rc;

    if (p->watch != NULL)
        return watch_step(p->watch, &p->writer, err);
    if (p->unwatch_ms == 0 || clock_left_ms(p->unwatch_ms) > 0)
        return 0;
    rc = watch_nobody(&p->writer, p->cursor.stream, &done, err);
    p->unwatch_ms = done ? 0 : clock_mono_ms() + UNWATCH_MS;
    return rc;
}

static int
begin_to_watch(struct publisher *p, bool once, struct saga_error *err)
{
    p->unwatch_ms = p->cursor.ranges.wanted ? 0 : clock_mono_ms();
    if (!p->cursor.ranges.wanted)
        return watch_groups(p, err);
    if (p->cursor.stream != 0 || once || p->watch != NULL)
        return 0;
    return watch_open(&p->watch, &p->outlet.options, p->groups, err);
}

static int
store_position(struct publisher *p, struct saga_error *err)
{
    if (p->settled_seq <= p->cursor.last_seq)
        return 0;
    if (p->parked.settled > 0) {
        int64_t n = (int64_t)p->parked.settled;
        int rc = publisher_wrote(
            p, parked_store(&p->parked, &p->cursor, &p->writer, p->settled_seq, err));

        atomic_fetch_add(&p->tally->parked, rc == 0 ? n : 0);
        return rc;
    }
    return publisher_wrote(p, cursor_advance(&p->cursor, &p->writer, p->settled_seq, err));
}

/* Takes notice of acknowledgements; stores them from time to time. */
static int
settle(struct publisher *p, struct saga_error *err)
{
    size_t parked, n = window_settle(&p->outlet.window, &p->settled_seq, &parked);

    tally_waiting(p->tally, (int64_t)window_open(&p->outlet.window), n > 0);
    parked_settle(&p->parked, parked);
    if (n > parked) {
        atomic_fetch_add(&p->tally->published, (int64_t)(n - parked));
        p->outlet.failures = 0;
    }
    while (p->first != NULL && p->first->produced == p->first->n &&
           (p->first->n == 0 || p->first->rows[p->first->n - 1].seq <= p->settled_seq))
        page_remove_first(p);
    if (p->first == NULL || clock_mono_ms() - p->stored_ms < STORE_MS)
        return 0; /* the end of the pair is stored with it */
    return store_position(p, err);
}

/* --- the sink ---------------------------------------------------------- */

/* Waits, serving Kafka; returns early on stop. */
static void
rest(struct publisher *p, int64_t ms)
{
    int64_t until = clock_mono_ms() + ms, left;

    while (!publisher_stopped(p) && (left = clock_left_ms(until)) > 0) {
        sink_serve(p->outlet.sink, (int)(left < SERVE_MS ? left : SERVE_MS));
        tally_alive(p->tally);
    }
}

/* The same for long, keeping the lease. */
static int
rest_as_owner(struct publisher *p, int64_t ms, struct saga_error *err)
{
    int64_t until = clock_mono_ms() + ms, left;
    int rc = 0;

    while (rc == 0 && !publisher_stopped(p) && (left = clock_left_ms(until)) > 0) {
        rest(p, left < SERVE_MS ? left : SERVE_MS);
        rc = publisher_keep_lease(p, err);
        if (rc == 0)
            rc = watch_groups(p, err);
    }
    return rc;
}

int
publisher_open_again(struct publisher *p, struct saga_error *err)
{
    int rc = 0;

    /* A producer of a transactional.id fences others, which is the owner's right
     * alone; perhaps this one broke because somebody else is that. */
    if (p->outlet.options.transactional_id != NULL)
        rc = publisher_wrote(p, cursor_renew(&p->cursor, &p->writer, err));
    if (rc == 0)
        rc = outlet_open(&p->outlet, err);
    return rc != 0 ? rc : rest_as_owner(p, outlet_pause_ms(&p->outlet), err);
}

/* After a failure: whatever was acknowledged counts, everything else is read
 * and sent again, from the cursor, by a new producer. */
static int
start_over(struct publisher *p, struct saga_error *err)
{
    int rc;

    outlet_close(&p->outlet);
    rc = settle(p, err);
    if (rc == 0)
        rc = store_position(p, err);
    drop_pages(p);
    parked_forget_rows(&p->parked);
    window_reset(&p->outlet.window);
    if (rc == 0)
        rc = publisher_open_again(p, err);
    if (rc == 0)
        rc = source_open(&p->source, &p->cursor, p->cursor.cur, p->cursor.last_seq, err);
    return rc;
}

/* --- one pair ---------------------------------------------------------- */

/* Remembers a row that is to be parked when the cursor passes it, and with it
 * all later ones of its key. */
static int
park(struct publisher *p, const struct row_fields *fields, int64_t seq, const char *why,
     struct saga_error *err)
{
    if (!parked_add(&p->parked, fields, seq, why) || !window_push_parked(&p->outlet.window, seq))
        return error_set(err, SAGA_ENOMEM, "out of memory");
    return 0;
}

/* Hands rows over until none is left or one has to wait. */
static int
produce(struct publisher *p, struct saga_error *err)
{
    struct page *page;
    int rc = 0;

    while (rc == 0 && (page = page_to_produce(p)) != NULL) {
        const struct row *row = &page->rows[page->produced];
        struct row_fields fields;
        char why[FINDING_BYTES];
        int outcome;

        row_read(row, &fields);
        rc = outlet_send(&p->outlet, &fields, row->seq, parked_holds(&p->parked, &fields), &outcome,
                         why, err);
        if (rc != 0 || outcome == OUTLET_WAIT)
            return rc;
        if (outcome == OUTLET_PARK)
            rc = park(p, &fields, row->seq, why, err);
        page->produced++;
        CRASH_POINT("relay.after_produce");
    }
    return rc;
}

/* Whether so much follows that batches become full, or nearly. */
static bool
more_follows(const struct publisher *p)
{
    size_t bytes = 0;

    for (const struct page *page = p->first; page != NULL; page = page->next)
        bytes += page->bytes;
    return bytes >= BATCH_BYTES && (p->source.more || page_to_produce(p) != NULL);
}

/* One round: asks for a page, works while the server does, takes the page in at
 * once (a server that waits for us to read has a transaction open), and serves. */
static int
round_of_pair(struct publisher *p, bool reading, struct saga_error *err)
{
    struct page *page = NULL;
    int rc = publisher_keep_lease(p, err);

    if (rc == 0)
        rc = watch_groups(p, err);
    if (rc == 0 && reading && p->source.more && p->n_pages < PAGES_MAX)
        rc = source_request(&p->source, err);
    if (rc != 0)
        return rc;
    if (reading)
        rc = produce(p, err);
    if (source_requested(&p->source)) {
        int received = source_receive(&p->source, &page, err);

        if (received != 0)
            return received;
        page_add(p, page);
        outlet_serve(&p->outlet, 0, true);
    } else {
        outlet_serve(&p->outlet, SERVE_MS, reading && more_follows(p));
    }
    if (rc != 0)
        return rc;
    CRASH_POINT("relay.after_ack");
    tally_alive(p->tally);
    return settle(p, err);
}

static bool
pair_done(const struct publisher *p)
{
    return !p->source.more && p->first == NULL && window_open(&p->outlet.window) == 0;
}

/* Waits for what is already handed over, but not for ever. */
static int
drain(struct publisher *p, struct saga_error *err)
{
    int64_t deadline = clock_mono_ms() + p->drain_ms;
    int rc = 0;

    while (rc == 0 && window_open(&p->outlet.window) > 0 && !outlet_broken(&p->outlet) &&
           clock_left_ms(deadline) > 0)
        rc = round_of_pair(p, false, err);
    return rc != 0 ? rc : store_position(p, err);
}

/* Publishes the rest of the pair that the cursor has open. */
static int
publish_pair(struct publisher *p, struct saga_error *err)
{
    int rc = 0;

    while (rc == 0 && !pair_done(p)) {
        if (publisher_stopped(p))
            return drain(p, err);
        rc = round_of_pair(p, true, err);
        if (rc == 0 && outlet_broken(&p->outlet))
            rc = start_over(p, err);
    }
    tally_waiting(p->tally, 0, true);
    if (rc == 0 && p->parked.settled > 0)
        rc = store_position(p, err);
    if (rc == 0)
        rc = publisher_wrote(p, cursor_finish(&p->cursor, &p->writer, err));
    p->settled_seq = 0;
    judge_close(&p->outlet.judge);
    return rc;
}

static int
resume_pair(struct publisher *p, struct saga_error *err)
{
    int rc = source_open(&p->source, &p->cursor, p->cursor.cur, p->cursor.last_seq, err);

    p->settled_seq = p->cursor.last_seq;
    return rc != 0 ? rc : publish_pair(p, err);
}

int
publisher_run(struct publisher *p, bool once, struct saga_error *err)
{
    /* Every look also sees to the lease. */
    int64_t longest_ms = p->idle_ms < p->cursor.lease_ms / 6 ? p->idle_ms : p->cursor.lease_ms / 6;
    int64_t pause_ms = 1;
    struct page *first;
    bool opened, retried = false;
    int rc = outlet_open(&p->outlet, err);

    if (rc == 0)
        rc = parked_load(&p->parked, &p->cursor, &p->reader, err);
    if (rc == 0)
        rc = begin_to_watch(p, once, err);
    if (rc == 0 && p->cursor.cur != NULL)
        rc = resume_pair(p, err);
    while (rc == 0 && !publisher_stopped(p)) {
        rc = retry_step(p, once, &retried, err);
        if (rc == 0 && p->cursor.stream == 0 && !retried)
            rc = chores_do(&p->chores, &p->writer, once, err);
        if (rc == 0 && !publisher_stopped(p))
            rc = next_pair(p, &first, err);
        else
            break;
        opened = rc == 0 && first != NULL;
        if (opened) {
            page_add(p, first);
            rc = publish_pair(p, err);
        }
        if (rc == 0)
            rc = watch_groups(p, err);
        if (rc != 0 || (once && !retried))
            break;
        if (opened || retried)
            pause_ms = 1;
        if (!retried)
            rest(p, pause_ms);
        if (!opened && !retried)
            pause_ms = pause_ms * 2 < longest_ms ? pause_ms * 2 : longest_ms;
    }
    return rc;
}
