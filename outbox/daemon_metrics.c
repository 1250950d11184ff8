/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing the metrics.
 */
#include "outbox/daemon_metrics.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

static const double US_PER_S = 1000000;

static void
head(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP outbox_relay_%s %s\n# TYPE outbox_relay_%s %s\n", name, help, name, type);
}

/* --- one number of each stream ------------------------------------------- */

static const struct {
    const char *name, *help;
    size_t offset;
} counters[] = {
#define STAT(member) offsetof(struct saga_relay_stats, member)
    { "published_total", "Messages that Kafka has acknowledged.", STAT(published) },
    { "refused_total", "Messages that Kafka refused; each is tried again or parked.",
      STAT(refused) },
    { "parked_total", "Messages that were put into outbox.parked.", STAT(parked) },
    { "pairs_total", "Times that new messages were found.", STAT(pairs) },
    { "polls_total", "Times that new messages were looked for.", STAT(polls) },
    { "cursor_writes_total", "Transactions that moved the cursor or renewed the lease.",
      STAT(cursor_writes) },
    { "forced_flushes_total", "Of them, those that waited for the disk.", STAT(forced_flushes) },
    { "acquired_total", "Times that the stream was taken over.", STAT(acquired) },
    { "reconnects_total", "Times that a connection to PostgreSQL was made anew.",
      STAT(reconnects) },
    { "producers_total", "Producers of librdkafka that were made.", STAT(producers) },
};

static int64_t
stat_at(const struct saga_relay_stats *stats, size_t offset)
{
    return *(const int64_t *)(const void *)((const char *)stats + offset);
}

static void
write_count(FILE *out, const char *name, int stream, int64_t value)
{
    fprintf(out, "outbox_relay_%s{stream=\"%d\"} %" PRId64 "\n", name, stream, value);
}

static void
write_counters(FILE *out, const struct board_view *view)
{
    for (size_t c = 0; c < sizeof counters / sizeof *counters; c++) {
        head(out, counters[c].name, "counter", counters[c].help);
        for (int i = 0; i < view->n; i++)
            write_count(out, counters[c].name, view->streams[i].number,
                        stat_at(&view->streams[i].stats, counters[c].offset));
    }
}

static void
write_gauge(FILE *out, const char *name, int stream, double value)
{
    fprintf(out, "outbox_relay_%s{stream=\"%d\"} %.10g\n", name, stream, value);
}

static void
write_gauges(FILE *out, const struct board_view *view)
{
    head(out, "unacknowledged_messages", "gauge", "Messages on their way to Kafka.");
    for (int i = 0; i < view->n; i++)
        write_count(out, "unacknowledged_messages", view->streams[i].number,
                    view->streams[i].stats.waiting);
    head(out, "kafka_silent_seconds", "gauge",
         "How long Kafka has acknowledged none of them; 0 while it does.");
    for (int i = 0; i < view->n; i++)
        write_gauge(out, "kafka_silent_seconds", view->streams[i].number,
                    (double)view->streams[i].stats.silent_us / US_PER_S);
    head(
        out, "open_transaction_seconds", "gauge",
        "How long the oldest transaction that is open has been seen open; it holds no message up.");
    for (int i = 0; i < view->n; i++)
        write_gauge(out, "open_transaction_seconds", view->streams[i].number,
                    (double)view->streams[i].stats.open_us / US_PER_S);
    head(out, "heartbeat_seconds", "gauge", "How long ago the relay last came round.");
    for (int i = 0; i < view->n; i++)
        write_gauge(out, "heartbeat_seconds", view->streams[i].number,
                    (double)(view->now_us - view->streams[i].stats.alive_us) / US_PER_S);
    head(out, "database_silent_seconds", "gauge",
         "How long ago PostgreSQL last answered the relay.");
    for (int i = 0; i < view->n; i++)
        write_gauge(out, "database_silent_seconds", view->streams[i].number,
                    (double)(view->now_us - view->streams[i].stats.answered_us) / US_PER_S);
}

static void
write_lease(FILE *out, const struct board_view *view)
{
    static const char *const states[] = { "connecting", "standby", "owner" };

    head(out, "state", "gauge", "1 for what the relay is doing: owner publishes, standby waits.");
    for (int i = 0; i < view->n; i++)
        for (int state = 0; state < 3; state++)
            fprintf(out, "outbox_relay_state{stream=\"%d\",state=\"%s\"} %d\n",
                    view->streams[i].number, states[state], view->streams[i].stats.state == state);
    head(out, "epoch", "gauge", "The owner's epoch; 0 where this process is not the owner.");
    for (int i = 0; i < view->n; i++)
        write_count(out, "epoch", view->streams[i].number, view->streams[i].stats.epoch);
}

/* --- how values are spread ------------------------------------------------ */

static void
write_spread(FILE *out, const char *name, int stream, const int64_t *counts, double sum,
             double unit)
{
    static const int steps[] = { 1, 2, 5 };
    int64_t below = 0, ten = 1;

    for (int i = 0; i < SAGA_RELAY_BUCKETS - 1; i++) {
        below += counts[i];
        fprintf(out, "outbox_relay_%s_bucket{stream=\"%d\",le=\"%.10g\"} %" PRId64 "\n", name,
                stream, (double)(ten * steps[i % 3]) * unit, below);
        if (i % 3 == 2)
            ten *= 10;
    }
    below += counts[SAGA_RELAY_BUCKETS - 1];
    fprintf(out, "outbox_relay_%s_bucket{stream=\"%d\",le=\"+Inf\"} %" PRId64 "\n", name, stream,
            below);
    fprintf(out, "outbox_relay_%s_sum{stream=\"%d\"} %.10g\n", name, stream, sum);
    fprintf(out, "outbox_relay_%s_count{stream=\"%d\"} %" PRId64 "\n", name, stream, below);
}

static void
write_spreads(FILE *out, const struct board_view *view)
{
    head(out, "page_rows", "histogram", "Messages that were read from the outbox at a time.");
    for (int i = 0; i < view->n; i++)
        write_spread(out, "page_rows", view->streams[i].number, view->streams[i].stats.pages,
                     (double)view->streams[i].stats.page_rows, 1);
    head(out, "ack_seconds", "histogram",
         "Time from handing a message to librdkafka until its acknowledgement.");
    for (int i = 0; i < view->n; i++)
        write_spread(out, "ack_seconds", view->streams[i].number, view->streams[i].stats.acks,
                     (double)view->streams[i].stats.ack_us / US_PER_S, 0.001);
}

/* --- of the process and of the database ----------------------------------- */

static void
write_process(FILE *out, const struct board_view *view)
{
    head(out, "build_info", "gauge", "Always 1; the label is the version.");
    fprintf(out, "outbox_relay_build_info{version=\"%d.%d.%d\"} 1\n", SAGA_VERSION_MAJOR,
            SAGA_VERSION_MINOR, SAGA_VERSION_PATCH);
    head(out, "reloads_total", "counter", "Times that settings were read again and taken.");
    fprintf(out, "outbox_relay_reloads_total %" PRId64 "\n", view->reloads);
    head(out, "reload_failures_total", "counter", "Times that they were wrong, and not taken.");
    fprintf(out, "outbox_relay_reload_failures_total %" PRId64 "\n", view->reload_failures);
}

static void
write_beside(FILE *out, const struct status *status)
{
    const struct {
        const char *name, *help;
        double value;
    } gauges[] = {
        { "parked_keys", "Pairs of topic and key that are parked; above 10000 an estimate.",
          (double)status->parked_keys },
        { "parked_messages", "Messages in outbox.parked; above 10000 an estimate.",
          (double)status->parked_messages },
        { "delayed_messages", "Messages in outbox.delayed; above 10000 an estimate.",
          (double)status->delayed_messages },
        { "delayed_overdue_seconds", "How long the first of them has been due; 0: none is.",
          status->delayed_overdue_seconds },
        { "outbox_bytes", "Size of outbox.message on disk, with its indexes.",
          (double)status->outbox_bytes },
        { "kept_seconds", "Age of the oldest message that has not been cleaned up.",
          status->kept_seconds },
    };

    for (size_t i = 0; i < sizeof gauges / sizeof *gauges; i++) {
        head(out, gauges[i].name, "gauge", gauges[i].help);
        fprintf(out, "outbox_relay_%s %.15g\n", gauges[i].name, gauges[i].value);
    }
}

static void
write_status(FILE *out, const struct status *status)
{
    head(out, "database_up", "gauge",
         "1 if PostgreSQL has answered this scrape; else what follows from it is missing.");
    fprintf(out, "outbox_relay_database_up %d\n", status->up);
    if (!status->up)
        return;
    head(out, "lag_messages", "gauge",
         "Messages that are committed and not yet published; above some hundred an estimate.");
    for (int i = 0; i < status->n; i++)
        write_count(out, "lag_messages", status->streams[i].stream,
                    status->streams[i].lag_messages);
    head(out, "lag_seconds", "gauge",
         "Age of the oldest committed message that is not yet published; 0: there is none.");
    for (int i = 0; i < status->n; i++)
        write_gauge(out, "lag_seconds", status->streams[i].stream, status->streams[i].lag_seconds);
    write_beside(out, status);
}

char *
metrics_text(const struct board_view *view, const struct status *status, size_t *len)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, len);
    bool failed;

    if (out == NULL)
        return NULL;
    write_process(out, view);
    write_lease(out, view);
    write_counters(out, view);
    write_gauges(out, view);
    write_spreads(out, view);
    write_status(out, status);
    failed = ferror(out);
    if (fclose(out) != 0 || failed) {
        free(text);
        return NULL;
    }
    return text;
}
