/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way out to Kafka: a row that goes in is handed over, has to wait, or is
 * found to be undeliverable.
 *
 * Owns the sink, which is replaced when it breaks or makes too large batches,
 * and what outlives it: the window, what is known of topics, the judge. Knows
 * nothing of PostgreSQL; what becomes of the undeliverable is its user's.
 */
#ifndef OUTBOX_OUTLET_H
#define OUTBOX_OUTLET_H

#include "outbox/sink.h"

enum { FINDING_BYTES = 256 };

struct outlet {
    struct sink_options options;
    struct sink *sink; /* NULL: closed */
    struct window window;
    struct topics topics;
    struct judge judge;
    struct topic *last; /* of the last row: the next one's is often the same */
    bool alone;         /* a row is on its way that must be the only one */
    bool hurry;         /* the next row waits for those before it */
    int32_t failures;   /* sinks that broke since the last acknowledgement */
};

/* Opens the sink, if it is closed. */
int outlet_open(struct outlet *outlet, struct saga_error *err);

/* Every answer that came is in the window after. Entries that are left there
 * must be dropped (window_reset) before anything is sent again. */
void outlet_close(struct outlet *outlet);

/* Forgets all but what is known of topics. */
void outlet_forget(struct outlet *outlet);
void outlet_clear(struct outlet *outlet);

/*
 * OUTLET_SENT: it is in the window, and its page must stay until it is settled.
 * OUTLET_WAIT: settle, serve, then try the same row again, unless the sink is
 * broken. OUTLET_PARK: it cannot be delivered; `why` says in words why not, or
 * is empty if it is only `behind`, that is, its topic and key are parked.
 */
enum { OUTLET_SENT, OUTLET_WAIT, OUTLET_PARK };
int outlet_send(struct outlet *outlet, const struct row_fields *fields, int64_t seq, bool behind,
                int *outcome, char why[FINDING_BYTES], struct saga_error *err);

/* Takes in answers; waits for them only if some are due. `more`: rows follow
 * soon, and batches may wait for them to become full. */
void outlet_serve(struct outlet *outlet, int wait_ms, bool more);

/* Whether the sink is of no further use: close it, open another. How long to
 * wait in between: not at all, if it was found out what was wrong. */
bool outlet_broken(const struct outlet *outlet);
int64_t outlet_pause_ms(struct outlet *outlet);

/* An operator says that it was mended: ask for the limit again, and try. */
int outlet_pardon(struct outlet *outlet, const char *topic, struct saga_error *err);

#endif
