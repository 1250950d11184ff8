/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What sagactl prints: tables for people, JSON for programs. JSON is made by
 * PostgreSQL; texts are shown without the control characters that they hold.
 */
#include "ops/output.h"

#include <stdlib.h>
#include <string.h>

enum { EXCERPT_LINES = 4, GAP = 2 };

/* Whoever writes a reason or a key must not be able to write to the operator's
 * terminal: bytes of C0 and DEL, and the two bytes of a C1 character. */
static void
print_text(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];

        if (c == 0xC2 && i + 1 < len && (unsigned char)text[i + 1] < 0xA0) {
            putchar('?');
            i++;
        } else {
            putchar(c == '\n' || c == '\t' ? ' ' : c < 0x20 || c == 0x7F ? '?' : c);
        }
    }
}

/* Of East Asia's characters and pictures, which are two columns wide, and marks
 * that are put above others; the rest is taken for one column. */
static int
columns_of(unsigned long c)
{
    static const struct {
        unsigned long first, last;
        int columns;
    } ranges[] = {
        { 0x300, 0x36F, 0 },     { 0x1100, 0x115F, 2 },   { 0x200B, 0x200F, 0 },
        { 0x2E80, 0xA4CF, 2 },   { 0xAC00, 0xD7A3, 2 },   { 0xF900, 0xFAFF, 2 },
        { 0xFE30, 0xFE6F, 2 },   { 0xFF00, 0xFF60, 2 },   { 0xFFE0, 0xFFE6, 2 },
        { 0x1F300, 0x1FAFF, 2 }, { 0x20000, 0x3FFFD, 2 },
    };

    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (c >= ranges[i].first && c <= ranges[i].last)
            return ranges[i].columns;
    return 1;
}

/* Columns on the terminal; PostgreSQL sends valid UTF-8. */
static int
width_of(const char *text)
{
    int width = 0;

    while (*text != '\0') {
        unsigned char lead = (unsigned char)*text++;
        unsigned long c = lead < 0xC0   ? lead
                          : lead < 0xE0 ? lead & 0x1F
                          : lead < 0xF0 ? lead & 0x0F
                                        : lead & 0x07;

        while (((unsigned char)*text & 0xC0) == 0x80)
            c = c << 6 | ((unsigned char)*text++ & 0x3F);
        width += columns_of(c);
    }
    return width;
}

static void
print_cell(const char *text, int width, bool last)
{
    print_text(text, strlen(text));
    for (int i = width_of(text); !last && i < width + GAP; i++)
        putchar(' ');
    if (last)
        putchar('\n');
}

/* `rows` holds (row number, column's name, value) in order; every row has the
 * same columns. */
static void
print_table(const struct pg_rows *rows)
{
    int columns = 0, *widths;

    while (columns < rows->n && pg_int(rows, columns, 0) == 1)
        columns++;
    widths = calloc((size_t)columns + 1, sizeof *widths);
    if (widths == NULL)
        return;
    for (int i = 0; i < columns; i++)
        widths[i] = width_of(pg_text(rows, i, 1));
    for (int i = 0; i < rows->n; i++)
        if (width_of(pg_text(rows, i, 2)) > widths[i % columns])
            widths[i % columns] = width_of(pg_text(rows, i, 2));
    for (int i = 0; i < columns; i++)
        print_cell(pg_text(rows, i, 1), widths[i], i + 1 == columns);
    for (int i = 0; i < rows->n; i++)
        print_cell(pg_text(rows, i, 2), widths[i % columns], i % columns + 1 == columns);
    free(widths);
}

static char *
wrap(const char *before, const char *sql, const char *after, struct saga_error *err)
{
    char *whole = NULL;

    if (asprintf(&whole, "%s%s%s", before, sql, after) < 0) {
        error_set(err, SAGA_ENOMEM, "out of memory");
        return NULL;
    }
    return whole;
}

int
output_json(struct pg *pg, const char *sql, const struct pg_arg *args, int n_args,
            struct saga_error *err)
{
    struct pg_rows rows = PG_ROWS_INIT;
    int rc = pg_exec(pg, sql, args, n_args, &rows, err);

    if (rc == 0 && rows.n == 1 && !pg_is_null(&rows, 0, 0))
        printf("%s\n", pg_text(&rows, 0, 0));
    pg_rows_clear(&rows);
    return rc;
}

/* The rows of `sql` as (row number, column's name, value). json keeps the order
 * of the columns, and makes a readable text of every type. */
static int
query_cells(struct pg *pg, const char *sql, const struct pg_arg *args, int n_args,
            struct pg_rows *rows, struct saga_error *err)
{
    char *whole = wrap("SELECT t.n, j.key, coalesce(j.value, '') FROM (SELECT pg_catalog.row_number"
                       "() OVER () AS n, pg_catalog.row_to_json(q) AS row FROM (",
                       sql,
                       ") AS q) AS t, pg_catalog.json_each_text(t.row) WITH ORDINALITY AS j"
                       " (key, value, place) ORDER BY t.n, j.place",
                       err);
    int rc = whole == NULL ? SAGA_ENOMEM : pg_exec(pg, whole, args, n_args, rows, err);

    free(whole);
    return rc;
}

static int
output_table(struct pg *pg, const char *sql, const struct pg_arg *args, int n_args,
             struct saga_error *err)
{
    struct pg_rows rows = PG_ROWS_INIT;
    int rc = query_cells(pg, sql, args, n_args, &rows, err);

    if (rc == 0 && rows.n > 0)
        print_table(&rows);
    else if (rc == 0)
        puts("(none)");
    pg_rows_clear(&rows);
    return rc;
}

static void
print_record(const struct pg_rows *rows)
{
    int width = 0;

    for (int i = 0; i < rows->n; i++)
        if (width_of(pg_text(rows, i, 1)) > width)
            width = width_of(pg_text(rows, i, 1));
    for (int i = 0; i < rows->n; i++) {
        if (i > 0 && pg_int(rows, i, 0) != pg_int(rows, i - 1, 0))
            putchar('\n');
        if (*pg_text(rows, i, 2) == '\0')
            continue;
        print_cell(pg_text(rows, i, 1), width, false);
        print_cell(pg_text(rows, i, 2), 0, true);
    }
}

static int
output_wrapped(struct pg *pg, const char *before, const char *sql, const struct pg_arg *args,
               int n_args, struct saga_error *err)
{
    char *whole = wrap(before, sql, ") AS q", err);
    int rc = whole == NULL ? SAGA_ENOMEM : output_json(pg, whole, args, n_args, err);

    free(whole);
    return rc;
}

int
output_record(struct pg *pg, bool json, const char *sql, const struct pg_arg *args, int n_args,
              struct saga_error *err)
{
    struct pg_rows rows = PG_ROWS_INIT;
    int rc;

    if (json)
        return output_wrapped(pg, "SELECT pg_catalog.row_to_json(q)::text FROM (", sql, args,
                              n_args, err);
    rc = query_cells(pg, sql, args, n_args, &rows, err);
    if (rc == 0)
        print_record(&rows);
    pg_rows_clear(&rows);
    return rc;
}

int
output_query(struct pg *pg, bool json, const char *sql, const struct pg_arg *args, int n_args,
             struct saga_error *err)
{
    if (!json)
        return output_table(pg, sql, args, n_args, err);
    return output_wrapped(pg, "SELECT coalesce(pg_catalog.json_agg(q), '[]')::text FROM (", sql,
                          args, n_args, err);
}

static void
print_lines(const char *text)
{
    while (*text != '\0') {
        size_t len = strcspn(text, "\n");

        print_text(text, len);
        putchar('\n');
        text += len + (text[len] != '\0');
    }
}

int
output_payloads(struct pg *pg, const char *sql, const struct pg_arg *args, int n_args,
                struct saga_error *err)
{
    struct pg_rows rows = PG_ROWS_INIT;
    int rc = pg_exec(pg, sql, args, n_args, &rows, err);

    for (int i = 0; rc == 0 && i < rows.n; i++) {
        if (pg_is_null(&rows, i, 0)) {
            puts("\nPAYLOAD: none (a tombstone)");
            continue;
        }
        puts(pg_bool(&rows, i, 1) ? "\nPAYLOAD (no text; in hexadecimal)" : "\nPAYLOAD");
        print_lines(pg_text(&rows, i, 0));
    }
    pg_rows_clear(&rows);
    return rc;
}

void
output_excerpt(FILE *file, const char *text, size_t len)
{
    const char *end = text + len;

    for (int i = 0; i < EXCERPT_LINES && text < end; i++) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        const char *stop = newline != NULL ? newline : end;

        fprintf(file, "    %.*s\n", (int)(stop - text), text);
        text = stop + 1;
    }
    if (text < end)
        fprintf(file, "    ...\n");
}
