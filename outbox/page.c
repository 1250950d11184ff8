/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of a page, in few pieces, which the next page uses again: each large
 * piece that is freed would make the allocator look through all the small ones.
 */
#include "outbox/page.h"

#include "base/pg.h"

#include <stdlib.h>
#include <string.h>

struct block {
    struct block *next;
    uint8_t *row; /* one that is too large to be copied, as it came; else NULL */
    size_t used, room;
    uint8_t bytes[];
};
enum { FIRST_BLOCK = 16 << 10, LARGEST_BLOCK = 1 << 20, COPIED_ROW = 4 << 10 };

static struct block *
push(struct block *block, struct block *list)
{
    block->next = list;
    return block;
}

static void
free_blocks(struct block *blocks)
{
    while (blocks != NULL) {
        struct block *block = blocks;

        blocks = block->next;
        if (block->row != NULL)
            pg_copy_free(block->row);
        free(block);
    }
}

void
pages_free(struct page *pages)
{
    while (pages != NULL) {
        struct page *page = pages;

        pages = page->next;
        free_blocks(page->blocks);
        free_blocks(page->unused);
        free(page->rows);
        free(page);
    }
}

void
page_empty(struct page *page)
{
    while (page->blocks != NULL) {
        struct block *block = page->blocks;

        page->blocks = block->next;
        block->used = 0;
        if (block->row == NULL)
            page->unused = push(block, page->unused);
        else
            free_blocks(push(block, NULL));
    }
    page->n = page->bytes = page->produced = 0;
}

static struct block *
new_block(size_t room)
{
    struct block *block = malloc(sizeof *block + room);

    if (block != NULL)
        *block = (struct block){ .room = room };
    return block;
}

/* Takes over `row`, behind the block that is being filled. */
static uint8_t *
keep_large(struct page *page, uint8_t *row)
{
    struct block *block = new_block(0);

    if (block == NULL)
        return NULL;
    block->row = row;
    if (page->blocks == NULL)
        page->blocks = block;
    else
        page->blocks->next = push(block, page->blocks->next);
    return row;
}

/* With room for `len` bytes; NULL: out of memory. */
static struct block *
block_to_fill(struct page *page, size_t len)
{
    struct block *block = page->blocks;
    size_t room;

    if (block != NULL && block->room - block->used >= len)
        return block;
    room = block == NULL || block->room == 0 ? FIRST_BLOCK : block->room * 2;
    block = page->unused;
    if (block != NULL)
        page->unused = block->next;
    else
        block = new_block(room < LARGEST_BLOCK ? room : LARGEST_BLOCK);
    return block == NULL ? NULL : (page->blocks = push(block, page->blocks));
}

/* Takes over `row`; NULL: out of memory, and it is still the caller's. */
static uint8_t *
keep(struct page *page, uint8_t *row, size_t len)
{
    struct block *block;
    uint8_t *kept;

    if (len > COPIED_ROW)
        return keep_large(page, row);
    block = block_to_fill(page, len);
    if (block == NULL)
        return NULL;
    kept = block->bytes + block->used;
    memcpy(kept, row, len);
    block->used += len;
    pg_copy_free(row);
    return kept;
}

bool
page_add_row(struct page *page, uint8_t *data, size_t len, int64_t seq)
{
    if (page->n == page->room) {
        size_t room = page->room > 0 ? page->room * 2 : 64;
        struct row *grown = realloc(page->rows, room * sizeof *grown);

        if (grown == NULL)
            return false;
        page->rows = grown;
        page->room = room;
    }
    data = keep(page, data, len);
    if (data == NULL)
        return false;
    page->rows[page->n++] = (struct row){ data, seq };
    page->bytes += len;
    return true;
}
