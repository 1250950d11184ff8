/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two ends of a transaction, for users' connections.
 */
#include "base/pg.h"

static int
check_conn(PGconn *conn, struct saga_error *err)
{
    error_clear(err);
    if (conn == NULL)
        return error_set(err, SAGA_EINVAL, "`conn` is NULL");
    if (PQpipelineStatus(conn) != PQ_PIPELINE_OFF)
        return error_set(err, SAGA_EINVAL, "`conn` is in pipeline mode; leave it first");
    if (PQtransactionStatus(conn) == PQTRANS_ACTIVE)
        return error_set(err, SAGA_EINVAL, "`conn` is busy; read its results first");
    return 0;
}

int
saga_begin(PGconn *conn, struct saga_error *err)
{
    struct pg pg = pg_borrow(conn);
    int rc = check_conn(conn, err);

    return rc != 0 ? rc : pg_begin(&pg, err);
}

int
saga_commit(PGconn *conn, struct saga_error *err)
{
    struct pg pg = pg_borrow(conn);
    int rc = check_conn(conn, err);

    return rc != 0 ? rc : pg_commit(&pg, err);
}

void
saga_rollback(PGconn *conn)
{
    struct pg pg = pg_borrow(conn);

    if (conn != NULL && PQpipelineStatus(conn) == PQ_PIPELINE_OFF)
        pg_rollback(&pg);
}
