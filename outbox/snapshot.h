/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PostgreSQL's snapshots, in the text form of the type pg_snapshot:
 * "xmin:xmax:xid,xid,...". Knows what a snapshot shows, and nothing of rows.
 */
#ifndef OUTBOX_SNAPSHOT_H
#define OUTBOX_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct snapshot {
    uint64_t xmin; /* all below have ended */
    uint64_t xmax; /* none from here on has ended */
    uint64_t *running;
    size_t n_running;
};

/* False: not such a text, or out of memory. Zero is a valid empty struct. */
bool snapshot_parse(struct snapshot *snapshot, const char *text);
void snapshot_clear(struct snapshot *snapshot);

/* Whether the transaction had ended when the snapshot was taken. */
bool snapshot_shows(const struct snapshot *snapshot, uint64_t xid);

/*
 * The transactions that `prev` saw running and `cur` shows: their rows are as
 * old as prev's, and nobody has read them. `xids` has room for
 * prev->n_running; returns how many.
 */
size_t snapshot_late(const struct snapshot *prev, const struct snapshot *cur, uint64_t *xids);

#endif
