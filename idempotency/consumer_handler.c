/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The user's part of a transaction: calling the handlers, and looking at what
 * they leave behind; and the quarantine for what no handler may see.
 */
#include "base/crash.h"
#include "idempotency/consumer_state.h"
#include "idempotency/sql.h"

#include <string.h>

int
quarantine(struct saga_consumer *consumer, const struct taken *taken, const char *reason,
           struct saga_error *err)
{
    static const struct saga_uuid none;
    const struct saga_record *public = &taken->record.public;
    bool has_id = memcmp(&public->id, &none, sizeof none) != 0;
    struct pg_array headers;
    int rc;

    pg_array_init(&headers, PG_OID_TEXT_ARRAY);
    rc = record_headers(&taken->record, &headers, err);
    if (rc == 0)
        rc = pg_exec(&consumer->pg, SQL_QUARANTINE,
                     PG_ARGS(PG_TEXT(consumer->options.group), PG_TEXT(reason),
                             PG_UUID(has_id ? &public->id : NULL), PG_TEXT(public->topic),
                             PG_INT4(public->partition), PG_INT8(public->offset),
                             PG_BYTEA(public->hash), PG_BYTEA(public->key),
                             PG_BYTEA(public->payload), PG_ARRAY(&headers)),
                     NULL, err);
    pg_array_clear(&headers);
    return rc;
}

/* What the handler has left behind must be our transaction, in good health. */
static int
check_transaction(struct saga_consumer *consumer, struct saga_error *err)
{
    PGconn *conn = consumer->pg.conn;

    if (PQstatus(conn) != CONNECTION_OK)
        return error_set(err, SAGA_EDB, "the connection was lost inside the handler");
    if (PQpipelineStatus(conn) != PQ_PIPELINE_OFF)
        return error_set(err, SAGA_ESTATE, "the handler has left the connection in pipeline mode");
    switch (PQtransactionStatus(conn)) {
    case PQTRANS_INTRANS:
        return 0;
    case PQTRANS_IDLE:
        return error_set(err, SAGA_ESTATE,
                         "the handler has ended the transaction, which it must not");
    case PQTRANS_INERROR:
        return error_set(err, SAGA_EDB,
                         "a statement of the handler failed, and it returned success");
    default:
        return error_set(err, SAGA_ESTATE, "the handler has left results unread");
    }
}

/* Whatever it says that is no answer is an error, and a code that means
 * something among ourselves means nothing in its mouth. */
static int
judge_answer(struct saga_consumer *consumer, const struct consumer_route *route, int rc,
             struct saga_error *err)
{
    if (rc == 0)
        return check_transaction(consumer, err);
    if (rc == SAGA_HANDLER_RETRY || (rc == ROUTE_QUARANTINE && route->handle != NULL))
        return rc;
    if (rc > 0 || err->message[0] == '\0')
        error_set(err, rc, "the handler returned %d", rc);
    err->code = rc > 0 ? SAGA_ESTATE : rc;
    return rc == SAGA_EFENCED || rc == SAGA_EUNKNOWN ? SAGA_EDB : err->code;
}

int
call_handler(struct saga_consumer *consumer, const struct consumer_route *route,
             const struct saga_record *record, int32_t verdict, struct saga_error *err)
{
    PGconn *conn = consumer->pg.conn;
    int rc;

    error_clear(err);
    PQsetnonblocking(conn, 0);
    if (route->many != NULL)
        rc = route->many(conn, &record, 1, route->user, err);
    else if (route->plain != NULL)
        rc = route->plain(conn, record, route->user, err);
    else
        rc = route->handle(conn, record, verdict, route->user, err);
    CRASH_POINT("consumer.after_handler");
    return judge_answer(consumer, route, rc, err);
}

int
call_handler_of_many(struct saga_consumer *consumer, const struct consumer_route *route,
                     const struct saga_record *const *records, size_t n, struct saga_error *err)
{
    int rc;

    error_clear(err);
    PQsetnonblocking(consumer->pg.conn, 0);
    rc = route->many(consumer->pg.conn, records, n, route->user, err);
    return judge_answer(consumer, route, rc, err);
}
