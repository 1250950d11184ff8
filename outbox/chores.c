/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Delivering what is due, and cleaning up.
 */
#include "outbox/chores.h"

#include "base/backoff.h"
#include "base/clock.h"
#include "base/crash.h"
#include "outbox/sql.h"

#include <string.h>

enum {
    DELIVER_MS = 100,    /* between two looks for messages that are due */
    DELIVER_ROWS = 1000, /* moved at a time, so that publishing goes on in between */
    SHARE = 20,          /* what takes long is done less often */
    CLEAN_MS = 1000,
    CLEAN_LONGEST_MS = 60000, /* while somebody holds a lock */
    COMPLAIN_MS = 60000,
    LOCKED_LONG_MS = 60000,
    TELL_MS = 600000
};

/* What a chore that was begun at `began_ms` has answered: 0, unless the connection
 * is lost. One that takes too long holds up publishing each time. */
static int
tolerate(struct chores *chores, struct chore *chore, int64_t began_ms, struct pg *pg, int rc,
         struct saga_error *err)
{
    int64_t now = clock_mono_ms(), took = now - began_ms;
    int64_t first = took > CLEAN_MS ? took : CLEAN_MS;
    int64_t longest = took * SHARE > CLEAN_MS ? took * SHARE : CLEAN_MS;

    if (rc == 0)
        chore->failures = 0;
    if (rc == 0 || !pg_connected(pg) || (err->flags & SAGA_ERR_FATAL) != 0)
        return rc;
    pg_rollback(pg);
    chore->due_ms = now + backoff_ms(first, longest, ++chore->failures, 0);
    if (chores->complained_ms == 0 || now - chores->complained_ms >= COMPLAIN_MS) {
        chores->complained_ms = now;
        log_error(chores->log, SAGA_LOG_WARNING,
                  "delayed messages are not moved, or old ones not removed; trying again", err);
    }
    error_clear(err);
    return 0;
}

/* --- delayed messages ----------------------------------------------------- */

/*
 * Rows that were moved stay in the index until no transaction can see them, and
 * each look from the beginning walks over them: while more are due it goes on
 * from where the last one ended, and after that not more often than it can
 * afford.
 */
static int
deliver(struct chores *chores, struct pg *pg, struct saga_error *err)
{
    struct pg_rows rows = PG_ROWS_INIT;
    int64_t before = clock_mono_ms(), took;
    int rc;

    CRASH_POINT("relay.before_deliver");
    rc = pg_exec(pg, SQL_DELIVER_DUE,
                 PG_ARGS(PG_INT4(DELIVER_ROWS), PG_TIME(chores->mark_us), PG_INT8(chores->mark_n)),
                 &rows, err);
    CRASH_POINT("relay.after_deliver");
    took = clock_mono_ms() - before;
    chores->deliver.due_ms = before + took;
    if (rc == 0 && pg_bool(&rows, 0, 0)) {
        chores->mark_us = pg_time_us(&rows, 0, 1);
        chores->mark_n = pg_int(&rows, 0, 2);
    } else {
        chores->mark_us = chores->mark_n = 0;
        chores->deliver.due_ms += took * SHARE > DELIVER_MS ? took * SHARE : DELIVER_MS;
    }
    pg_rows_clear(&rows);
    return rc;
}

/* --- cleaning up ---------------------------------------------------------- */

static void
slot_locked(struct chores *chores, int64_t slot, const char *held_by)
{
    int64_t now = clock_mono_ms();
    int level = SAGA_LOG_DEBUG;

    if (chores->locked_ms == 0)
        chores->locked_ms = chores->told_ms = now;
    if (now - chores->locked_ms >= LOCKED_LONG_MS &&
        (chores->told_ms == chores->locked_ms || now - chores->told_ms >= TELL_MS)) {
        chores->told_ms = now;
        level = SAGA_LOG_INFO;
    }
    log_event(chores->log, level, "a slot cannot be emptied: somebody holds a lock on it",
              LOG_INT("slot", slot), LOG_TEXT("held_by", held_by),
              LOG_INT("for_ms", now - chores->locked_ms));
    chores->clean.due_ms = now + backoff_ms(CLEAN_MS, CLEAN_LONGEST_MS, ++chores->attempts, 0);
}

static void
tell(struct chores *chores, const struct pg_rows *rows)
{
    bool locked = false;

    for (int i = 0; i < rows->n; i++) {
        const char *did = pg_text(rows, i, 1);
        int64_t slot = pg_int(rows, i, 0);

        if (strcmp(did, "locked") == 0) {
            locked = true;
            slot_locked(chores, slot, pg_text(rows, i, 2));
        } else {
            log_event(chores->log, SAGA_LOG_INFO,
                      strcmp(did, "emptied") == 0 ? "emptied a slot of old messages"
                                                  : "messages are written to the next slot",
                      LOG_INT("slot", slot));
        }
    }
    if (!locked)
        chores->locked_ms = chores->attempts = 0;
}

/* The role's default may be another isolation level, with which the function
 * would not see what was written while it waited for a lock. */
static int
clean_up(struct chores *chores, struct pg *pg, struct saga_error *err)
{
    struct pg_rows rows = PG_ROWS_INIT;
    int rc;

    chores->clean.due_ms = clock_mono_ms() + CLEAN_MS;
    rc = pg_begin(pg, err);
    if (rc == 0)
        rc = pg_exec(pg, SQL_CLEAN_UP, PG_ARGS(PG_INT8(chores->retention_ms)), &rows, err);
    CRASH_POINT("relay.before_clean_up");
    if (rc == 0)
        rc = pg_commit(pg, err);
    CRASH_POINT("relay.after_clean_up");
    if (rc == 0)
        tell(chores, &rows);
    pg_rows_clear(&rows);
    return rc;
}

int
chores_do(struct chores *chores, struct pg *pg, bool all, struct saga_error *err)
{
    int64_t now;
    int rc = 0;

    if (all)
        chores->deliver.due_ms = chores->clean.due_ms = 0;
    while (rc == 0 && (now = clock_mono_ms()) >= chores->deliver.due_ms) {
        rc = tolerate(chores, &chores->deliver, now, pg, deliver(chores, pg, err), err);
        if (!all)
            break;
    }
    now = clock_mono_ms();
    if (rc == 0 && chores->retention_ms > 0 && now >= chores->clean.due_ms)
        rc = tolerate(chores, &chores->clean, now, pg, clean_up(chores, pg, err), err);
    return rc;
}
