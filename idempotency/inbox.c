/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inbox row of a message, in the caller's transaction.
 *
 * Owns the decision new, duplicate or conflict. Knows nothing of Kafka or
 * Redis, and neither begins nor ends a transaction.
 */
#include "base/pg.h"
#include "idempotency/sql.h"

#include <saga/inbox.h>
#include <string.h>

static int
check_arguments(PGconn *tx, const char *consumer, const struct saga_record *record,
                const int32_t *verdict, struct saga_error *err)
{
    static const struct saga_uuid none;

    error_clear(err);
    if (tx == NULL)
        return error_set(err, SAGA_EINVAL, "`tx` is NULL");
    if (consumer == NULL || *consumer == '\0')
        return error_set(err, SAGA_EINVAL, "no consumer: name the group that reads the message");
    if (record == NULL || verdict == NULL)
        return error_set(err, SAGA_EINVAL, "`record` or `verdict` is NULL");
    if (memcmp(&record->id, &none, sizeof none) == 0)
        return error_set(err, SAGA_EINVAL, "the record has no id: set it from its message-id");
    if (record->topic == NULL || *record->topic == '\0')
        return error_set(err, SAGA_EINVAL, "the record has no topic");
    if (PQpipelineStatus(tx) != PQ_PIPELINE_OFF)
        return error_set(err, SAGA_EINVAL, "`tx` is in pipeline mode; leave it first");
    if (PQtransactionStatus(tx) == PQTRANS_IDLE)
        return error_set(err, SAGA_ENOTX, "no transaction is open; call saga_begin() first");
    return 0;
}

/* The row that stood against ours: is it the same message? */
static int
compare(struct pg *pg, const struct pg_arg *args, int32_t *verdict, struct saga_error *err)
{
    struct pg_rows rows = PG_ROWS_INIT;
    int rc = pg_exec(pg, SQL_INBOX_FIND, args, 3, &rows, err);

    if (rc == 0 && rows.n == 0) {
        /* Taken away since (cleaning up, an operator): ask once more. */
        error_set(err, SAGA_EDB, "the inbox row has just been removed");
        rc = error_flag(err, SAGA_EDB, SAGA_ERR_RETRIABLE);
    }
    if (rc == 0)
        *verdict = pg_bool(&rows, 0, 0) ? SAGA_INBOX_DUPLICATE : SAGA_INBOX_CONFLICT;
    pg_rows_clear(&rows);
    return rc;
}

int
saga_inbox_enter(PGconn *tx, const char *consumer, const struct saga_record *record,
                 int32_t *verdict, struct saga_error *err)
{
    static const struct saga_bytes no_hash = { "", 0 };
    struct pg pg = pg_borrow(tx);
    struct pg_rows rows = PG_ROWS_INIT;
    int rc = check_arguments(tx, consumer, record, verdict, err);

    if (rc != 0)
        return rc;

    const struct pg_arg args[] = {
        PG_TEXT(consumer),
        PG_UUID(&record->id),
        PG_BYTEA(record->hash.data != NULL ? record->hash : no_hash),
        PG_TEXT(record->topic),
        PG_INT4(record->partition),
        PG_INT8(record->offset),
    };

    rc = pg_exec(&pg, SQL_INBOX_INSERT, args, 6, &rows, err);
    if (rc == 0 && rows.affected == 1)
        *verdict = SAGA_INBOX_NEW;
    else if (rc == 0)
        rc = compare(&pg, args, verdict, err);
    pg_rows_clear(&rows);
    return rc;
}
