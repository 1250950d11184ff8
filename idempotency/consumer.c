/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A consumer's beginning and end, its routes and its counters.
 */
#include "base/clock.h"
#include "base/options.h"
#include "idempotency/consumer_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static const char *const set_by_us[] = { "group.id",
                                         "bootstrap.servers",
                                         "metadata.broker.list",
                                         "enable.auto.commit",
                                         "enable.auto.offset.store",
                                         "enable.partition.eof",
                                         "auto.offset.reset",
                                         NULL };

bool
may_log(int64_t *not_before_ms)
{
    int64_t now = clock_mono_ms();

    if (now < *not_before_ms)
        return false;
    *not_before_ms = now + LOG_AGAIN_MS;
    return true;
}

/* --- options --------------------------------------------------------------- */

static int
check_numbers(const struct saga_consumer_options *options, struct saga_error *err)
{
    const struct {
        const char *name;
        int32_t value;
    } numbers[] = {
        { "redis_timeout_ms", options->redis_timeout_ms },
        { "lease_ms", options->lease_ms },
        { "window_ms", options->window_ms },
        { "retry_first_ms", options->retry_first_ms },
        { "retry_longest_ms", options->retry_longest_ms },
        { "statement_ms", options->statement_ms },
        { "idle_in_tx_ms", options->idle_in_tx_ms },
        { "batch_rows", options->batch_rows },
        { "batch_ms", options->batch_ms },
        { "drain_ms", options->drain_ms },
        { "stats_ms", options->stats_ms },
    };

    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (numbers[i].value < 0)
            return error_set(err, SAGA_EINVAL, "%s is negative", numbers[i].name);
    if (options->redis_timeout_ms > 50)
        return error_set(err, SAGA_EINVAL,
                         "redis_timeout_ms is %d: at most 50, a slow Redis must not slow us down",
                         options->redis_timeout_ms);
    if (options->batch_rows > BATCH_MAX)
        return error_set(err, SAGA_EINVAL, "batch_rows is %d: at most %d", options->batch_rows,
                         BATCH_MAX);
    return 0;
}

static int
check_options(const struct saga_consumer_options *options, struct saga_error *err)
{
    if (options->group == NULL || *options->group == '\0' || strlen(options->group) > 255)
        return error_set(err, SAGA_EINVAL, "no group, or one of more than 255 bytes");
    if (options->brokers == NULL || *options->brokers == '\0')
        return error_set(err, SAGA_EINVAL, "no brokers: give host:port");
    for (const struct saga_pair *pair = options->properties; pair != NULL && pair->name != NULL;
         pair++)
        for (const char *const *name = set_by_us; *name != NULL; name++)
            if (strcmp(pair->name, *name) == 0)
                return error_set(err, SAGA_EINVAL, "the property %s is the consumer's own", *name);
    if (options->mode < SAGA_MODE_REDIS_INBOX || options->mode > SAGA_MODE_REDIS)
        return error_set(err, SAGA_EINVAL, "mode %d is none of SAGA_MODE_*", options->mode);
    if (options->mode == SAGA_MODE_REDIS && options->redis == NULL)
        return error_set(err, SAGA_EINVAL, "no redis: SAGA_MODE_REDIS has nothing else to ask");
    return check_numbers(options, err) != 0 ? SAGA_EINVAL
                                            : pg_check_conninfo(options->conninfo, err);
}

static void
fill_in(struct saga_consumer_options *options)
{
    options->redis_timeout_ms = (int32_t)option_or(options->redis_timeout_ms, 4);
    options->lease_ms = (int32_t)option_or(options->lease_ms, 30000);
    options->window_ms = (int32_t)option_or(options->window_ms, WINDOW_DEFAULT_MS);
    options->retry_first_ms = (int32_t)option_or(options->retry_first_ms, 100);
    options->retry_longest_ms = (int32_t)option_or(options->retry_longest_ms, 10000);
    options->statement_ms = (int32_t)option_or(options->statement_ms, 10000);
    options->idle_in_tx_ms = (int32_t)option_or(options->idle_in_tx_ms, 60000);
    options->batch_rows = (int32_t)option_or(options->batch_rows, 100);
    options->batch_ms = (int32_t)option_or(options->batch_ms, 200);
    options->stats_ms = (int32_t)option_or(options->stats_ms, 10000);
    /* Else a neighbour's failure would repeat what cannot be rolled back. */
    if (options->mode == SAGA_MODE_REDIS)
        options->batch_rows = 1;
    if (options->attempts_max == 0)
        options->attempts_max = 10;
}

/* --- beginning and end ----------------------------------------------------- */

static int
open_gate(struct saga_consumer *consumer, struct saga_error *err)
{
    const struct gate_options options = {
        .address = consumer->options.redis,
        .remote = consumer->options.redis_remote == 1,
        .timeout_ms = consumer->options.redis_timeout_ms,
        .lease_ms = consumer->options.lease_ms,
        .window_ms = consumer->options.window_ms,
        .without = consumer->options.mode == SAGA_MODE_REDIS
                       ? "Redis is of no use; nothing is applied before it answers again"
                       : "Redis is of no use; going on without it, the inbox recognises duplicates",
        .log = &consumer->options.log,
    };

    return consumer->options.redis == NULL || consumer->options.mode == SAGA_MODE_INBOX
               ? 0
               : gate_new(&consumer->gate, &options, err);
}

static int
make_rooms(struct saga_consumer *consumer, struct saga_error *err)
{
    size_t max = (size_t)consumer->options.batch_rows;

    consumer->batch.max = consumer->batch.max_now = max;
    consumer->batch.items = calloc(max, sizeof(struct taken *));
    consumer->batch.touched = calloc(BATCH_MAX, sizeof(struct touched));
    consumer->records = calloc(max, sizeof(struct saga_record *));
    consumer->verdicts = calloc(max, sizeof(int32_t));
    consumer->questions = calloc(GATE_MANY, sizeof(struct gate_question));
    consumer->digest = record_digest();
    if (consumer->batch.items == NULL || consumer->batch.touched == NULL ||
        consumer->records == NULL || consumer->verdicts == NULL || consumer->questions == NULL ||
        consumer->digest == NULL)
        return error_set(err, SAGA_ENOMEM, "out of memory");
    return 0;
}

static int
open_all(struct saga_consumer *consumer, struct saga_error *err)
{
    char *group = strdup(consumer->options.group);
    int rc;

    consumer->options.group = group;
    if (group == NULL)
        return error_set(err, SAGA_ENOMEM, "out of memory");
    consumer->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (consumer->wake_fd < 0)
        return error_set(err, SAGA_ENOMEM, "eventfd: %s", strerror(errno));
    rc = pg_init(&consumer->pg, consumer->options.conninfo, group, consumer->options.statement_ms,
                 &consumer->options.log, err);
    consumer->pg.role = "saga_app";
    if (rc == 0)
        rc = make_rooms(consumer, err);
    if (rc == 0)
        rc = open_gate(consumer, err);
    return rc != 0 ? rc : kafka_open(consumer, err);
}

int
saga_consumer_new(struct saga_consumer **made, const struct saga_consumer_options *given,
                  struct saga_error *err)
{
    struct saga_consumer_options options;
    struct saga_consumer *consumer;
    int rc;

    error_clear(err);
    if (made == NULL || given == NULL)
        return error_set(err, SAGA_EINVAL, "no place for the consumer, or no options");
    rc = options_read(&options, sizeof options, given, err);
    if (rc == 0)
        rc = check_options(&options, err);
    if (rc != 0)
        return rc;
    consumer = calloc(1, sizeof *consumer);
    if (consumer == NULL)
        return error_set(err, SAGA_ENOMEM, "out of memory");
    fill_in(&options);
    consumer->options = options;
    consumer->wake_fd = -1;
    rc = open_all(consumer, err);
    /* Copied into the places that need them, and the caller's from here on. */
    consumer->options.conninfo = consumer->options.brokers = consumer->options.redis = NULL;
    consumer->options.properties = NULL;
    if (rc != 0) {
        saga_consumer_free(consumer);
        return rc;
    }
    *made = consumer;
    return 0;
}

void
saga_consumer_free(struct saga_consumer *consumer)
{
    if (consumer == NULL)
        return;
    kafka_close(consumer);
    kafka_free_spare(consumer);
    pg_clear(&consumer->pg);
    gate_free(consumer->gate);
    if (consumer->wake_fd >= 0)
        close(consumer->wake_fd);
    for (size_t i = 0; i < consumer->n_routes; i++) {
        free((char *)consumer->routes[i].topic);
        if (consumer->routes[i].release != NULL)
            consumer->routes[i].release(consumer->routes[i].user);
    }
    free(consumer->routes);
    parked_keys_clear(&consumer->parked);
    free(consumer->batch.items);
    free(consumer->batch.touched);
    free(consumer->records);
    free(consumer->verdicts);
    free(consumer->questions);
    EVP_MD_CTX_free(consumer->digest);
    free((char *)consumer->options.group);
    free(consumer);
}

void
saga_consumer_stop(struct saga_consumer *consumer)
{
    const uint64_t one = 1;
    int saved = errno;
    ssize_t ignored;

    atomic_store(&consumer->stop, 1);
    ignored = write(consumer->wake_fd, &one, sizeof one);
    (void)ignored; /* full: then it wakes up anyway */
    errno = saved;
}

/* Any statement ends the idleness of the transaction. */
int
saga_consumer_keep_alive(struct saga_consumer *consumer)
{
    int rc = marks_keep_lease(consumer);
    PGconn *conn = consumer->pg.conn;
    struct pg tx = pg_borrow(conn); /* the handler's: never closed under its hands */
    struct saga_error ignored;

    if (!kafka_alive(consumer) || !pg_in_transaction(&consumer->pg) ||
        PQpipelineStatus(conn) != PQ_PIPELINE_OFF)
        return rc;
    /* What fails here fails the handler's next statement, too. */
    (void)pg_exec(&tx, "SELECT", PG_NO_ARGS, NULL, &ignored);
    PQsetnonblocking(conn, 0);
    return rc;
}

/* --- routes ------------------------------------------------------------------ */

static int
check_route(const struct saga_consumer *consumer, const struct consumer_route *route,
            struct saga_error *err)
{
    error_clear(err);
    if (consumer == NULL)
        return error_set(err, SAGA_EINVAL, "`consumer` is NULL");
    if (route->topic == NULL || *route->topic == '\0' || *route->topic == '^')
        return error_set(err, SAGA_EINVAL, "no topic, or a pattern instead of one");
    if (route->handle == NULL && route->plain == NULL && route->many == NULL)
        return error_set(err, SAGA_EINVAL, "no handler for topic %.100s", route->topic);
    if (route->handle != NULL && consumer->options.mode == SAGA_MODE_REDIS)
        return error_set(err, SAGA_EINVAL, "sagas need the inbox: not in SAGA_MODE_REDIS");
    if (consumer->subscribed)
        return error_set(err, SAGA_ESTATE, "the consumer has been run: subscribe before that");
    for (size_t i = 0; i < consumer->n_routes; i++)
        if (strcmp(consumer->routes[i].topic, route->topic) == 0)
            return error_set(err, SAGA_EINVAL, "topic %.100s has a handler already", route->topic);
    return 0;
}

int
consumer_route(struct saga_consumer *consumer, const struct consumer_route *route,
               struct saga_error *err)
{
    struct consumer_route *routes;
    char *topic;
    int rc = check_route(consumer, route, err);

    if (rc != 0)
        return rc;
    routes = realloc(consumer->routes, (consumer->n_routes + 1) * sizeof *routes);
    if (routes == NULL)
        return error_set(err, SAGA_ENOMEM, "out of memory");
    consumer->routes = routes;
    topic = strdup(route->topic);
    if (topic == NULL)
        return error_set(err, SAGA_ENOMEM, "out of memory");
    routes[consumer->n_routes] = *route;
    routes[consumer->n_routes++].topic = topic;
    return 0;
}

int
saga_consumer_subscribe(struct saga_consumer *consumer, const char *topic, saga_handler_fn *handler,
                        void *user, struct saga_error *err)
{
    const struct consumer_route route = { .topic = topic, .plain = handler, .user = user };

    return consumer_route(consumer, &route, err);
}

int
saga_consumer_subscribe_batch(struct saga_consumer *consumer, const char *topic,
                              saga_batch_handler_fn *handler, void *user, struct saga_error *err)
{
    const struct consumer_route route = { .topic = topic, .many = handler, .user = user };

    return consumer_route(consumer, &route, err);
}

const char *
consumer_group(const struct saga_consumer *consumer)
{
    return consumer->options.group;
}

const struct saga_log *
consumer_log(const struct saga_consumer *consumer)
{
    return &consumer->options.log;
}

void
saga_consumer_stats(const struct saga_consumer *consumer, struct saga_consumer_stats *stats)
{
    const struct counters *counters = &consumer->counters;
    struct saga_consumer_stats now = {
        .size = stats->size,
        .partitions = atomic_load(&counters->partitions),
        .applied = atomic_load(&counters->applied),
        .duplicates_by_mark = atomic_load(&counters->duplicates_by_mark),
        .duplicates_by_inbox = atomic_load(&counters->duplicates_by_inbox),
        .conflicts = atomic_load(&counters->conflicts),
        .quarantined = atomic_load(&counters->quarantined),
        .retries = atomic_load(&counters->retries),
        .reconnects = atomic_load(&counters->reconnects),
        .batches = atomic_load(&counters->batches),
        .parked = atomic_load(&counters->parked),
        .lag = atomic_load(&counters->lag),
        .circuit = atomic_load(&counters->circuit),
        .redis_outages = atomic_load(&counters->redis_outages),
    };

    memcpy(stats, &now, stats->size < sizeof now ? stats->size : sizeof now);
}
