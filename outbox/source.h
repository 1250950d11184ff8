/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The outbox as the relay reads it: looks whether there is something new, and
 * fetches the rows of a pair of snapshots in pages, in the order of seq.
 *
 * Owns the read by difference of snapshots (docs/decisions/0001-relay-read.md).
 * Writes nothing, keeps no transaction open, and knows nothing of Kafka.
 */
#ifndef OUTBOX_SOURCE_H
#define OUTBOX_SOURCE_H

#include "base/pg.h"
#include "outbox/cursor.h"
#include "outbox/page.h"

/* What is there at this moment. */
struct look {
    char *snapshot;
    int64_t seq;  /* where the sequence stands, read after the snapshot */
    bool at_risk; /* a crash could still erase what the snapshot shows */
};

void look_clear(struct look *look);
int source_look(struct look *look, struct pg *pg, struct saga_error *err);

struct row_fields {
    struct saga_uuid id;
    const char *topic;
    struct saga_bytes key, payload; /* data NULL: SQL NULL */
    struct saga_bytes headers;      /* see headers.h */
    int64_t created_us;             /* Unix microseconds */
};

void row_read(const struct row *row, struct row_fields *fields);

/* The same of a row that came otherwise, with the columns of SQL_PAGE_COLUMNS. */
void row_read_result(const struct pg_rows *rows, int n, struct row_fields *fields);

/* The rows of one pair, as far as they are read. */
struct source {
    struct pg *pg;
    int32_t page_rows, page_bytes;
    int32_t next_rows;       /* to ask for, so that page_bytes are not exceeded; 0: not known */
    int32_t stream, streams; /* which of how many */
    char *prev, *cur;
    char *late; /* xids, with commas */
    int64_t floor_seq;
    uint64_t floor_xid;
    int64_t last_seq;    /* read up to here */
    bool below;          /* there may be more rows below the floor */
    bool below_only;     /* there are: above it is not worth reading yet */
    bool more;           /* there may be more rows at all */
    struct page *page;   /* asked for */
    struct page *spares; /* given back */
};

void source_clear(struct source *source);

/* Begins to read the pair (from->prev, cur), behind `last_seq`. */
int source_open(struct source *source, const struct cursor *from, const char *cur, int64_t last_seq,
                struct saga_error *err);

/* Asks for the next page; nothing else may be sent on the connection until
 * source_receive() has taken it in. Only if `more`. */
int source_request(struct source *source, struct saga_error *err);
bool source_requested(const struct source *source);
int source_receive(struct source *source, struct page **page, struct saga_error *err);

/* A page that its user is done with: its memory serves another one. */
void source_give_back(struct source *source, struct page *page);

#endif
