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

enum { COL_SEQ, COL_ID, COL_TOPIC, COL_KEY, COL_HEADERS, COL_PAYLOAD, COL_CREATED, COL_BYTES };

/* Skips what stands before the elements of a binary array (array_send of
 * PostgreSQL): dimensions, flag, element's type, length, lower bound. */
static struct saga_bytes
elements(struct saga_bytes array)
{
    enum { BEFORE = 20 };

    if (array.len < BEFORE)
        return (struct saga_bytes){ NULL, 0 };
    return (struct saga_bytes){ (const uint8_t *)array.data + BEFORE, array.len - BEFORE };
}

void
row_read(const struct row *row, struct row_fields *fields)
{
    fields->id = pg_uuid(row->rows, row->n, COL_ID);
    fields->topic = pg_text(row->rows, row->n, COL_TOPIC);
    fields->key = pg_bytes(row->rows, row->n, COL_KEY);
    fields->headers = elements(pg_bytes(row->rows, row->n, COL_HEADERS));
    fields->payload = pg_bytes(row->rows, row->n, COL_PAYLOAD);
    fields->created_us = pg_time_us(row->rows, row->n, COL_CREATED);
}

bool
headers_next(struct saga_bytes *headers, struct saga_bytes *text)
{
    const uint8_t *at = headers->data;
    uint32_t len;

    if (headers->len < 4)
        return false;
    len = get_u32(at);
    if (len > headers->len - 4)
        return false;
    *text = (struct saga_bytes){ at + 4, len };
    *headers = (struct saga_bytes){ at + 4 + len, headers->len - 4 - len };
    return true;
}

void
page_free(struct page *page)
{
    if (page == NULL)
        return;
    for (int i = 0; i < PAGE_PARTS; i++)
        pg_rows_clear(&page->parts[i]);
    free(page->rows);
    free(page);
}

/* --- a pair ------------------------------------------------------------ */

/* The statements of one page, which must stay until they are answered: the
 * settings, and behind them the parts. */
struct source_request {
    struct pg_statement statements[1 + PAGE_PARTS];
    struct pg_arg args[PAGE_PARTS][9];
    size_t n; /* parts */
    struct page *page;
};

static void
request_free(struct source_request *request)
{
    if (request != NULL)
        page_free(request->page);
    free(request);
}

void
source_clear(struct source *source)
{
    request_free(source->request);
    free(source->prev);
    free(source->cur);
    pg_array_clear(&source->late);
    *source = (struct source){ .pg = source->pg,
                               .page_rows = source->page_rows,
                               .page_bytes = source->page_bytes };
}

static int
find_late(struct source *source, struct saga_error *err)
{
    struct snapshot prev = { 0 }, cur = { 0 };
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

        snprintf(text, sizeof text, "%" PRIu64, xids[i]);
        pg_array_add_text(&source->late, text);
    }
    snprintf(source->prev_xmax, sizeof source->prev_xmax, "%" PRIu64, prev.xmax);
    if (source->late.bytes.failed)
        rc = error_set(err, SAGA_ENOMEM, "out of memory for a snapshot");
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
    pg_array_init(&source->late, PG_OID_TEXT_ARRAY);
    source->prev = strdup(from->prev);
    source->cur = strdup(cur);
    if (source->prev == NULL || source->cur == NULL)
        return error_set(err, SAGA_ENOMEM, "out of memory");
    snprintf(source->floor_xid, sizeof source->floor_xid, "%" PRIu64, from->floor_xid);
    source->floor_seq = from->floor_seq;
    source->stream = from->stream;
    source->streams = from->streams;
    source->last_seq = last_seq;
    source->below = last_seq < from->floor_seq;
    source->more = true;
    return find_late(source, err);
}

/* A statement of a page; `of_stream` is the same for one stream of several, with
 * the stream and their number as last parameters. */
struct part {
    const char *whole, *of_stream;
};
static const struct part part_late = { SQL_PAGE_LATE(SQL_OF_ALL_STREAMS),
                                       SQL_PAGE_LATE(SQL_OF_STREAM("$6", "$7")) };
static const struct part part_edge = { SQL_PAGE_EDGE(SQL_OF_ALL_STREAMS),
                                       SQL_PAGE_EDGE(SQL_OF_STREAM("$8", "$9")) };
static const struct part part_new = { SQL_PAGE_NEW(SQL_OF_ALL_STREAMS),
                                      SQL_PAGE_NEW(SQL_OF_STREAM("$6", "$7")) };

static void
add_statement(struct source *source, struct source_request *request, const struct part *part,
              const struct pg_arg *args, int n_args)
{
    struct pg_arg *all = request->args[request->n];
    int n = 0;

    all[n++] = PG_INT4(source->page_rows);
    all[n++] = PG_INT8(source->page_bytes);
    for (int i = 0; i < n_args; i++)
        all[n++] = args[i];
    if (source->streams > 1) {
        all[n++] = PG_INT4(source->stream);
        all[n++] = PG_INT4(source->streams);
    }
    request->statements[1 + request->n] =
        (struct pg_statement){ .sql = source->streams > 1 ? part->of_stream : part->whole,
                               .args = all,
                               .n_args = n,
                               .rows = &request->page->parts[request->n] };
    request->n++;
}

static void
add_statements(struct source *source, struct source_request *request)
{
    int64_t above = source->last_seq > source->floor_seq ? source->last_seq : source->floor_seq;

    if (source->below && source->late.n > 0)
        add_statement(source, request, &part_late,
                      PG_ARGS(PG_ARRAY(&source->late), PG_INT8(source->last_seq),
                              PG_INT8(source->floor_seq)));
    if (source->below)
        add_statement(source, request, &part_edge,
                      PG_ARGS(PG_TEXT(source->prev_xmax), PG_TEXT(source->floor_xid),
                              PG_INT8(source->last_seq), PG_INT8(source->floor_seq),
                              PG_TEXT(source->cur)));
    if (!source->below_only)
        add_statement(source, request, &part_new,
                      PG_ARGS(PG_INT8(above), PG_TEXT(source->prev), PG_TEXT(source->cur)));
}

int
source_request(struct source *source, struct saga_error *err)
{
    struct source_request *request = calloc(1, sizeof *request);
    int rc;

    if (request != NULL)
        request->page = calloc(1, sizeof *request->page);
    if (request == NULL || request->page == NULL) {
        request_free(request);
        return error_set(err, SAGA_ENOMEM, "out of memory");
    }
    request->statements[0] = (struct pg_statement){ .sql = SQL_PAGE_SETTINGS };
    add_statements(source, request);
    rc = pg_batch_send(source->pg, request->statements, 1 + request->n, err);
    if (rc != 0)
        request_free(request);
    else
        source->request = request;
    return rc;
}

bool
source_requested(const struct source *source)
{
    return source->request != NULL;
}

/* Whether the part stops before its end: by number of rows or by bytes. */
static bool
was_cut(const struct source *source, const struct pg_rows *rows)
{
    return rows->n > 0 && (rows->n >= source->page_rows ||
                           pg_int(rows, rows->n - 1, COL_BYTES) >= source->page_bytes);
}

static int
compare_rows(const void *a, const void *b)
{
    int64_t x = ((const struct row *)a)->seq, y = ((const struct row *)b)->seq;

    return (x > y) - (x < y);
}

/* Puts the parts together. Where a part was cut, what others have behind its
 * last row must wait for the rest of it. */
static int
merge(struct source *source, struct source_request *request, struct saga_error *err)
{
    struct page *page = request->page;
    int64_t end = INT64_MAX;
    size_t n = 0;

    source->more = source->below_only;
    for (size_t i = 0; i < request->n; i++) {
        const struct pg_rows *part = &page->parts[i];

        n += (size_t)part->n;
        if (was_cut(source, part)) {
            int64_t last = pg_int(part, part->n - 1, COL_SEQ);

            end = last < end ? last : end;
            source->more = true;
        }
    }
    page->rows = malloc((n > 0 ? n : 1) * sizeof *page->rows);
    if (page->rows == NULL)
        return error_set(err, SAGA_ENOMEM, "out of memory");
    for (size_t i = 0; i < request->n; i++)
        for (int row = 0; row < page->parts[i].n; row++) {
            int64_t seq = pg_int(&page->parts[i], row, COL_SEQ);

            if (seq <= end)
                page->rows[page->n++] = (struct row){ &page->parts[i], row, seq };
        }
    if (request->n > 1)
        qsort(page->rows, page->n, sizeof *page->rows, compare_rows);
    if (page->n > 0)
        source->last_seq = page->rows[page->n - 1].seq;
    source->below = source->below && end < source->floor_seq;
    source->below_only = source->below;
    return 0;
}

int
source_receive(struct source *source, struct page **page, struct saga_error *err)
{
    struct source_request *request = source->request;
    int rc = pg_batch_receive(source->pg, request->statements, 1 + request->n, err);

    if (rc == 0)
        rc = merge(source, request, err);
    if (rc == 0) {
        *page = request->page;
        request->page = NULL;
    }
    source->request = NULL;
    request_free(request);
    return rc;
}
