/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may publish: takes the stream for this relay, or says why not.
 *
 * Owns the rules of when a stream may be taken, and when one that another
 * instance (a process, with a relay for each stream) has is asked for. Whether this is the database
 * in which the cursor was made is asked in place.h; what an owner may then write is guarded by the
 * cursor (cursor.h).
 */
#ifndef OUTBOX_LEASE_H
#define OUTBOX_LEASE_H

#include "outbox/cursor.h"

enum { LEASE_LONGEST_MS = 300000 };

/* What the stream's row says about its owner. */
struct lease {
    bool owned;      /* somebody is entered as owner */
    bool ours;       /* it is this process */
    bool promised;   /* another instance has asked for it */
    bool running;    /* the lease's end lies ahead, by the database's clock */
    int64_t left_ms; /* until its end */
    int64_t epoch;
    int32_t streams; /* how many there are */

    /* How they are shared. Streams that were asked for count as given. */
    bool foreign; /* the owner belongs to an instance, and not to ours */
    int32_t theirs, own;
    int32_t last; /* of theirs */
};

/* Whether the stream may be taken. */
bool lease_free(const struct lease *lease);

/*
 * Whether to ask for `stream`: its owner's instance has two more than ours, so
 * that one less makes no other difference of that kind; and it is the last of
 * theirs, so that of all that wait in our instance only one asks at a time.
 */
bool lease_unfair(const struct lease *lease, int32_t stream);

/*
 * Takes the stream for cursor->owner and fills in the cursor, or sets `lease`
 * to whoever else owns it, and asks him for it where that is fair. The epoch is
 * raised and on disk before this returns with `taken` set. SAGA_ENOTFOUND: there
 * are fewer streams.
 */
int lease_take(struct cursor *cursor, struct lease *lease, bool *taken, struct pg *pg,
               struct saga_error *err);

#endif
