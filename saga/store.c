/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loading instances. (Saving them: store_save.c.)
 */
#include "saga/store.h"

#include "saga/sql.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The columns of SQL_INSTANCE_COLUMNS, in their order. */
enum {
    COLUMN_ID,
    COLUMN_VERSION,
    COLUMN_MATCHES,
    COLUMN_REQUEST,
    COLUMN_REQUEST_REASON,
    COLUMN_STATE,
    COLUMN_REASON,
    COLUMN_STEP_STATES,
    COLUMN_STEP_ATTEMPTS,
    COLUMN_STEP_DUE,
    COLUMN_DEADLINE,
    COLUMN_UNDO_DEADLINE,
    COLUMN_OVERDUE,
    COLUMN_VALUES,
    COLUMN_NOW
};

/* --- reading a row ------------------------------------------------------------- */

static void
read_steps(struct instance *instance, const struct pg_rows *rows, int row, bool *known)
{
    struct pg_elements states = pg_elements_of(pg_bytes(rows, row, COLUMN_STEP_STATES));
    struct pg_elements attempts = pg_elements_of(pg_bytes(rows, row, COLUMN_STEP_ATTEMPTS));
    struct pg_elements dues = pg_elements_of(pg_bytes(rows, row, COLUMN_STEP_DUE));
    struct saga_bytes state, attempt, due;
    size_t n = 0;

    while (pg_elements_next(&states, &state) && pg_elements_next(&attempts, &attempt) &&
           pg_elements_next(&dues, &due)) {
        struct step_now *step = &instance->steps[n];

        if (n == SAGA_STEPS_MAX || state.data == NULL || attempt.len != 4 ||
            !step_state_parse(&step->state, state.data, state.len)) {
            *known = false;
            return;
        }
        step->attempt = (int32_t)get_u32(attempt.data);
        step->due_us = due.data != NULL ? (int64_t)get_u64(due.data) + PG_EPOCH_US : 0;
        n++;
    }
    instance->n_steps = n;
}

static enum store_request
read_request(const char *word)
{
    if (word == NULL)
        return REQUEST_NONE;
    return strcmp(word, "cancel") == 0 ? REQUEST_CANCEL : REQUEST_RESUME;
}

static int
read_row(struct stored *stored, const struct definition *definition, const struct pg_rows *rows,
         int row, struct saga_error *err)
{
    struct instance *instance = &stored->instance;
    const char *reason = pg_text(rows, row, COLUMN_REASON);
    bool known;

    *stored = (struct stored){ .id = pg_uuid(rows, row, COLUMN_ID),
                               .version = pg_int(rows, row, COLUMN_VERSION),
                               .request = read_request(pg_text(rows, row, COLUMN_REQUEST)),
                               .request_reason = pg_text(rows, row, COLUMN_REQUEST_REASON),
                               .values = pg_bytes(rows, row, COLUMN_VALUES) };
    instance->deadline_us = pg_time_us(rows, row, COLUMN_DEADLINE);
    instance->undo_deadline_us = pg_time_us(rows, row, COLUMN_UNDO_DEADLINE);
    instance->overdue = pg_bool(rows, row, COLUMN_OVERDUE);
    snprintf(instance->reason, sizeof instance->reason, "%s", reason != NULL ? reason : "");
    known = instance_state_parse(&instance->state, pg_text(rows, row, COLUMN_STATE));
    read_steps(instance, rows, row, &known);
    if (!known)
        return error_set(err, SAGA_ESCHEMA,
                         "a saga has a state that this library does not know: it is older than "
                         "the schema");
    stored->matches =
        pg_bool(rows, row, COLUMN_MATCHES) && instance->n_steps == definition->n_steps;
    return 0;
}

int
store_batch_read(struct store_batch *batch, const struct definition *definition,
                 struct pg_rows *rows, struct saga_error *err)
{
    struct store_batch read = { .rows = *rows, .n = (size_t)rows->n };
    int rc = 0;

    read.stored = calloc(read.n > 0 ? read.n : 1, sizeof *read.stored);
    if (read.stored == NULL)
        rc = error_set(err, SAGA_ENOMEM, "out of memory");
    for (int row = 0; rc == 0 && row < rows->n; row++)
        rc = read_row(&read.stored[row], definition, rows, row, err);
    if (rc != 0) {
        store_batch_clear(&read);
        return rc;
    }
    read.now_us = rows->n > 0 ? pg_time_us(rows, 0, COLUMN_NOW) : 0;
    *batch = read;
    return 0;
}

void
store_batch_clear(struct store_batch *batch)
{
    pg_rows_clear(&batch->rows);
    free(batch->stored);
    *batch = (struct store_batch){ .rows = PG_ROWS_INIT };
}

/* --- asking for them -------------------------------------------------------------- */

int
store_find_due(struct pg *pg, const struct definition *definition, size_t limit,
               struct store_due *due, size_t *n, struct saga_error *err)
{
    struct pg_rows rows = PG_ROWS_INIT;
    const struct pg_arg args[] = { PG_TEXT(definition->name), PG_INT8((int64_t)limit),
                                   PG_TEXT(definition->digest) };
    const struct pg_statement statements[] = {
        { .sql = SQL_BEGIN },
        { .sql = SQL_DUE, .args = args, .n_args = 3, .rows = &rows },
        { .sql = "ROLLBACK" },
    };
    int rc = pg_batch(pg, statements, 3, err);

    if (rc == 0) {
        for (int row = 0; row < rows.n; row++)
            due[row] = (struct store_due){ pg_uuid(&rows, row, 0), pg_int(&rows, row, 1) };
        *n = (size_t)rows.n;
    }
    pg_rows_clear(&rows);
    return rc;
}

int
store_take(struct pg *pg, const struct definition *definition, const struct store_due *due,
           int32_t lease_ms, struct store_batch *batch, struct saga_error *err)
{
    struct pg_rows rows = PG_ROWS_INIT;
    const struct pg_arg lease_args[] = { PG_INT4(lease_ms) };
    const struct pg_arg take_args[] = { PG_TEXT(definition->name), PG_TEXT(definition->digest),
                                        PG_UUID(&due->id), PG_INT8(due->version) };
    const struct pg_statement statements[] = {
        { .sql = SQL_BEGIN },
        { .sql = SQL_LEASE, .args = lease_args, .n_args = 1 },
        { .sql = SQL_TAKE, .args = take_args, .n_args = 4, .rows = &rows },
    };
    int rc = pg_batch(pg, statements, 3, err);

    if (rc != 0) {
        pg_rows_clear(&rows);
        return rc;
    }
    return store_batch_read(batch, definition, &rows, err);
}

int
store_load(struct pg *pg, const struct definition *definition, const struct saga_uuid *ids,
           size_t n, struct store_batch *batch, struct saga_error *err)
{
    struct pg_rows rows = PG_ROWS_INIT;
    struct pg_array array;
    int rc;

    pg_array_init(&array, PG_OID_UUID_ARRAY);
    for (size_t i = 0; i < n; i++)
        pg_array_add(&array, ids[i].bytes, sizeof ids[i].bytes);
    if (array.bytes.failed)
        rc = error_set(err, SAGA_ENOMEM, "out of memory");
    else
        rc = pg_exec(
            pg, SQL_LOAD,
            PG_ARGS(PG_TEXT(definition->name), PG_TEXT(definition->digest), PG_ARRAY(&array)),
            &rows, err);
    pg_array_clear(&array);
    return rc != 0 ? rc : store_batch_read(batch, definition, &rows, err);
}
