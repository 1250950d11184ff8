/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inbox rows of many messages, by one statement.
 */
#include "idempotency/inbox_batch.h"

#include "idempotency/inbox.h"
#include "idempotency/sql.h"

void
inbox_batch_init(struct inbox_batch *batch, const char *consumer)
{
    *batch = (struct inbox_batch){ .n = 0 };
    pg_array_init(&batch->ids, PG_OID_UUID_ARRAY);
    pg_array_init(&batch->hashes, PG_OID_BYTEA_ARRAY);
    pg_array_init(&batch->topics, PG_OID_TEXT_ARRAY);
    pg_array_init(&batch->partitions, PG_OID_INT4_ARRAY);
    pg_array_init(&batch->offsets, PG_OID_INT8_ARRAY);
    batch->args[0] = PG_TEXT(consumer);
}

void
inbox_batch_add(struct inbox_batch *batch, const struct saga_record *record)
{
    pg_array_add(&batch->ids, record->id.bytes, sizeof record->id.bytes);
    pg_array_add(&batch->hashes, record->hash.data, record->hash.len);
    pg_array_add_text(&batch->topics, record->topic);
    pg_array_add_int4(&batch->partitions, record->partition);
    pg_array_add_int8(&batch->offsets, record->offset);
    batch->n++;
}

struct pg_statement
inbox_batch_enter(struct inbox_batch *batch)
{
    batch->args[1] = PG_ARRAY(&batch->ids);
    batch->args[2] = PG_ARRAY(&batch->hashes);
    batch->args[3] = PG_ARRAY(&batch->topics);
    batch->args[4] = PG_ARRAY(&batch->partitions);
    batch->args[5] = PG_ARRAY(&batch->offsets);
    return (struct pg_statement){
        .sql = SQL_INBOX_RECEIVE_MANY, .args = batch->args, .n_args = 6, .rows = &batch->rows
    };
}

int
inbox_batch_verdicts(const struct inbox_batch *batch, int32_t *verdicts, struct saga_error *err)
{
    size_t n = 0;
    int rc = 0;

    for (int i = 0; rc == 0 && i < batch->rows.n; i++)
        if (pg_int(&batch->rows, i, 0) == i + 1)
            rc = inbox_verdict(pg_text(&batch->rows, i, 1), &verdicts[n++], err);
    if (rc == 0 && (n != batch->n || (size_t)batch->rows.n != n))
        rc = error_set(err, SAGA_ESCHEMA,
                       "idempotency.receive() answers about %d messages, not about %zu",
                       batch->rows.n, batch->n);
    return rc;
}

void
inbox_batch_clear(struct inbox_batch *batch)
{
    pg_array_clear(&batch->ids);
    pg_array_clear(&batch->hashes);
    pg_array_clear(&batch->topics);
    pg_array_clear(&batch->partitions);
    pg_array_clear(&batch->offsets);
    pg_rows_clear(&batch->rows);
}
