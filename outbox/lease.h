/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may publish: takes the stream for this relay, or says why not.
 *
 * Owns the rule of when a stream may be taken, and the check that the database
 * is the one in which the cursor was made. What an owner may then write is
 * guarded by the cursor (cursor.h).
 */
#ifndef OUTBOX_LEASE_H
#define OUTBOX_LEASE_H

#include "outbox/cursor.h"

enum { LEASE_LONGEST_MS = 300000 };

/* What the stream's row says about its owner. */
struct lease {
    bool owned;      /* somebody is entered as owner */
    bool ours;       /* it is this process */
    bool abandoned;  /* the owner's session is gone */
    bool running;    /* the lease's end lies ahead, by the database's clock */
    int64_t left_ms; /* until its end */
    int64_t epoch;
};

/* Whether the stream may be taken. */
bool lease_free(const struct lease *lease);

/* Where the row was written and where we are: zero means not known yet. */
struct place {
    int64_t system_identifier;
    int64_t timeline;
    uint64_t newest_xid; /* of all rows and of the cursor */
};

/* 0, or SAGA_EMISMATCH with what to do about it. `fresh_xid` was assigned
 * after `newest_xid` was read. */
int place_check(const struct place *stored, const struct place *here, uint64_t fresh_xid,
                struct saga_error *err);

/*
 * Takes the stream for cursor->owner and fills in the cursor, or sets `lease`
 * to whoever else owns it. The epoch is raised and on disk before this returns
 * with `taken` set. `pg` is the connection that will write the cursor: its end
 * tells others that the owner is gone.
 */
int lease_take(struct cursor *cursor, struct lease *lease, bool *taken, struct pg *pg,
               struct saga_error *err);

#endif
