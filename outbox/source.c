/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a pair of snapshots in pages.
 */
#include "outbox/source.h"

#include "outbox/snapshot.h"
#include "outbox/sql.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- is there something new? ------------------------------------------- */

void
look_clear(struct look *look)
{
    free(look->snapshot);
    look->snapshot = NULL;
}

int
source_look(struct look *look, struct pg *pg, struct saga_error *err)
{
    struct pg_rows rows = PG_ROWS_INIT;
    int rc = pg_exec(pg, SQL_LOOK, PG_NO_ARGS, &rows, err);

    if (rc != 0)
        return rc;
    look_clear(look);
    look->snapshot = strdup(pg_text(&rows, 0, 0));
    look->seq = pg_int(&rows, 0, 1);
    look->at_risk = pg_bool(&rows, 0, 2);
    if (look->snapshot == NULL)
        rc = error_set(err, SAGA_ENOMEM, "out of memory");
    pg_rows_clear(&rows);
    return rc;
}

/* --- rows -------------------------------------------------------------- */

/* A binary tuple: number of columns, then length and bytes of each. */
enum { N_COLUMNS = 7, BEFORE_COLUMNS = 2, NUMBER_LEN = 8 };

static struct saga_bytes
column_next(const uint8_t **at)
{
    uint32_t len = get_u32(*at);
    struct saga_bytes column = { *at + 4, len };

    if (len == UINT32_MAX)
        column = (struct saga_bytes){ NULL, 0 };
    *at += 4 + column.len;
    return column;
}

void
row_read(const struct row *row, struct row_fields *fields)
{
    const uint8_t *at = row->data + BEFORE_COLUMNS;

    column_next(&at); /* seq */
    memcpy(fields->id.bytes, column_next(&at).data, sizeof fields->id.bytes);
    fields->topic = column_next(&at).data;
    fields->headers = column_next(&at);
    fields->key = column_next(&at);
    fields->payload = column_next(&at);
    fields->created_us = (int64_t)get_u64(column_next(&at).data) + PG_EPOCH_US;
}

void
row_read_result(const struct pg_rows *rows, int n, struct row_fields *fields)
{
    enum { COL_SEQ, COL_ID, COL_TOPIC, COL_HEADERS, COL_KEY, COL_PAYLOAD, COL_CREATED };

    fields->id = pg_uuid(rows, n, COL_ID);
    fields->topic = pg_text(rows, n, COL_TOPIC);
    fields->headers = pg_bytes(rows, n, COL_HEADERS);
    fields->key = pg_bytes(rows, n, COL_KEY);
    fields->payload = pg_bytes(rows, n, COL_PAYLOAD);
    fields->created_us = pg_time_us(rows, n, COL_CREATED);
}

/* --- pages ------------------------------------------------------------- */

/* An empty one; NULL: out of memory. */
static struct page *
new_page(struct source *source)
{
    struct page *page = source->spares;

    if (page == NULL)
        return calloc(1, sizeof *page);
    source->spares = page->next;
    page->next = NULL;
    return page;
}

void
source_give_back(struct source *source, struct page *page)
{
    page_empty(page);
    page->next = source->spares;
    source->spares = page;
}

/* --- a pair ------------------------------------------------------------ */

void
source_clear(struct source *source)
{
    pages_free(source->page);
    pages_free(source->spares);
    free(source->prev);
    free(source->cur);
    free(source->late);
    *source = (struct source){ .pg = source->pg,
                               .page_rows = source->page_rows,
                               .page_bytes = source->page_bytes,
                               .next_rows = source->next_rows };
}

static int
find_late(struct source *source, struct saga_error *err)
{
    struct snapshot prev = { 0 }, cur = { 0 };
    struct buffer late = { 0 };
    uint64_t *xids = NULL;
    size_t n;
    int rc = 0;

    if (!snapshot_parse(&prev, source->prev) || !snapshot_parse(&cur, source->cur) ||
        (xids = malloc((prev.n_running + 1) * sizeof *xids)) == NULL) {
        rc = error_set(err, SAGA_ENOMEM, "out of memory for a snapshot");
        goto out;
    }
    n = snapshot_late(&prev, &cur, xids);
    for (size_t i = 0; i < n; i++) {
        char text[24];

        buffer_add(&late, text,
                   (size_t)snprintf(text, sizeof text, i > 0 ? ",%" PRIu64 : "%" PRIu64, xids[i]));
    }
    buffer_add(&late, "", 1);
    if (late.failed) {
        rc = error_set(err, SAGA_ENOMEM, "out of memory for a snapshot");
        buffer_clear(&late);
    }
    source->late = (char *)late.data;
out:
    free(xids);
    snapshot_clear(&prev);
    snapshot_clear(&cur);
    return rc;
}

int
source_open(struct source *source, const struct cursor *from, const char *cur, int64_t last_seq,
            struct saga_error *err)
{
    source_clear(source);
    source->prev = strdup(from->prev);
    source->cur = strdup(cur);
    if (source->prev == NULL || source->cur == NULL)
        return error_set(err, SAGA_ENOMEM, "out of memory");
    source->floor_xid = from->floor_xid;
    source->floor_seq = from->floor_seq;
    source->stream = from->stream;
    source->streams = from->streams;
    source->last_seq = last_seq;
    source->below = last_seq < from->floor_seq;
    source->more = true;
    return find_late(source, err);
}

/* The statement for what is to be read next: late rows, those at the edge, and
 * new ones, as far as there may be any. */
static const char *
statement_for(const struct source *source)
{
    enum { NEW, EDGE, EDGE_NEW, LATE_EDGE, LATE_EDGE_NEW };
    static const char *const whole[] = SQL_PAGES(SQL_OF_ALL_STREAMS);
    static const char *const of_stream[] = SQL_PAGES(SQL_OF_STREAM);
    bool late = source->late[0] != '\0';
    int parts = NEW;

    if (source->below)
        parts = source->below_only ? (late ? LATE_EDGE : EDGE) : late ? LATE_EDGE_NEW : EDGE_NEW;
    return source->streams > 1 ? of_stream[parts] : whole[parts];
}

/* Before anything is known, rows count as this large. */
enum { FIRST_GUESS_BYTES = 1024 };

int
source_request(struct source *source, struct saga_error *err)
{
    char *sql = NULL;
    int rc = 0;

    if (source->next_rows == 0)
        source->next_rows = source->page_bytes / FIRST_GUESS_BYTES;
    if (source->next_rows > source->page_rows)
        source->next_rows = source->page_rows;
    if (source->next_rows < 1)
        source->next_rows = 1;
    source->page = new_page(source);
    if (source->page == NULL ||
        asprintf(&sql, SQL_PAGE_SETTINGS "%s", source->next_rows, source->last_seq,
                 source->floor_seq, source->floor_xid, source->prev, source->cur, source->late,
                 source->stream, source->streams, statement_for(source)) < 0)
        rc = error_set(err, SAGA_ENOMEM, "out of memory");
    if (rc == 0)
        rc = pg_copy_send(source->pg, sql, err);
    if (rc != 0) {
        pages_free(source->page);
        source->page = NULL;
    }
    free(sql);
    return rc;
}

bool
source_requested(const struct source *source)
{
    return source->page != NULL;
}

struct taking {
    struct source *source;
    bool cut, failed;
};

/* Adds a row to the page that was asked for, unless it is full. */
static bool
take_row(void *user, uint8_t *data, size_t len)
{
    struct taking *taking = user;
    struct page *page = taking->source->page;
    int64_t seq;

    taking->cut = page->bytes >= (size_t)taking->source->page_bytes;
    taking->failed = len < BEFORE_COLUMNS + 4 + NUMBER_LEN || data[1] != N_COLUMNS;
    if (taking->cut || taking->failed)
        return false;
    seq = (int64_t)get_u64(data + BEFORE_COLUMNS + 4);
    if (!page_add_row(page, data, len, seq))
        return !(taking->failed = true);
    return true;
}

/* What is still to be read, now that a page has come: one that was cut short is
 * a beginning of the rest, in the order of seq. */
static void
move_on(struct source *source, bool cut)
{
    const struct page *page = source->page;
    bool ended = !cut && page->n < (size_t)source->next_rows;

    if (page->n > 0) {
        size_t rows = (size_t)(source->page_bytes - source->page_bytes / 8) /
                      (page->bytes / page->n + 1); /* they vary */

        source->last_seq = page->rows[page->n - 1].seq;
        source->next_rows = rows < (size_t)source->page_rows ? (int32_t)rows : source->page_rows;
    }
    source->more = !ended || source->below_only;
    source->below = source->below && !ended && source->last_seq < source->floor_seq;
    source->below_only = source->below;
}

int
source_receive(struct source *source, struct page **page, struct saga_error *err)
{
    struct taking taking = { .source = source };
    int rc = pg_copy_receive(source->pg, take_row, &taking, err);

    if (rc == 0 && taking.failed)
        rc = error_set(err, SAGA_ENOMEM, "out of memory, or a row that cannot be read");
    if (rc == 0) {
        move_on(source, taking.cut);
        *page = source->page;
    } else {
        pages_free(source->page);
    }
    source->page = NULL;
    return rc;
}
