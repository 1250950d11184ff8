/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Judging a view of the relays.
 */
#include "outbox/daemon_health.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    US_PER_MS = 1000,
    US_PER_S = 1000000,
    SLACK_MS = 5000,           /* an owner writes the cursor every third of its lease */
    KAFKA_SILENT_US = 10000000 /* what is worth telling */
};

static bool
hangs(const struct board_view *view, const struct board_stream *stream)
{
    return !stream->ended &&
           view->now_us - stream->stats.alive_us > (int64_t)view->stall_ms * US_PER_MS;
}

bool
health_alive(const struct board_view *view)
{
    for (int i = 0; i < view->n; i++)
        if (hangs(view, &view->streams[i]))
            return false;
    return true;
}

bool
health_ready(const struct board_view *view)
{
    for (int i = 0; i < view->n; i++)
        if (view->streams[i].ended || view->streams[i].stats.state == SAGA_RELAY_CONNECTING)
            return false;
    return view->n > 0 && view->n == view->wanted;
}

static bool
kafka_is_silent(const struct board_view *view, char *line, size_t size)
{
    for (int i = 0; i < view->n; i++) {
        const struct saga_relay_stats *stats = &view->streams[i].stats;

        if (stats->silent_us < KAFKA_SILENT_US)
            continue;
        snprintf(line, size,
                 "Kafka has acknowledged none of %" PRId64 " messages of stream %d for %" PRId64
                 " s",
                 stats->waiting, view->streams[i].number, stats->silent_us / US_PER_S);
        return true;
    }
    return false;
}

bool
health_well(const struct board_view *view, char *line, size_t size)
{
    char kafka[128];

    for (int i = 0; i < view->n; i++) {
        const struct board_stream *stream = &view->streams[i];
        int64_t quiet_us = view->now_us - stream->stats.answered_us;

        if (stream->ended) {
            snprintf(line, size, "the relay of stream %d has ended", stream->number);
            return false;
        }
        if (hangs(view, stream)) {
            snprintf(line, size, "the relay of stream %d hangs: no round for %" PRId64 " s",
                     stream->number, (view->now_us - stream->stats.alive_us) / US_PER_S);
            return false;
        }
        if (quiet_us > (int64_t)(view->lease_ms + SLACK_MS) * US_PER_MS) {
            snprintf(line, size,
                     "PostgreSQL has not answered the relay of stream %d for %" PRId64 " s",
                     stream->number, quiet_us / US_PER_S);
            return false;
        }
    }
    if (view->n == 0) {
        snprintf(line, size, "no relay runs");
        return false;
    }
    if (kafka_is_silent(view, kafka, sizeof kafka))
        snprintf(line, size, "ok, but %s", kafka);
    else
        snprintf(line, size, "ok");
    return true;
}

void
health_status(const struct board_view *view, char *line, size_t size)
{
    int64_t published = 0;
    int owned = 0, waiting = 0;
    char kafka[128];

    for (int i = 0; i < view->n; i++) {
        owned += view->streams[i].stats.state == SAGA_RELAY_OWNER;
        waiting += view->streams[i].stats.state == SAGA_RELAY_STANDBY;
        published += view->streams[i].stats.published;
    }
    if (kafka_is_silent(view, kafka, sizeof kafka)) {
        snprintf(line, size, "%s", kafka);
        return;
    }
    if (owned + waiting < view->n) {
        snprintf(line, size, "connecting to PostgreSQL (%d of %d streams)",
                 view->n - owned - waiting, view->n);
        return;
    }
    snprintf(line, size, "publishing %d of %d streams, standing by for %d; %" PRId64 " published",
             owned, view->n, waiting, published);
}
