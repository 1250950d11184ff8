/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may publish: takes the stream for this relay, or says why not.
 *
 * Owns the rule of when a stream may be taken. Whether this is the database in
 * which the cursor was made is asked in place.h; what an owner may then write
 * is guarded by the cursor (cursor.h).
 */
#ifndef OUTBOX_LEASE_H
#define OUTBOX_LEASE_H

#include "outbox/cursor.h"

enum { LEASE_LONGEST_MS = 300000 };

/* What the stream's row says about its owner. */
struct lease {
    bool owned;      /* somebody is entered as owner */
    bool ours;       /* it is this process */
    bool running;    /* the lease's end lies ahead, by the database's clock */
    int64_t left_ms; /* until its end */
    int64_t epoch;
};

/* Whether the stream may be taken. */
bool lease_free(const struct lease *lease);

/*
 * Takes the stream for cursor->owner and fills in the cursor, or sets `lease`
 * to whoever else owns it. The epoch is raised and on disk before this returns
 * with `taken` set.
 */
int lease_take(struct cursor *cursor, struct lease *lease, bool *taken, struct pg *pg,
               struct saga_error *err);

#endif
