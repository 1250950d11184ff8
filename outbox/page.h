/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A page: rows as they came from the server, kept until they are published.
 * What is in them, source.h knows.
 */
#ifndef OUTBOX_PAGE_H
#define OUTBOX_PAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A row, valid as long as its page. */
struct row {
    uint8_t *data; /* as binary COPY sends it */
    int64_t seq;
};

struct page {
    struct row *rows;     /* in the order of seq */
    struct block *blocks; /* where they lie; the first one is being filled */
    struct block *unused; /* of an earlier use of this page */
    size_t n, room;
    size_t bytes;
    size_t produced; /* for its user: how many were handed on */
    struct page *next;
};

/* Takes over `data`, which pg_copy_receive() gave. False: out of memory, and it
 * is still the caller's. */
bool page_add_row(struct page *page, uint8_t *data, size_t len, int64_t seq);

/* For new rows, with the memory that it has. */
void page_empty(struct page *page);

/* All of a list. */
void pages_free(struct page *pages);

#endif
