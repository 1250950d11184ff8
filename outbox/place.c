/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether the outbox still lies where its cursor was made.
 */
#include "outbox/place.h"

#include "outbox/snapshot.h"
#include "outbox/sql.h"

#include <inttypes.h>

int
place_check(const struct place *stored, const struct place *here, uint64_t fresh_xid,
            struct saga_error *err)
{
    if (stored->system_identifier != 0 && stored->system_identifier != here->system_identifier)
        return error_set(err, SAGA_EMISMATCH,
                         "this outbox is a copy: its cursor was made in the cluster with system "
                         "identifier %" PRIu64 " and this is %" PRIu64 ", where transaction ids "
                         "mean something else; connect to the original, or run: sagactl outbox "
                         "rebase",
                         (uint64_t)stored->system_identifier, (uint64_t)here->system_identifier);
    if (here->newest_xid > fresh_xid)
        return error_set(err, SAGA_EMISMATCH,
                         "the outbox has transaction id %" PRIu64 ", but this cluster has only "
                         "come to %" PRIu64 ": it was restored from a dump or copied here; "
                         "connect to the original, or run: sagactl outbox rebase",
                         here->newest_xid, fresh_xid);
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
    }
    pg_rows_clear(&rows);
    return rc;
}

uint64_t
place_newest_xid(const struct cursor *cursor)
{
    const char *texts[] = { cursor->prev, cursor->cur };
    uint64_t newest =
        cursor->floor_xid > cursor->cur_floor_xid ? cursor->floor_xid : cursor->cur_floor_xid;

    for (int i = 0; i < 2; i++) {
        struct snapshot snapshot = { 0 };

        if (texts[i] != NULL && snapshot_parse(&snapshot, texts[i]) && snapshot.xmax > newest)
            newest = snapshot.xmax;
        snapshot_clear(&snapshot);
    }
    return newest;
}
