/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this process shows of itself: to systemd, to /metrics, to /healthz.
 *
 * Owns the one place where other threads see the relays, which are made anew
 * when settings are reloaded; their counters go on. Decides nothing.
 */
#ifndef OUTBOX_DAEMON_BOARD_H
#define OUTBOX_DAEMON_BOARD_H

#include "outbox/daemon_relays.h"

/* One stream, at one moment. */
struct board_stream {
    int number;
    struct saga_relay_stats stats; /* counters: since the process began */
    bool ended;                    /* its thread is no longer there */
};

struct board_view {
    struct board_stream *streams;
    int n, wanted;  /* wanted: how many the outbox has; 0: not known yet */
    int64_t now_us; /* CLOCK_MONOTONIC */
    int32_t stall_ms, lease_ms;
    int64_t reloads, reload_failures;
};

struct board;

/* NULL: out of memory. */
struct board *board_new(void);
void board_free(struct board *board);

/* Shows these relays, and no longer those shown before: they may be freed then.
 * NULL: none. `settings` as for the relays. */
void board_show(struct board *board, const struct relays *relays, const struct settings *settings);
void board_reloaded(struct board *board, bool succeeded);

/* A copy, to be cleared by its caller. Any thread. */
int board_read(struct board *board, struct board_view *view, struct saga_error *err);
void board_view_clear(struct board_view *view);

/* The conninfo of now ("" is none), and a number that changes with it. The caller frees it;
 * NULL: out of memory. */
char *board_conninfo(struct board *board, int64_t *version);

#endif
