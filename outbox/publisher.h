/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The owner of the stream at work: reads pair after pair from the outbox, hands
 * the rows to Kafka, and moves the cursor behind the acknowledgements.
 *
 * Owns the order of these three. What Kafka will never take goes to outbox.parked
 * as the cursor passes it. Connecting, taking the stream and coming back
 * after a lost connection are the relay's (relay.c).
 */
#ifndef OUTBOX_PUBLISHER_H
#define OUTBOX_PUBLISHER_H

#include "outbox/chores.h"
#include "outbox/cursor.h"
#include "outbox/outlet.h"
#include "outbox/parked.h"
#include "outbox/source.h"
#include "outbox/watch.h"

struct publisher {
    struct pg reader, writer;
    const char *const *groups; /* to be watched; NULL: none */
    int32_t idle_ms, drain_ms;
    bool standby_gate;
    const atomic_bool *stop;
    struct tally *tally;

    struct cursor cursor;
    struct chores chores;
    struct source source;
    struct outlet outlet;
    struct watch *watch; /* NULL: not ours to do */
    int64_t unwatch_ms;  /* when to try to forget whom nobody watches; 0: that is done */
    struct parked parked;
    struct page *first, **end; /* pages with rows that are not settled */
    int n_pages;
    int64_t settled_seq; /* acknowledged without a hole; the cursor follows */
    int64_t stored_ms;   /* when it last did */
    struct look look;
    int64_t quickest_ms; /* of the empty looks since the cursor was moved; 0: none yet */
    char *empty;         /* a snapshot that is known to show nothing new */
};

/*
 * Publishes until stop or, with `once`, what was committed when it was called.
 * The cursor is as far as the acknowledgements when this returns 0.
 *
 * Any error leaves the publisher to publisher_forget().
 */
int publisher_run(struct publisher *publisher, bool once, struct saga_error *err);

/* Drops everything that is only in memory, but not what is known of Kafka's
 * topics; the connections stay. */
void publisher_forget(struct publisher *publisher);

/* --- for those who work on its behalf (next_pair.c, retry.c) ------------ */

/* Whether to come to an end; the next owner may also be another one who asked. */
bool publisher_stopped(const struct publisher *publisher);

/* Renews the lease, if it is time. */
int publisher_keep_lease(struct publisher *publisher, struct saga_error *err);

/* Opens a sink in place of one that broke and was closed, after a pause. */
int publisher_open_again(struct publisher *publisher, struct saga_error *err);

/* A write of the cursor's row has answered `rc`. */
int publisher_wrote(struct publisher *publisher, int rc);

#endif
