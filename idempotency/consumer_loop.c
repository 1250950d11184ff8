/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The consumer's loop: serves the group, takes what has come, puts it through in
 * batches, and waits for whatever comes first.
 *
 * It never waits for a message that has to come again later: that one lies in its
 * partition's hand until then, and others go on.
 */
#include "base/clock.h"
#include "base/crash.h"
#include "idempotency/consumer_state.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

/* The longest that something can go unnoticed for which nothing wakes us. */
enum { TICK_MS = 500, LAG_MS = 500 };

enum { CATCH_UP_BUSY_MS = 1000 };

/* Takes what has come for each, and asks whether it was applied before. True: something came. */
static bool
take_all(struct saga_consumer *consumer)
{
    bool came = false;

    for (struct partition *at = consumer->partitions; at != NULL; at = at->next)
        settle(consumer, at);
    kafka_read(consumer, 1);
    for (struct partition *at = consumer->partitions; at != NULL; at = at->next)
        came |= at->unasked != NULL;
    seen_ask(consumer);
    for (struct partition *at = consumer->partitions; at != NULL; at = at->next)
        kafka_finish(consumer, at);
    return came;
}

/* One batch over all partitions. A rebalance changes their list, so it is served
 * between two of them only. True: something was done. */
static bool
advance(struct saga_consumer *consumer)
{
    bool came;

    /* At first also without any, because a topic may be missing for long: what is wrong with the
     * database shows at once. */
    if ((consumer->partitions == NULL && consumer->pg_was_connected) || !database_ready(consumer) ||
        consumer->partitions == NULL)
        return false;
    chores(consumer);
    came = take_all(consumer);
    if (consumer->failed != 0 || !pg_connected(&consumer->pg))
        return false;
    /* In the midst of duplicates only now and then: it costs a commit. */
    if (!batch_choose(consumer))
        return came && clock_mono_ms() < consumer->catch_up_ms + CATCH_UP_BUSY_MS
                   ? true
                   : batch_catch_up(consumer, false) || came;
    if (consumer->options.mode != SAGA_MODE_REDIS ||
        marks_lease(consumer, consumer->batch.items[0]))
        batch_apply(consumer);
    marks_forget_lease(consumer);
    return true;
}

/* Kafka is asked only once all look finished: the event of a partition's end
 * may be older than what was written since. */
static bool
is_idle(struct saga_consumer *consumer)
{
    if (!consumer->assigned)
        return false;
    for (const struct partition *at = consumer->partitions; at != NULL; at = at->next)
        if (!at->settled || at->end == OFFSET_NONE || at->hand.first != NULL || is_behind(at))
            return false;
    for (struct partition *at = consumer->partitions; at != NULL; at = at->next)
        if (!kafka_at_end(consumer, at))
            return false;
    return true;
}

static void
earlier(int64_t *due_ms, int64_t other_ms)
{
    if (other_ms > 0 && other_ms < *due_ms)
        *due_ms = other_ms;
}

static int64_t
next_due_ms(const struct saga_consumer *consumer)
{
    int64_t due = clock_mono_ms() + TICK_MS;

    if (consumer->options.on_stats != NULL)
        earlier(&due, consumer->stats_ms);
    /* Without a partition nobody connects again, nor waits for it. */
    if (consumer->pg.conn == NULL && (consumer->partitions != NULL || !consumer->pg_was_connected))
        return consumer->pg_due_ms < due ? consumer->pg_due_ms : due;
    for (const struct partition *at = consumer->partitions; at != NULL; at = at->next)
        earlier(&due, !at->settled    ? at->settle_ms
                      : is_behind(at) ? consumer->catch_up_ms
                                      : hand_due_ms(&at->hand));
    return due;
}

/* The connection to PostgreSQL is watched, too: one that has ended shows at once,
 * and a database that has come back without its last commits is not left so
 * until the next message happens to come. */
static void
wait_for_something(struct saga_consumer *consumer)
{
    struct pg *pg = &consumer->pg;
    struct pollfd fds[] = {
        { .fd = consumer->wake_fd, .events = POLLIN },
        { .fd = pg_connected(pg) ? PQsocket(pg->conn) : -1, .events = POLLIN },
    };
    int64_t due = next_due_ms(consumer);
    uint64_t ignored;

    if (consumer->gate != NULL)
        gate_settle(consumer->gate);
    earlier(&due, kafka_nudge(consumer));
    if (poll(fds, 2, (int)clock_left_ms(due)) <= 0)
        return;
    if (fds[0].revents != 0 && read(consumer->wake_fd, &ignored, sizeof ignored) < 0)
        return; /* emptied by nobody else: cannot be */
    if (fds[1].revents != 0 && (!PQconsumeInput(pg->conn) || !pg_connected(pg)))
        pg_disconnect(pg);
}

/* After a stop: what was taken already may be finished, for a while. */
static bool
goes_on(struct saga_consumer *consumer)
{
    if (consumer->failed != 0)
        return false;
    if (!atomic_load(&consumer->stop))
        return true;
    if (consumer->drain_until_ms == 0)
        consumer->drain_until_ms = clock_mono_ms() + consumer->options.drain_ms;
    if (clock_left_ms(consumer->drain_until_ms) <= 0)
        return false;
    for (const struct partition *at = consumer->partitions; at != NULL; at = at->next)
        if (at->hand.first != NULL)
            return true;
    return false;
}

static void
take_stock(struct saga_consumer *consumer)
{
    consumer->lag_ms = clock_mono_coarse_ms() + LAG_MS;
    atomic_store(&consumer->counters.lag, kafka_lag(consumer));
    if (consumer->gate != NULL)
        atomic_store(&consumer->counters.redis_outages, gate_outages(consumer->gate));
}

static void
tell_stats(struct saga_consumer *consumer)
{
    struct saga_consumer_stats stats = { SAGA_CONSUMER_STATS };

    take_stock(consumer);
    saga_consumer_stats(consumer, &stats);
    consumer->stats_ms = clock_mono_coarse_ms() + consumer->options.stats_ms;
    consumer->options.on_stats(consumer->options.stats_user, &stats);
}

static void
observe(struct saga_consumer *consumer)
{
    int64_t now = clock_mono_coarse_ms();

    if (now >= consumer->lag_ms)
        take_stock(consumer);
    if (consumer->options.on_stats != NULL && now >= consumer->stats_ms)
        tell_stats(consumer);
}

static int
check_run(struct saga_consumer *consumer, int mode, struct saga_error *err)
{
    error_clear(err);
    if (consumer == NULL)
        return error_set(err, SAGA_EINVAL, "`consumer` is NULL");
    if (mode != SAGA_CONSUME_UNTIL_STOP && mode != SAGA_CONSUME_UNTIL_IDLE)
        return error_set(err, SAGA_EINVAL, "mode %d is none of SAGA_CONSUME_*", mode);
    if (consumer->n_routes == 0)
        return error_set(err, SAGA_EINVAL, "nothing is subscribed");
    if (!consumer->subscribed && consumer->options.mode == SAGA_MODE_REDIS)
        log_event(&consumer->options.log, SAGA_LOG_WARNING,
                  "duplicates are recognised by Redis alone: after a crash, a lost mark or the "
                  "window's end an effect may happen again",
                  LOG_TEXT("group", consumer->options.group),
                  LOG_INT("lease_ms", consumer->options.lease_ms),
                  LOG_INT("window_ms", consumer->options.window_ms));
    return consumer->subscribed ? 0 : kafka_subscribe(consumer, err);
}

int
saga_consumer_run(struct saga_consumer *consumer, int mode, struct saga_error *err)
{
    int rc = check_run(consumer, mode, err);

    if (rc != 0)
        return rc;
    /* A message may have been let go then, and its partition would go on behind it. */
    if (consumer->failed == SAGA_ENOMEM)
        return error_set(err, SAGA_ENOMEM,
                         "this consumer ran out of memory before: free it and make a new one");
    consumer->failed = 0;
    consumer->drain_until_ms = 0;
    while (goes_on(consumer)) {
        kafka_serve(consumer);
        observe(consumer);
        if (advance(consumer) | retry_parked(consumer, false))
            continue;
        if (mode == SAGA_CONSUME_UNTIL_IDLE && is_idle(consumer)) {
            if (retry_parked(consumer, true))
                continue;
            break;
        }
        if (consumer->failed == 0)
            wait_for_something(consumer);
    }
    if (consumer->options.on_stats != NULL)
        tell_stats(consumer);
    atomic_store(&consumer->stop, 0);
    if (consumer->failed != 0 && err != NULL)
        *err = consumer->failure;
    return consumer->failed;
}
