/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The statements that move the stream's cursor.
 */
#include "outbox/cursor.h"

#include "base/clock.h"
#include "base/crash.h"
#include "outbox/sql.h"
#include "outbox/watch_sql.h"

#include <stdlib.h>
#include <string.h>

enum { FENCE_ARGS = 8, ARGS_MAX = FENCE_ARGS + 6 };
enum { RETURNED_WANTED, RETURNED_FLOOR_XID, RETURNED_CUR_FLOOR_XID };

void
cursor_clear(struct cursor *cursor)
{
    free(cursor->prev);
    free(cursor->cur);
    cursor->prev = cursor->cur = NULL;
}

int
cursor_read(struct cursor *cursor, const struct pg_rows *rows, int column, struct saga_error *err)
{
    const char *cur = pg_text(rows, 0, column + 3);

    cursor_clear(cursor);
    cursor->prev = strdup(pg_text(rows, 0, column));
    cursor->cur = cur != NULL ? strdup(cur) : NULL;
    cursor->floor_seq = pg_int(rows, 0, column + 1);
    cursor->floor_xid = (uint64_t)pg_int(rows, 0, column + 2);
    cursor->cur_floor_seq = pg_int(rows, 0, column + 4);
    cursor->cur_floor_xid = (uint64_t)pg_int(rows, 0, column + 5);
    cursor->last_seq = pg_int(rows, 0, column + 6);
    if (cursor->prev == NULL || (cur != NULL && cursor->cur == NULL))
        return error_set(err, SAGA_ENOMEM, "out of memory");
    return 0;
}

/* Runs `statement`, and before it, in the same transaction, stores the ranges.
 * Both begin with stream, owner and epoch. */
static int
exec_with_ranges(struct cursor *cursor, struct pg *pg, const struct pg_statement *statement,
                 struct saga_error *err)
{
    struct range_columns columns;
    int rc;

    if (cursor->ranges.failed)
        return error_set(err, SAGA_ENOMEM, "out of memory for ranges of offsets");
    range_columns_init(&columns, &cursor->ranges);
    {
        const struct pg_arg args[] = {
            statement->args[0],
            statement->args[1],
            statement->args[2],
            PG_ARRAY(&columns.topics),
            PG_ARRAY(&columns.partitions),
            PG_ARRAY(&columns.first_seqs),
            PG_ARRAY(&columns.last_seqs),
            PG_ARRAY(&columns.first_offsets),
            PG_ARRAY(&columns.last_offsets),
        };
        const struct pg_statement both[] = {
            { .sql = SQL_RANGES_STORE, .args = args, .n_args = sizeof args / sizeof *args },
            *statement,
        };

        rc = pg_batch(pg, both, 2, err);
    }
    range_columns_clear(&columns);
    if (rc == 0)
        ranges_stored(&cursor->ranges);
    return rc;
}

/* Runs `sql`, whose first parameters are the fence and whose next are `more`. */
static int
write_row(struct cursor *cursor, struct pg *pg, const char *sql, bool durable,
          const struct pg_arg *more, int n_more, struct pg_rows *rows, struct saga_error *err)
{
    struct pg_arg args[ARGS_MAX] = {
        PG_INT4(cursor->stream),   PG_UUID(&cursor->owner),
        PG_INT8(cursor->epoch),    PG_TEXT(cursor->prev),
        PG_TEXT(cursor->cur),      PG_INT8(cursor->last_seq),
        PG_INT8(cursor->lease_ms), PG_TEXT(durable ? "on" : "off"),
    };
    const struct pg_statement statement = {
        .sql = sql, .args = args, .n_args = FENCE_ARGS + n_more, .rows = rows
    };
    int64_t before = clock_mono_ms();
    int rc;

    for (int i = 0; i < n_more; i++)
        args[FENCE_ARGS + i] = more[i];
    if (ranges_pending(&cursor->ranges))
        rc = exec_with_ranges(cursor, pg, &statement, err);
    else
        rc = pg_exec(pg, sql, args, FENCE_ARGS + n_more, rows, err);
    if (rc != 0)
        return rc;

    /* No row: another relay took the stream over while we were publishing.
     * What we sent is a duplicate now, which consumers tolerate; writing our
     * older cursor over the new owner's would lose messages, so stop. */
    if (rows->affected == 0)
        return error_set(err, SAGA_EFENCED,
                         "stream %d has a new owner, or the number of streams was changed; this "
                         "relay stops",
                         cursor->stream);
    cursor->renewed_ms = before;
    cursor->wanted = pg_bool(rows, 0, RETURNED_WANTED);
    return 0;
}

/* Makes `text` the value of `*place`. */
static int
replace(char **place, const char *text, struct saga_error *err)
{
    char *copy = strdup(text);

    if (copy == NULL)
        return error_set(err, SAGA_ENOMEM, "out of memory");
    free(*place);
    *place = copy;
    return 0;
}

int
cursor_begin(struct cursor *cursor, struct pg *pg, const char *cur, int64_t seq, bool durable,
             struct saga_error *err)
{
    struct pg_rows rows = PG_ROWS_INIT;
    int rc;

    CRASH_POINT("relay.before_begin");
    rc = write_row(cursor, pg, SQL_CURSOR_BEGIN, durable, PG_ARGS(PG_TEXT(cur), PG_INT8(seq)),
                   &rows, err);
    if (rc == 0)
        rc = replace(&cursor->cur, cur, err);
    if (rc == 0) {
        cursor->cur_floor_seq = seq;
        cursor->cur_floor_xid = (uint64_t)pg_int(&rows, 0, RETURNED_CUR_FLOOR_XID);
        cursor->last_seq = 0;
    }
    pg_rows_clear(&rows);
    CRASH_POINT("relay.after_begin");
    return rc;
}

int
cursor_advance(struct cursor *cursor, struct pg *pg, int64_t seq, struct saga_error *err)
{
    struct pg_rows rows = PG_ROWS_INIT;
    int rc;

    CRASH_POINT("relay.before_advance");
    rc = write_row(cursor, pg, SQL_CURSOR_ADVANCE, false, PG_ARGS(PG_INT8(seq)), &rows, err);
    if (rc == 0)
        cursor->last_seq = seq;
    pg_rows_clear(&rows);
    CRASH_POINT("relay.after_advance");
    return rc;
}

int
cursor_park(struct cursor *cursor, struct pg *pg, int64_t seq, struct pg_array *seqs,
            struct pg_array *errors, struct saga_error *err)
{
    struct pg_rows rows = PG_ROWS_INIT;
    int rc;

    CRASH_POINT("parked.before_store");
    rc = write_row(cursor, pg, SQL_CURSOR_PARK, false,
                   PG_ARGS(PG_INT8(seq), PG_ARRAY(seqs), PG_ARRAY(errors)), &rows, err);
    if (rc == 0)
        cursor->last_seq = seq;
    pg_rows_clear(&rows);
    CRASH_POINT("parked.after_store");
    return rc;
}

int
cursor_finish(struct cursor *cursor, struct pg *pg, struct saga_error *err)
{
    struct pg_rows rows = PG_ROWS_INIT;
    int rc;

    CRASH_POINT("relay.before_finish");
    rc = write_row(cursor, pg, SQL_CURSOR_FINISH, false, PG_NO_ARGS, &rows, err);
    if (rc == 0) {
        free(cursor->prev);
        cursor->prev = cursor->cur;
        cursor->cur = NULL;
        cursor->floor_seq = cursor->cur_floor_seq;
        cursor->floor_xid = cursor->cur_floor_xid;
        cursor->last_seq = 0;
    }
    pg_rows_clear(&rows);
    CRASH_POINT("relay.after_finish");
    return rc;
}

int
cursor_skip(struct cursor *cursor, struct pg *pg, const char *cur, int64_t seq,
            struct saga_error *err)
{
    struct pg_rows rows = PG_ROWS_INIT;
    int rc = write_row(cursor, pg, SQL_CURSOR_SKIP, false, PG_ARGS(PG_TEXT(cur), PG_INT8(seq)),
                       &rows, err);

    if (rc == 0)
        rc = replace(&cursor->prev, cur, err);
    if (rc == 0) {
        cursor->floor_seq = seq;
        cursor->floor_xid = (uint64_t)pg_int(&rows, 0, RETURNED_FLOOR_XID);
    }
    pg_rows_clear(&rows);
    return rc;
}

int
cursor_write(struct cursor *cursor, struct pg *pg, const char *sql, const struct pg_arg *more,
             int n_more, struct pg_rows *rows, struct saga_error *err)
{
    return write_row(cursor, pg, sql, false, more, n_more, rows, err);
}

int
cursor_renew(struct cursor *cursor, struct pg *pg, struct saga_error *err)
{
    struct pg_rows rows = PG_ROWS_INIT;
    int rc = write_row(cursor, pg, SQL_CURSOR_RENEW, false, PG_NO_ARGS, &rows, err);

    pg_rows_clear(&rows);
    return rc;
}

int
cursor_release(struct cursor *cursor, struct pg *pg, struct saga_error *err)
{
    struct pg_rows rows = PG_ROWS_INIT;
    int rc;

    CRASH_POINT("relay.before_release");
    rc = write_row(cursor, pg, SQL_CURSOR_RELEASE, false, PG_NO_ARGS, &rows, err);
    pg_rows_clear(&rows);
    return rc;
}

bool
cursor_renewal_due(const struct cursor *cursor)
{
    return clock_mono_ms() - cursor->renewed_ms >= cursor->lease_ms / 3;
}
