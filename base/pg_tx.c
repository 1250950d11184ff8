/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two ends of a transaction.
 */
#include "base/crash.h"
#include "base/pg.h"
#include "base/pg_error.h"

bool
pg_in_transaction(const struct pg *pg)
{
    PGTransactionStatusType status = PQtransactionStatus(pg->conn);

    return status == PQTRANS_INTRANS || status == PQTRANS_INERROR;
}

/* READ COMMITTED whatever the role's default is: a concurrent duplicate has to
 * show up as "no row inserted", not as a serialization failure. */
const char PG_SQL_BEGIN[] = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

/* "local" waits for the own disk only; "on" is stronger where there are
 * synchronous standbys and the same where there are none. */
const char PG_SQL_DURABLE[] =
    "SELECT pg_catalog.set_config('synchronous_commit', 'on', true)"
    " WHERE pg_catalog.current_setting('synchronous_commit') IN ('off', 'local')";

static int
check_can_begin(struct pg *pg, struct saga_error *err)
{
    error_clear(err);
    if (pg->conn != NULL && pg_in_transaction(pg))
        return error_set(err, SAGA_ESTATE, "a transaction is open already; commit or roll back");
    return 0;
}

int
pg_begin(struct pg *pg, struct saga_error *err)
{
    int rc = check_can_begin(pg, err);

    return rc != 0 ? rc : pg_exec(pg, PG_SQL_BEGIN, PG_NO_ARGS, NULL, err);
}

int
pg_begin_durable(struct pg *pg, struct saga_error *err)
{
    const struct pg_statement both[] = { { .sql = PG_SQL_BEGIN }, { .sql = PG_SQL_DURABLE } };
    int rc = check_can_begin(pg, err);

    return rc != 0 ? rc : pg_batch(pg, both, 2, err);
}

int
pg_commit(struct pg *pg, struct saga_error *err)
{
    error_clear(err);
    if (!pg_connected(pg))
        return pg_error_lost(pg, err); /* COMMIT was not sent: rolled back */
    if (!pg_in_transaction(pg))
        return error_set(err, SAGA_ENOTX, "no transaction is open: what ran before was not in one");
    CRASH_POINT("pg.before_commit");
    return pg_exec(pg, "COMMIT", PG_NO_ARGS, NULL, err);
}

void
pg_rollback(struct pg *pg)
{
    struct saga_error ignored;

    if (pg_connected(pg) &&
        (pg_in_transaction(pg) || PQtransactionStatus(pg->conn) == PQTRANS_ACTIVE) &&
        pg_exec(pg, "ROLLBACK", PG_NO_ARGS, NULL, &ignored) != 0 && !pg->borrowed)
        pg_disconnect(pg); /* then the server rolls back */
}

int
pg_check_tx(PGconn *tx, struct saga_error *err)
{
    if (PQpipelineStatus(tx) != PQ_PIPELINE_OFF)
        return error_set(err, SAGA_EINVAL, "`tx` is in pipeline mode; leave it first");
    if (PQtransactionStatus(tx) == PQTRANS_IDLE)
        return error_set(err, SAGA_ENOTX, "no transaction is open; call saga_begin() first");
    return 0;
}
