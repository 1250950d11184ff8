/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inbox row of a message, in the caller's transaction.
 */
#include "idempotency/inbox.h"

#include "idempotency/sql.h"

#include <string.h>

int
inbox_verdict(const char *text, int32_t *verdict, struct saga_error *err)
{
    static const char *const texts[] = {
        [SAGA_INBOX_NEW] = "fresh",      [SAGA_INBOX_DUPLICATE] = "duplicate",
        [SAGA_INBOX_CONFLICT] = "other", [SAGA_INBOX_BELOW] = "below",
        [SAGA_INBOX_FUTURE] = "future",
    };

    for (int32_t i = 0; i < (int32_t)(sizeof texts / sizeof *texts); i++) {
        if (strcmp(text, texts[i]) == 0) {
            *verdict = i;
            return 0;
        }
    }
    return error_set(err, SAGA_ESCHEMA,
                     "idempotency.receive() answers \"%.32s\", which this version "
                     "does not know",
                     text);
}

int
inbox_enter(struct pg *pg, const char *consumer, const struct saga_record *record, int32_t *verdict,
            struct saga_error *err)
{
    static const struct saga_bytes no_hash = { "", 0 };
    struct pg_rows rows = PG_ROWS_INIT;
    int rc = pg_exec(pg, SQL_INBOX_RECEIVE,
                     PG_ARGS(PG_TEXT(consumer), PG_UUID(&record->id),
                             PG_BYTEA(record->hash.data != NULL ? record->hash : no_hash),
                             PG_TEXT(record->topic), PG_INT4(record->partition),
                             PG_INT8(record->offset)),
                     &rows, err);

    if (rc == 0)
        rc = inbox_verdict(pg_text(&rows, 0, 0), verdict, err);
    pg_rows_clear(&rows);
    return rc;
}
