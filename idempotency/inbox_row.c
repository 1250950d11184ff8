/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inbox row of a message, in the caller's transaction.
 */
#include "idempotency/inbox.h"

#include "idempotency/sql.h"

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
inbox_enter(struct pg *pg, const char *consumer, const struct saga_record *record, int32_t *verdict,
            struct saga_error *err)
{
    static const struct saga_bytes no_hash = { "", 0 };
    const struct pg_arg args[] = {
        PG_TEXT(consumer),
        PG_UUID(&record->id),
        PG_BYTEA(record->hash.data != NULL ? record->hash : no_hash),
        PG_TEXT(record->topic),
        PG_INT4(record->partition),
        PG_INT8(record->offset),
    };
    struct pg_rows rows = PG_ROWS_INIT;
    int rc = pg_exec(pg, SQL_INBOX_INSERT, args, 6, &rows, err);

    if (rc == 0 && rows.affected == 1)
        *verdict = SAGA_INBOX_NEW;
    else if (rc == 0)
        rc = compare(pg, args, verdict, err);
    pg_rows_clear(&rows);
    return rc;
}
