/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting a saga in the caller's transaction, and asking where one stands.
 * The rules of starting are those of the SQL function saga.start(), so that
 * they are the same from every language.
 */
#include "base/pg.h"
#include "base/utf8.h"
#include "saga/definition.h"
#include "saga/sql.h"
#include "saga/state.h"
#include "saga/values.h"

#include <stdio.h>
#include <string.h>

static int
check_connection(PGconn *conn, struct saga_error *err)
{
    error_clear(err);
    if (conn == NULL)
        return error_set(err, SAGA_EINVAL, "no connection: it is NULL");
    if (PQpipelineStatus(conn) != PQ_PIPELINE_OFF)
        return error_set(err, SAGA_EINVAL, "the connection is in pipeline mode; leave it first");
    return 0;
}

static int
check_key(const char *key, struct saga_error *err)
{
    if (key == NULL || *key == '\0')
        return error_set(err, SAGA_EINVAL, "a saga needs a business key");
    if (strlen(key) > SAGA_BUSINESS_KEY_MAX)
        return error_set(err, SAGA_ELIMIT, "a business key has at most %d bytes",
                         SAGA_BUSINESS_KEY_MAX);
    if (!utf8_valid(key, strlen(key)))
        return error_set(err, SAGA_EINVAL, "the business key is not UTF-8");
    return 0;
}

static int
call_start(PGconn *tx, const char *definition, const char *key, struct pg_array *names,
           struct pg_array *texts, struct saga_uuid *id, struct saga_error *err)
{
    struct pg pg = pg_borrow(tx);
    struct pg_rows rows = PG_ROWS_INIT;
    char said[sizeof err->message];
    int rc;

    rc = pg_exec(&pg, SQL_START,
                 PG_ARGS(PG_TEXT(definition), PG_TEXT(key), PG_ARRAY(names), PG_ARRAY(texts)),
                 &rows, err);
    if (rc == 0 && id != NULL)
        *id = pg_uuid(&rows, 0, 0);
    pg_rows_clear(&rows);
    rc = values_raised(rc, err);
    if (rc == SAGA_ENOTFOUND) {
        memcpy(said, err->message, sizeof said);
        snprintf(err->message, sizeof err->message,
                 "%.180s: start a worker first (saga_worker_add registers it)", said);
    }
    return rc;
}

int
saga_start(PGconn *tx, const struct saga_definition *definition, const char *business_key,
           const struct saga_pair *values, struct saga_uuid *id, struct saga_error *err)
{
    struct definition read;
    struct pg_array names, texts;
    struct saga_error own;
    int rc;

    if (err == NULL)
        err = &own;
    if ((rc = check_connection(tx, err)) != 0 ||
        (rc = definition_read(&read, definition, DEFINITION_OF_SAGA, err)) != 0 ||
        (rc = check_key(business_key, err)) != 0)
        return rc;
    if (PQtransactionStatus(tx) == PQTRANS_IDLE)
        return error_set(err, SAGA_ENOTX,
                         "no transaction is open: a saga starts together with its business rows; "
                         "call saga_begin() first");
    pg_array_init(&names, PG_OID_TEXT_ARRAY);
    pg_array_init(&texts, PG_OID_TEXT_ARRAY);
    rc = values_take(&names, &texts, values, err);
    if (rc == 0)
        rc = call_start(tx, read.name, business_key, &names, &texts, id, err);
    pg_array_clear(&names);
    pg_array_clear(&texts);
    return rc;
}

int
saga_state(PGconn *conn, const struct saga_uuid *id, const char **state, struct saga_error *err)
{
    struct pg pg = pg_borrow(conn);
    struct pg_rows rows = PG_ROWS_INIT;
    enum instance_state found;
    int rc = check_connection(conn, err);

    if (rc != 0)
        return rc;
    if (id == NULL || state == NULL)
        return error_set(err, SAGA_EINVAL, "`id` or `state` is NULL");
    if ((rc = pg_exec(&pg, SQL_STATE, PG_ARGS(PG_UUID(id)), &rows, err)) != 0)
        return rc;
    if (rows.n == 0)
        rc = error_set(err, SAGA_ENOTFOUND, "there is no such saga in this database");
    else if (!instance_state_parse(&found, pg_text(&rows, 0, 0)))
        rc = error_set(err, SAGA_ESCHEMA, "a state that this library does not know");
    else
        *state = instance_state_name(found);
    pg_rows_clear(&rows);
    return rc;
}
