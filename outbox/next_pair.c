/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looking for the next pair of snapshots.
 */
#include "outbox/next_pair.h"

#include "base/clock.h"
#include "base/error.h"
#include "outbox/standby.h"

#include <stdlib.h>
#include <string.h>

enum {
    COSTLY_MS = 5,       /* an empty look that takes less is not worth a write */
    IDLE_STORE_MS = 1000 /* between two that only shorten the next look */
};

static int
first_page(struct publisher *p, struct page **page, struct saga_error *err)
{
    int rc = source_open(&p->source, &p->cursor, p->look.snapshot, 0, err);

    if (rc == 0)
        rc = source_request(&p->source, err);
    return rc != 0 ? rc : source_receive(&p->source, page, err);
}

/* Whether looking has become expensive since the cursor was moved, so that it
 * takes less when that is done again. Slow it may be for other reasons. */
static bool
grown_costly(struct publisher *p, int64_t took_ms)
{
    int64_t ms = took_ms > 0 ? took_ms : 1, quickest = p->quickest_ms;

    if (quickest == 0 || ms < quickest)
        p->quickest_ms = ms;
    return quickest > 0 && ms >= COSTLY_MS && ms >= 2 * quickest &&
           clock_mono_ms() - p->stored_ms >= IDLE_STORE_MS;
}

/*
 * Nothing new. Every write of the cursor makes a new xid, and so a snapshot
 * that has to be looked at again: it is moved only together with the lease, or
 * when looking has become expensive because it begins so far back.
 */
static int
nothing_new(struct publisher *p, bool costly, struct saga_error *err)
{
    if (!costly && !cursor_renewal_due(&p->cursor))
        return 0;
    if (strcmp(p->look.snapshot, p->cursor.prev) == 0)
        return publisher_keep_lease(p, err);
    p->quickest_ms = 0;
    return publisher_wrote(p,
                           cursor_skip(&p->cursor, &p->writer, p->look.snapshot, p->look.seq, err));
}

/* Nothing may be published that a crash could still erase. If the log is not on
 * disk up to the commits that we have seen, our own commit takes it there:
 * waiting for somebody else's could take for ever. With the standbys' gate it
 * always waits, and for them too. */
static int
begin_pair(struct publisher *p, struct saga_error *err)
{
    bool durable = p->look.at_risk || p->standby_gate;
    int32_t warnings = p->writer.warnings;
    int rc = publisher_wrote(
        p, cursor_begin(&p->cursor, &p->writer, p->look.snapshot, p->look.seq, durable, err));

    if (rc == 0 && p->standby_gate)
        rc = standby_waited(&p->writer, warnings, err);
    atomic_fetch_add(&p->tally->pairs, 1);
    atomic_fetch_add(&p->tally->forced_flushes, durable ? 1 : 0);
    p->settled_seq = 0;
    return rc;
}

int
next_pair(struct publisher *p, struct page **first, struct saga_error *err)
{
    int64_t before = clock_mono_ms();
    struct page *page = NULL;
    int rc = source_look(&p->look, &p->reader, err);

    *first = NULL;
    atomic_fetch_add(&p->tally->polls, 1);
    if (rc != 0)
        return rc;
    tally_answered(p->tally);
    tally_snapshot(p->tally, p->look.snapshot);
    if (strcmp(p->look.snapshot, p->cursor.prev) == 0 ||
        (p->empty != NULL && strcmp(p->look.snapshot, p->empty) == 0))
        return nothing_new(p, false, err);
    rc = first_page(p, &page, err);
    if (rc != 0)
        return rc;
    if (page->n == 0) {
        source_give_back(&p->source, page);
        free(p->empty);
        p->empty = p->look.snapshot;
        p->look.snapshot = strdup(p->empty);
        if (p->look.snapshot == NULL)
            return error_set(err, SAGA_ENOMEM, "out of memory");
        return nothing_new(p, grown_costly(p, clock_mono_ms() - before), err);
    }
    rc = begin_pair(p, err);
    if (rc == 0)
        *first = page;
    else
        source_give_back(&p->source, page);
    return rc;
}
