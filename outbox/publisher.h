/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The owner of the stream at work: reads pair after pair from the outbox, hands
 * the rows to Kafka, and moves the cursor behind the acknowledgements.
 *
 * Owns the order of these three. Connecting, taking the stream and coming back
 * after a lost connection are the relay's (relay.c).
 */
#ifndef OUTBOX_PUBLISHER_H
#define OUTBOX_PUBLISHER_H

#include "outbox/cursor.h"
#include "outbox/sink.h"
#include "outbox/source.h"
#include "outbox/tally.h"
#include "outbox/window.h"

struct publisher {
    struct pg reader, writer;
    struct sink_options sink_options;
    int32_t idle_ms, drain_ms;
    bool standby_gate;
    const atomic_bool *stop;
    struct tally *tally;

    struct cursor cursor;
    struct source source;
    struct window window;
    struct sink *sink;
    struct page *first, **end; /* pages with rows that are not settled */
    int n_pages;
    int64_t settled_seq; /* acknowledged without a hole; the cursor follows */
    int64_t stored_ms;   /* when it last did */
    int32_t failures;    /* sinks that broke since the last acknowledgement */
    struct look look;
    char *empty; /* a snapshot that is known to show nothing new */
};

/*
 * Publishes until stop or, with `once`, what was committed when it was called.
 * The cursor is as far as the acknowledgements when this returns 0.
 *
 * Any error leaves the publisher to publisher_forget().
 */
int publisher_run(struct publisher *publisher, bool once, struct saga_error *err);

/* Drops everything that is only in memory; the connections stay. */
void publisher_forget(struct publisher *publisher);

#endif
