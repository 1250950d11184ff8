/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The consumer's loop: serves the group, gives each partition its turn, and
 * waits for whatever comes first.
 *
 * It never waits inside a partition's business: a message that has to come
 * again later leaves its partition unread until then, and the others go on.
 */
#include "base/clock.h"
#include "base/crash.h"
#include "idempotency/consumer_state.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

/* The longest that something can go unnoticed for which nothing wakes us. */
enum { TICK_MS = 500, UNSETTLED_MS = 1000 };

/* Gives a partition one message's turn. True: something was done. */
static bool
advance(struct saga_consumer *consumer, struct partition *partition)
{
    struct saga_error err;

    if (clock_mono_ms() < partition->due_ms)
        return false;
    if (!partition->settled && !settle(consumer, partition))
        return false;
    if (partition->message == NULL && kafka_take(consumer, partition, &err) != 0) {
        consumer->failure = err;
        consumer->failed = err.code;
    }
    if (partition->message == NULL)
        return false;
    switch (apply(consumer, partition)) {
    case APPLIED:
        kafka_finish(consumer, partition);
        break;
    case APPLY_UNSETTLE:
        /* If another member has the partition now, Kafka will have told us so
         * by then. */
        partition->settled = false;
        partition->due_ms = clock_mono_ms() + UNSETTLED_MS;
        break;
    case APPLY_LATER:
        break;
    }
    return true;
}

/* Each partition once. A rebalance changes the list, so it is served between
 * rounds only. */
static bool
advance_all(struct saga_consumer *consumer)
{
    bool busy = false;

    for (struct partition *at = consumer->partitions; at != NULL; at = at->next) {
        if (atomic_load(&consumer->stop) || consumer->failed != 0 || !database_ready(consumer))
            return false;
        busy |= advance(consumer, at);
    }
    return busy;
}

/* Kafka is asked only once all look finished: the event of a partition's end
 * may be older than what was written since. */
static bool
is_idle(struct saga_consumer *consumer)
{
    if (!consumer->assigned)
        return false;
    for (const struct partition *at = consumer->partitions; at != NULL; at = at->next)
        if (!at->settled || at->end == OFFSET_NONE || at->message != NULL)
            return false;
    for (struct partition *at = consumer->partitions; at != NULL; at = at->next)
        if (!kafka_at_end(consumer, at))
            return false;
    return true;
}

static int64_t
next_due_ms(const struct saga_consumer *consumer)
{
    int64_t due = clock_mono_ms() + TICK_MS;

    /* Without a partition nobody connects, nor waits for it. */
    if (consumer->pg.conn == NULL && consumer->partitions != NULL)
        return consumer->pg_due_ms < due ? consumer->pg_due_ms : due;
    for (const struct partition *at = consumer->partitions; at != NULL; at = at->next)
        if (at->due_ms > 0 && at->due_ms < due)
            due = at->due_ms;
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
    int64_t left = clock_left_ms(next_due_ms(consumer));
    uint64_t ignored;

    if (poll(fds, 2, (int)left) <= 0)
        return;
    if (fds[0].revents != 0 && read(consumer->wake_fd, &ignored, sizeof ignored) < 0)
        return; /* emptied by nobody else: cannot be */
    if (fds[1].revents != 0 && (!PQconsumeInput(pg->conn) || !pg_connected(pg)))
        pg_disconnect(pg);
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
    return consumer->subscribed ? 0 : kafka_subscribe(consumer, err);
}

int
saga_consumer_run(struct saga_consumer *consumer, int mode, struct saga_error *err)
{
    int rc = check_run(consumer, mode, err);

    if (rc != 0)
        return rc;
    consumer->failed = 0;
    while (!atomic_load(&consumer->stop) && consumer->failed == 0) {
        kafka_serve(consumer);
        if (advance_all(consumer))
            continue;
        if (mode == SAGA_CONSUME_UNTIL_IDLE && is_idle(consumer))
            break;
        if (consumer->failed == 0)
            wait_for_something(consumer);
    }
    atomic_store(&consumer->stop, 0);
    if (consumer->failed != 0 && err != NULL)
        *err = consumer->failure;
    return consumer->failed;
}
