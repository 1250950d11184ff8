/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the outbox lies: the cluster and the timeline, and whether the xids in
 * it can be this cluster's.
 *
 * Owns the check that the database is the one in which the cursor was made.
 * What to do where it is not is an operator's decision (sagactl outbox rebase).
 */
#ifndef OUTBOX_PLACE_H
#define OUTBOX_PLACE_H

#include "outbox/cursor.h"

/* Where the row was written and where we are: zero means not known yet. */
struct place {
    int64_t system_identifier;
    int64_t timeline;
    uint64_t newest_xid; /* of all rows and of the cursor */
    int64_t newest_seq;  /* that the cursor knows of */
};

/* Where we are. SAGA_EDB, retriable, if this is a standby. */
int place_read(struct place *here, struct pg *pg, struct saga_error *err);

/* Whether both are connected to one server. While an old primary is still up
 * beside its promoted standby, or comes back, connections that name both hosts
 * may end at different ones. SAGA_EDB, retriable, if they are not. */
int place_same(struct pg *a, struct pg *b, struct saga_error *err);

/* Takes in what the cursor has seen. */
void place_add_cursor(struct place *here, const struct cursor *cursor);

/* 0, or SAGA_EMISMATCH with what to do about it. `fresh_xid` was assigned, and
 * the sequence stood at `seq`, after everything else was read. */
int place_check(const struct place *stored, const struct place *here, uint64_t fresh_xid,
                int64_t seq, struct saga_error *err);

#endif
