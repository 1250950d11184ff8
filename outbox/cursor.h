/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stream's row in outbox.stream: how far it is published, and who does it.
 *
 * Owns the statements that write the row. Each compares owner, epoch and the
 * position that this relay wrote last; if no row matches, somebody else has
 * taken over and the answer is SAGA_EFENCED. Each also renews the lease.
 * Decides nothing about what to publish.
 */
#ifndef OUTBOX_CURSOR_H
#define OUTBOX_CURSOR_H

#include "outbox/range.h"

struct cursor {
    int32_t stream;
    struct saga_uuid owner;
    int64_t epoch;
    int64_t lease_ms;
    int32_t streams;      /* how many there were when it was taken */
    const char *instance; /* that this owner is part of; NULL: shares with nobody */
    bool wanted;          /* another instance has asked for the stream */
    bool transactional;   /* this owner publishes in transactions of Kafka */

    char *prev; /* everything that it shows is published */
    char *cur;  /* NULL, or: what it shows and prev does not is being published */
    int64_t floor_seq, cur_floor_seq;
    uint64_t floor_xid, cur_floor_xid;
    int64_t last_seq; /* of the pair (prev, cur), up to here is acknowledged */

    struct ranges ranges; /* of what is acknowledged; stored with every write */
    int64_t renewed_ms;   /* clock_mono_ms() before the last write */
};

void cursor_clear(struct cursor *cursor);

/* Reads the position from the columns prev, floor_seq, floor_xid, cur,
 * cur_floor_seq, cur_floor_xid, last_seq that begin at `column`. */
int cursor_read(struct cursor *cursor, const struct pg_rows *rows, int column,
                struct saga_error *err);

/* Stores `cur` before the first row of the pair is published. `seq` is where
 * the sequence stood when or after `cur` was taken. With `durable` the commit
 * waits for the disk, and so makes durable whatever `cur` shows. */
int cursor_begin(struct cursor *cursor, struct pg *pg, const char *cur, int64_t seq, bool durable,
                 struct saga_error *err);

/* Everything of the pair up to `seq` is acknowledged. */
int cursor_advance(struct cursor *cursor, struct pg *pg, int64_t seq, struct saga_error *err);

/* The same, and of the rows that it passes, those of `seqs` go to outbox.parked,
 * each with its error (NULL: it waits behind another one of its key). */
int cursor_park(struct cursor *cursor, struct pg *pg, int64_t seq, struct pg_array *seqs,
                struct pg_array *errors, struct saga_error *err);

/* Everything of the pair is acknowledged: cur becomes prev. */
int cursor_finish(struct cursor *cursor, struct pg *pg, struct saga_error *err);

/* A pair that turned out to be empty: `cur` becomes prev at once. */
int cursor_skip(struct cursor *cursor, struct pg *pg, const char *cur, int64_t seq,
                struct saga_error *err);

int cursor_renew(struct cursor *cursor, struct pg *pg, struct saga_error *err);

/* Gives the stream free: for the instance that asked for it, or else for all. */
int cursor_release(struct cursor *cursor, struct pg *pg, struct saga_error *err);

/* Any other statement that only the owner may carry out: its first eight
 * parameters are the fence (SQL_CURSOR_FENCE), its next are `more`, and it
 * answers with a row, unless somebody else has taken over (SAGA_EFENCED). */
int cursor_write(struct cursor *cursor, struct pg *pg, const char *sql, const struct pg_arg *more,
                 int n_more, struct pg_rows *rows, struct saga_error *err);

/* Whether a third of the lease is over, so that it should be renewed. */
bool cursor_renewal_due(const struct cursor *cursor);

#endif
