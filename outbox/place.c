/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether the outbox still lies where its cursor was made.
 */
#include "outbox/place.h"

#include "outbox/snapshot.h"
#include "outbox/sql.h"

#include <inttypes.h>

int
place_check(const struct place *stored, const struct place *here, uint64_t fresh_xid, int64_t seq,
            struct saga_error *err)
{
    if (stored->system_identifier != 0 && stored->system_identifier != here->system_identifier)
        return error_set(
            err, SAGA_EMISMATCH,
            "the outbox's cursor was made in the cluster with system identifier %" PRIu64
            " and this is %" PRIu64 ": a copy, or an upgrade, where transaction ids "
            "may mean something else; connect to the original, or run: sagactl outbox "
            "rebase",
            (uint64_t)stored->system_identifier, (uint64_t)here->system_identifier);
    if (here->newest_xid > fresh_xid)
        return error_set(err, SAGA_EMISMATCH,
                         "the outbox has transaction id %" PRIu64 ", but this cluster has only "
                         "come to %" PRIu64 ": it was restored from a dump or copied here; "
                         "connect to the original, or run: sagactl outbox rebase",
                         here->newest_xid, fresh_xid);
    /* What is written below the floor by transactions from above it is looked
     * for by nobody. */
    if (here->newest_seq > seq)
        return error_set(err, SAGA_EMISMATCH,
                         "the relay has come to seq %" PRId64 ", but the outbox's sequence only to "
                         "%" PRId64 ": it was set back, or not restored with the outbox; run: "
                         "sagactl outbox rebase",
                         here->newest_seq, seq);
    return 0;
}

int
place_read(struct place *here, struct pg *pg, struct saga_error *err)
{
    struct pg_rows rows = PG_ROWS_INIT;
    int rc = pg_exec(pg, SQL_PLACE, PG_NO_ARGS, &rows, err);

    if (rc == 0 && pg_bool(&rows, 0, 0)) {
        error_set(err, SAGA_EDB, "this PostgreSQL is a standby; the relay needs the primary");
        rc = error_flag(err, SAGA_EDB, SAGA_ERR_RETRIABLE);
    }
    if (rc == 0) {
        here->system_identifier = pg_int(&rows, 0, 1);
        here->timeline = pg_int(&rows, 0, 2);
        here->newest_xid = (uint64_t)pg_int(&rows, 0, 3);
        here->newest_seq = 0;
    }
    pg_rows_clear(&rows);
    return rc;
}

int
place_same(struct pg *a, struct pg *b, struct saga_error *err)
{
    struct place of_a, of_b;
    int rc = place_read(&of_a, a, err);

    if (rc == 0)
        rc = place_read(&of_b, b, err);
    if (rc != 0 ||
        (of_a.system_identifier == of_b.system_identifier && of_a.timeline == of_b.timeline))
        return rc;
    error_set(err, SAGA_EDB,
              "two connections ended at two servers, on the timelines %" PRId64 " and %" PRId64
              "; one of them is no longer the primary",
              of_a.timeline, of_b.timeline);
    return error_flag(err, SAGA_EDB, SAGA_ERR_RETRIABLE | SAGA_ERR_FATAL);
}

static void
add_xid(struct place *here, uint64_t xid)
{
    if (xid > here->newest_xid)
        here->newest_xid = xid;
}

static void
add_seq(struct place *here, int64_t seq)
{
    if (seq > here->newest_seq)
        here->newest_seq = seq;
}

void
place_add_cursor(struct place *here, const struct cursor *cursor)
{
    const char *texts[] = { cursor->prev, cursor->cur };

    for (int i = 0; i < 2; i++) {
        struct snapshot snapshot = { 0 };

        if (texts[i] != NULL && snapshot_parse(&snapshot, texts[i]))
            add_xid(here, snapshot.xmax);
        snapshot_clear(&snapshot);
    }
    add_xid(here, cursor->floor_xid);
    add_xid(here, cursor->cur_floor_xid);
    add_seq(here, cursor->floor_seq);
    add_seq(here, cursor->cur_floor_seq);
    add_seq(here, cursor->last_seq);
}
