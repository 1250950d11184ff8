/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The consumer's connection to PostgreSQL: opened again with growing delays
 * after a loss, and always sure of which database it leads to.
 */
#include "base/backoff.h"
#include "base/clock.h"
#include "base/schema.h"
#include "idempotency/consumer_state.h"
#include "idempotency/sql.h"

#include <stdio.h>
#include <string.h>

enum { RETRY_FIRST_MS = 50, RETRY_LONGEST_MS = 5000, IDENTITY_MS = 1000 };

static int
read_identity(struct saga_consumer *consumer, struct saga_error *err)
{
    struct pg_rows rows = PG_ROWS_INIT;
    int rc = pg_exec(&consumer->pg, SQL_IDENTITY, PG_NO_ARGS, &rows, err);

    if (rc == 0) {
        snprintf(consumer->database, sizeof consumer->database, "%s", pg_text(&rows, 0, 0));
        snprintf(consumer->identity, sizeof consumer->identity, "%s",
                 /* What was done elsewhere does not vanish with this one's commits. */
                 consumer->options.mode == SAGA_MODE_REDIS ? "-" : consumer->database);
        consumer->database_ms = clock_mono_ms();
    }
    pg_rows_clear(&rows);
    return rc;
}

static int
check_schema(struct saga_consumer *consumer, struct saga_error *err)
{
    struct saga_error why;
    int rc = pg_exec(&consumer->pg, SQL_SCHEMA, PG_NO_ARGS, NULL, &why);

    if (rc != SAGA_ESCHEMA) {
        *err = why;
        return rc;
    }
    error_set(
        err, rc,
        "%s; if \"sagactl migrate status\" calls the schema newer, this service needs a newer "
        "library",
        why.message);
    memcpy(err->sqlstate, why.sqlstate, sizeof err->sqlstate);
    return rc;
}

static int
connect_once(struct saga_consumer *consumer, struct saga_error *err)
{
    char idle[16], lock[16];
    int rc = pg_connect(&consumer->pg, err);

    snprintf(lock, sizeof lock, "%d", consumer->options.statement_ms);
    snprintf(idle, sizeof idle, "%d", consumer->options.idle_in_tx_ms);
    if (rc == 0)
        rc = pg_exec(&consumer->pg, SQL_SESSION, PG_ARGS(PG_TEXT(idle), PG_TEXT(lock)), NULL, err);
    if (rc == 0)
        rc = check_schema(consumer, err);
    if (rc == 0)
        rc = read_identity(consumer, err);
    if (rc == 0)
        schema_warn(&consumer->pg);
    if (rc != 0)
        pg_disconnect(&consumer->pg);
    return rc;
}

bool
database_ends(const struct saga_error *err)
{
    return err->code == SAGA_ESCHEMA || err->code == SAGA_ENOMEM || pg_error_lasts(err);
}

void
database_failed(struct saga_consumer *consumer, const struct saga_error *err)
{
    if (database_ends(err)) {
        consumer->failure = *err;
        consumer->failed = err->code;
    } else if (may_log(&consumer->pg_log_ms)) {
        log_error(&consumer->options.log, SAGA_LOG_WARNING, "trouble with PostgreSQL; still trying",
                  err);
    }
}

bool
database_ready(struct saga_consumer *consumer)
{
    struct saga_error err;

    if (pg_connected(&consumer->pg))
        return true;
    if (clock_mono_ms() < consumer->pg_due_ms)
        return false;
    if (connect_once(consumer, &err) != 0) {
        consumer->pg_failures++;
        consumer->pg_due_ms = clock_mono_ms() + backoff_ms(RETRY_FIRST_MS, RETRY_LONGEST_MS,
                                                           consumer->pg_failures, backoff_random());
        database_failed(consumer, &err);
        return false;
    }
    if (consumer->pg_was_connected)
        atomic_fetch_add(&consumer->counters.reconnects, 1);
    if (consumer->pg_failures > 0)
        log_event(&consumer->options.log, SAGA_LOG_INFO, "PostgreSQL is back");
    consumer->pg_was_connected = true;
    /* It may have come back without its last commits. */
    for (struct partition *at = consumer->partitions; at != NULL; at = at->next)
        at->settled = false;
    /* A server that lets us in and then throws us out is not asked all the time. */
    consumer->pg_due_ms = clock_mono_ms() + RETRY_FIRST_MS;
    consumer->pg_failures = 0;
    consumer->pg_log_ms = 0;
    return true;
}

/* A new connection settles all partitions anew: what only the other database has
 * is read again, also where no new message comes. */
bool
database_is(struct saga_consumer *consumer, const char *identity)
{
    if (strcmp(consumer->database, identity) == 0) {
        consumer->database_ms = clock_mono_ms();
        return true;
    }
    log_event(&consumer->options.log, SAGA_LOG_WARNING,
              "the connection leads to another database than before; connecting anew",
              LOG_TEXT("before", consumer->database), LOG_TEXT("now", identity));
    pg_disconnect(&consumer->pg);
    return false;
}

/* A restart of the server ends the connection, which shows at once; a pooler in
 * between may change the server behind a connection that lives on. */
bool
database_same(struct saga_consumer *consumer)
{
    struct pg_rows rows = PG_ROWS_INIT;
    struct saga_error err;
    bool same;

    if (!PQconsumeInput(consumer->pg.conn) || !pg_connected(&consumer->pg))
        return false;
    if (clock_mono_ms() - consumer->database_ms < IDENTITY_MS)
        return true;
    if (pg_exec(&consumer->pg, SQL_IDENTITY, PG_NO_ARGS, &rows, &err) != 0) {
        database_failed(consumer, &err);
        return false;
    }
    same = database_is(consumer, pg_text(&rows, 0, 0));
    pg_rows_clear(&rows);
    return same;
}
