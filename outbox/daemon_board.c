/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Showing the relays to other threads.
 */
#include "outbox/daemon_board.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>

struct board {
    pthread_mutex_t lock;
    const struct relays *relays; /* NULL: none */
    struct saga_relay_stats *past;
    int n_past;
    char *conninfo;
    int64_t version;
    int32_t stall_ms, lease_ms;
    int64_t reloads, reload_failures;
};

enum { LEASE_MS = 5000 };

struct board *
board_new(void)
{
    struct board *board = calloc(1, sizeof *board);

    if (board != NULL)
        pthread_mutex_init(&board->lock, NULL);
    return board;
}

static void
forget_conninfo(struct board *board)
{
    if (board->conninfo != NULL)
        explicit_bzero(board->conninfo, strlen(board->conninfo));
    free(board->conninfo);
    board->conninfo = NULL;
}

void
board_free(struct board *board)
{
    if (board == NULL)
        return;
    forget_conninfo(board);
    pthread_mutex_destroy(&board->lock);
    free(board->past);
    free(board);
}

/* What only goes up; everything else in `stats` is of this moment. */
static void
add_counters(struct saga_relay_stats *stats, const struct saga_relay_stats *past)
{
    stats->published += past->published;
    stats->pairs += past->pairs;
    stats->polls += past->polls;
    stats->cursor_writes += past->cursor_writes;
    stats->forced_flushes += past->forced_flushes;
    stats->acquired += past->acquired;
    stats->reconnects += past->reconnects;
    stats->refused += past->refused;
    stats->producers += past->producers;
    stats->parked += past->parked;
    for (int i = 0; i < SAGA_RELAY_BUCKETS; i++) {
        stats->pages[i] += past->pages[i];
        stats->acks[i] += past->acks[i];
    }
    stats->page_rows += past->page_rows;
    stats->ack_us += past->ack_us;
}

static struct board_stream
look_at(const struct board *board, int i)
{
    const struct relay_thread *thread = &board->relays->all[i];
    struct board_stream stream = { .number = i, .stats = { SAGA_RELAY_STATS } };
    int64_t started_us = atomic_load(&thread->started_us);

    saga_relay_stats(thread->relay, &stream.stats);
    if (stream.stats.alive_us < started_us)
        stream.stats.alive_us = started_us;
    if (stream.stats.answered_us < started_us)
        stream.stats.answered_us = started_us;
    stream.ended = atomic_load(&thread->ended);
    if (i < board->n_past)
        add_counters(&stream.stats, &board->past[i]);
    return stream;
}

/* Those that are shown now will be no longer. Without memory they begin anew. */
static void
keep_counters(struct board *board)
{
    int n = board->relays != NULL ? board->relays->n : 0;
    struct saga_relay_stats *grown;

    if (n > board->n_past) {
        grown = realloc(board->past, (size_t)n * sizeof *grown);
        if (grown == NULL)
            return;
        memset(grown + board->n_past, 0, (size_t)(n - board->n_past) * sizeof *grown);
        board->past = grown;
        board->n_past = n;
    }
    for (int i = 0; i < n; i++)
        board->past[i] = look_at(board, i).stats;
}

void
board_show(struct board *board, const struct relays *relays, const struct settings *settings)
{
    const char *conninfo = relays != NULL ? settings->options.conninfo : NULL;

    pthread_mutex_lock(&board->lock);
    keep_counters(board);
    board->relays = relays;
    if (relays != NULL) {
        board->stall_ms = settings->stall_ms;
        board->lease_ms = settings->options.lease_ms != 0 ? settings->options.lease_ms : LEASE_MS;
        forget_conninfo(board);
        board->conninfo = strdup(conninfo != NULL ? conninfo : "");
        board->version++;
    }
    pthread_mutex_unlock(&board->lock);
}

void
board_reloaded(struct board *board, bool succeeded)
{
    pthread_mutex_lock(&board->lock);
    board->reloads += succeeded;
    board->reload_failures += !succeeded;
    pthread_mutex_unlock(&board->lock);
}

int
board_read(struct board *board, struct board_view *view, struct saga_error *err)
{
    int rc = 0, n;

    *view = (struct board_view){ 0 };
    pthread_mutex_lock(&board->lock);
    view->now_us = clock_mono_ms() * 1000;
    view->stall_ms = board->stall_ms;
    view->lease_ms = board->lease_ms;
    view->reloads = board->reloads;
    view->reload_failures = board->reload_failures;
    n = board->relays != NULL ? board->relays->n : 0;
    view->streams = calloc((size_t)n + 1, sizeof *view->streams);
    if (view->streams == NULL)
        rc = error_set(err, SAGA_ENOMEM, "out of memory");
    for (int i = 0; rc == 0 && i < n; i++)
        if (!atomic_load(&board->relays->all[i].gone))
            view->streams[view->n++] = look_at(board, i);
    if (view->n > 0)
        view->wanted = view->streams[0].stats.streams;
    pthread_mutex_unlock(&board->lock);
    return rc;
}

void
board_view_clear(struct board_view *view)
{
    free(view->streams);
    *view = (struct board_view){ 0 };
}

char *
board_conninfo(struct board *board, int64_t *version)
{
    char *copy;

    pthread_mutex_lock(&board->lock);
    *version = board->version;
    copy = board->conninfo != NULL ? strdup(board->conninfo) : strdup("");
    pthread_mutex_unlock(&board->lock);
    return copy;
}
