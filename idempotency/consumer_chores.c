/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a consumer does now and then besides messages: it has them compared with
 * what Kafka keeps, and has the database forget what is older than its retention.
 * What that is, and that it is safe while others write, is
 * idempotency.clean_up()'s business.
 */
#include "base/clock.h"
#include "idempotency/consumer_state.h"
#include "idempotency/sql.h"

#include <string.h>

/* A call with nothing to do takes half a millisecond; one that has found much
 * comes again soon. */
enum { SELDOM_MS = 60000, SOON_MS = 100 };

/* Whether there may be more of the same. */
static bool
report(const struct saga_consumer *consumer, const struct pg_rows *rows, int n)
{
    const char *did = pg_text(rows, n, 0);
    bool locked = strcmp(did, "locked") == 0;

    log_event(&consumer->options.log, locked ? SAGA_LOG_INFO : SAGA_LOG_DEBUG,
              locked ? "old messages cannot be forgotten: somebody holds a lock" : "forgotten",
              LOG_TEXT("did", did), LOG_TEXT("what", pg_text(rows, n, 1)),
              LOG_TEXT("held_by", pg_is_null(rows, n, 3) ? "" : pg_text(rows, n, 3)));
    return strcmp(did, "emptied") == 0 || strcmp(did, "deleted") == 0;
}

void
chores(struct saga_consumer *consumer)
{
    struct pg_rows rows = PG_ROWS_INIT;
    struct saga_error err;
    bool more = false;
    int rc;

    horizon_look(consumer);
    if (clock_mono_ms() < consumer->chores_due_ms || !pg_connected(&consumer->pg))
        return;
    rc = pg_begin(&consumer->pg, &err);
    if (rc == 0)
        rc = pg_exec(&consumer->pg, SQL_CLEAN_UP, PG_NO_ARGS, &rows, &err);
    if (rc == 0)
        rc = pg_commit(&consumer->pg, &err);
    if (rc != 0) {
        pg_rollback(&consumer->pg);
        database_failed(consumer, &err);
    }
    for (int i = 0; i < rows.n; i++)
        more |= report(consumer, &rows, i);
    pg_rows_clear(&rows);
    consumer->chores_due_ms = clock_mono_ms() + (more ? SOON_MS : SELDOM_MS);
}
