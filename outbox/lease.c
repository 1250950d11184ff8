/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking the stream.
 */
#include "outbox/lease.h"

#include "base/clock.h"
#include "base/crash.h"
#include "outbox/place.h"
#include "outbox/sql.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

bool
lease_free(const struct lease *lease)
{
    if (lease->ours || !lease->running || (!lease->owned && !lease->promised))
        return true;
    /* No relay asks for so much: the database's clock was set back. */
    return lease->left_ms > LEASE_LONGEST_MS;
}

bool
lease_unfair(const struct lease *lease, int32_t stream)
{
    return lease->owned && lease->foreign && lease->last == stream &&
           lease->theirs - lease->own >= 2;
}

/* --- what the database says -------------------------------------------- */

/* The columns of SQL_LEASE_LOOK. */
enum {
    COL_OWNER,
    COL_EPOCH,
    COL_RUNNING,
    COL_LEFT_MS,
    COL_STREAMS,
    COL_INSTANCE,
    COL_PROMISED,
    COL_THEIRS,
    COL_OURS,
    COL_LAST,
    COL_SYSTEM,
    COL_TIMELINE,
    COL_CURSOR
};

static void
lease_of(struct lease *lease, const struct pg_rows *rows, const struct cursor *cursor)
{
    struct saga_uuid owner = pg_uuid(rows, 0, COL_OWNER);
    const char *instance = pg_text(rows, 0, COL_INSTANCE);

    lease->owned = !pg_is_null(rows, 0, COL_OWNER);
    lease->ours = lease->owned && memcmp(&owner, &cursor->owner, sizeof owner) == 0;
    lease->promised = pg_bool(rows, 0, COL_PROMISED);
    lease->running = pg_bool(rows, 0, COL_RUNNING);
    lease->left_ms = pg_int(rows, 0, COL_LEFT_MS);
    lease->epoch = pg_int(rows, 0, COL_EPOCH);
    lease->streams = (int32_t)pg_int(rows, 0, COL_STREAMS);
    lease->foreign =
        instance != NULL && cursor->instance != NULL && strcmp(instance, cursor->instance) != 0;
    lease->theirs = (int32_t)pg_int(rows, 0, COL_THEIRS);
    lease->own = (int32_t)pg_int(rows, 0, COL_OURS);
    lease->last = pg_is_null(rows, 0, COL_LAST) ? -1 : (int32_t)pg_int(rows, 0, COL_LAST);
}

static int
read_lease(struct lease *lease, struct place *stored, struct cursor *cursor, const char *sql,
           struct pg *pg, struct saga_error *err)
{
    struct pg_rows rows = PG_ROWS_INIT;
    int rc =
        pg_exec(pg, sql, PG_ARGS(PG_INT4(cursor->stream), PG_TEXT(cursor->instance)), &rows, err);

    if (rc != 0)
        return rc;
    if (rows.n == 0) {
        rc = error_set(err, SAGA_ENOTFOUND, "the outbox has no stream %d", cursor->stream);
        goto out;
    }
    lease_of(lease, &rows, cursor);
    cursor->streams = lease->streams;
    stored->system_identifier = pg_int(&rows, 0, COL_SYSTEM);
    stored->timeline = pg_int(&rows, 0, COL_TIMELINE);
    rc = cursor_read(cursor, &rows, COL_CURSOR, err);
out:
    pg_rows_clear(&rows);
    return rc;
}

/* --- taking ------------------------------------------------------------ */

static int
write_owner(struct cursor *cursor, const struct place *stored, struct place *here, struct pg *pg,
            struct saga_error *err)
{
    struct pg_rows rows = PG_ROWS_INIT;
    int rc =
        pg_exec(pg, SQL_LEASE_TAKE,
                PG_ARGS(PG_INT4(cursor->stream), PG_UUID(&cursor->owner), PG_INT8(cursor->lease_ms),
                        PG_INT8(here->system_identifier), PG_INT4(here->timeline),
                        PG_TEXT(cursor->instance), PG_BOOL(cursor->transactional)),
                &rows, err);

    if (rc == 0) {
        place_add_cursor(here, cursor);
        rc = place_check(stored, here, (uint64_t)pg_int(&rows, 0, 1), pg_int(&rows, 0, 2), err);
    }
    if (rc == 0)
        cursor->epoch = pg_int(&rows, 0, 0);
    pg_rows_clear(&rows);
    return rc;
}

static void
log_taken(const struct cursor *cursor, const struct lease *lease, const struct place *stored,
          const struct place *here, const struct saga_log *log)
{
    if (stored->timeline != 0 && stored->timeline != here->timeline)
        log_event(log, SAGA_LOG_WARNING,
                  "PostgreSQL was failed over to a standby; going on from what it knows",
                  LOG_INT("timeline_before", stored->timeline),
                  LOG_INT("timeline", here->timeline));
    log_event(log, SAGA_LOG_INFO, "took the stream", LOG_INT("stream", cursor->stream),
              LOG_INT("epoch", cursor->epoch),
              LOG_TEXT("from", !lease->owned ? "nobody"
                               : lease->ours ? "itself"
                                             : "a relay whose lease has ended"));
}

/* The owner sees it when he next writes his cursor, and gives the stream free
 * for us. If he has gone on meanwhile, nothing is asked. */
static int
ask(const struct cursor *cursor, const struct lease *lease, struct pg *pg, struct saga_error *err)
{
    log_event(pg->log, SAGA_LOG_INFO, "asking for the stream; its owner's process has more",
              LOG_INT("stream", cursor->stream), LOG_INT("theirs", lease->theirs),
              LOG_INT("ours", lease->own));
    return pg_exec(
        pg, SQL_LEASE_ASK,
        PG_ARGS(PG_INT4(cursor->stream), PG_INT8(lease->epoch), PG_TEXT(cursor->instance)), NULL,
        err);
}

/* A transaction whose locks end with the lease if we are stopped in it. */
static int
begin(const struct cursor *cursor, struct pg *pg, struct saga_error *err)
{
    char ms[24];
    int rc = pg_begin_durable(pg, err);

    snprintf(ms, sizeof ms, "%" PRId64, cursor->lease_ms);
    return rc != 0 ? rc : pg_exec(pg, SQL_LEASE_HURRY, PG_ARGS(PG_TEXT(ms)), NULL, err);
}

int
lease_take(struct cursor *cursor, struct lease *lease, bool *taken, struct pg *pg,
           struct saga_error *err)
{
    struct place stored, here;
    int64_t before = clock_mono_ms();
    int rc = read_lease(lease, &stored, cursor, SQL_LEASE_LOOK, pg, err);

    *taken = false;
    if (rc != 0 || (!lease_free(lease) && !lease_unfair(lease, cursor->stream)))
        return rc;
    rc = place_read(&here, pg, err);
    if (rc != 0)
        return rc;
    if (!lease_free(lease))
        return ask(cursor, lease, pg, err);

    /* The epoch must survive a crash of the server, or it would be given out
     * twice: committed to the disk, whatever the server's default is. */
    rc = begin(cursor, pg, err);
    if (rc == 0)
        rc = read_lease(lease, &stored, cursor, SQL_LEASE_LOCK, pg, err);
    if (rc == 0 && lease_free(lease)) {
        rc = write_owner(cursor, &stored, &here, pg, err);
        CRASH_POINT("relay.before_take");
        if (rc == 0)
            rc = pg_commit(pg, err);
        *taken = rc == 0;
    }
    CRASH_POINT("relay.after_take");
    if (!*taken)
        pg_rollback(pg);
    else {
        cursor->renewed_ms = before;
        cursor->wanted = false;
        log_taken(cursor, lease, &stored, &here, pg->log);
    }
    return rc;
}
