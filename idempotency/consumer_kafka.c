/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The consumer's side towards Kafka: membership of the group, the assigned
 * partitions with a queue each, and the offsets that Kafka keeps.
 *
 * Kafka's offsets are a convenience: what counts is committed in PostgreSQL.
 * They are stored only after that, and librdkafka commits what is stored:
 * every second, and for a partition that is taken away.
 */
#include "base/clock.h"
#include "base/crash.h"
#include "idempotency/consumer_state.h"

#include <stdlib.h>
#include <string.h>

enum { CLOSE_MS = 5000 };

/* --- opening --------------------------------------------------------------- */

static int
set(rd_kafka_conf_t *conf, const char *name, const char *value, struct saga_error *err)
{
    char why[200];

    if (rd_kafka_conf_set(conf, name, value, why, sizeof why) == RD_KAFKA_CONF_OK)
        return 0;
    return error_set(err, SAGA_EINVAL, "%s", why);
}

static int
set_all(rd_kafka_conf_t *conf, const struct saga_consumer_options *options, struct saga_error *err)
{
    const struct saga_pair ours[] = {
        { "group.id", options->group },
        { "bootstrap.servers", options->brokers },
        /* Stored by default before we have seen the message; and a new group
         * begins by default after everything that is there. */
        { "enable.auto.offset.store", "false" },
        { "auto.offset.reset", "earliest" },
        { "enable.auto.commit", "true" },
        { "enable.partition.eof", "true" },
        { "log.queue", "true" },
        { NULL, NULL },
    };
    static const struct saga_pair defaults[] = {
        { "auto.commit.interval.ms", "1000" },
        /* A topic that is created later is noticed within ten seconds. */
        { "topic.metadata.refresh.interval.ms", "10000" },
        /* A broker that stands still keeps its connections: so long it may hold up the commit of
         * offsets, and with it our end. librdkafka's own minute is longer than most init systems
         * wait. */
        { "socket.timeout.ms", "10000" },
        { NULL, NULL },
    };
    const struct saga_pair *const all[] = { defaults, options->properties, ours };
    int rc = 0;

    for (size_t i = 0; i < 3; i++)
        for (const struct saga_pair *pair = all[i]; pair != NULL && pair->name != NULL; pair++)
            if (rc == 0)
                rc = set(conf, pair->name, pair->value, err);
    return rc;
}

static void
log_line(const rd_kafka_t *kafka, int level, const char *facility, const char *text)
{
    const struct saga_consumer *consumer = rd_kafka_opaque(kafka);

    (void)level;
    log_event(&consumer->options.log, SAGA_LOG_DEBUG, "librdkafka says",
              LOG_TEXT("facility", facility), LOG_TEXT("text", text));
}

void
log_trouble(struct saga_consumer *consumer, rd_kafka_resp_err_t code, const char *text)
{
    if (may_log(&consumer->kafka_log_ms))
        log_event(&consumer->options.log, SAGA_LOG_WARNING, "trouble with Kafka; still trying",
                  LOG_TEXT("code", rd_kafka_err2name(code)), LOG_TEXT("text", text));
}

static void
on_error(rd_kafka_t *kafka, int code, const char *reason, void *opaque)
{
    struct saga_consumer *consumer = opaque;
    char why[200];

    if (code != RD_KAFKA_RESP_ERR__FATAL) {
        log_trouble(consumer, code, reason);
        return;
    }
    code = rd_kafka_fatal_error(kafka, why, sizeof why);
    error_set(&consumer->failure, SAGA_EBROKER, "Kafka will have no more of this consumer: %s",
              why);
    consumer->failure.native = code;
    consumer->failed = error_flag(&consumer->failure, SAGA_EBROKER, SAGA_ERR_FATAL);
}

static void on_rebalance(rd_kafka_t *kafka, rd_kafka_resp_err_t code,
                         rd_kafka_topic_partition_list_t *list, void *opaque);

int
kafka_open(struct saga_consumer *consumer, struct saga_error *err)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char why[200];
    int rc = set_all(conf, &consumer->options, err);

    if (rc != 0) {
        rd_kafka_conf_destroy(conf);
        return rc;
    }
    rd_kafka_conf_set_opaque(conf, consumer);
    rd_kafka_conf_set_log_cb(conf, log_line);
    rd_kafka_conf_set_error_cb(conf, on_error);
    rd_kafka_conf_set_rebalance_cb(conf, on_rebalance);
    consumer->kafka = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);
    if (consumer->kafka == NULL) {
        rd_kafka_conf_destroy(conf);
        return error_set(err, SAGA_EINVAL, "%s", why);
    }
    rd_kafka_poll_set_consumer(consumer->kafka);
    rd_kafka_set_log_queue(consumer->kafka, NULL);
    consumer->queue = rd_kafka_queue_get_consumer(consumer->kafka);
    consumer->nothing = rd_kafka_queue_new(consumer->kafka);
    return 0;
}

/* The descriptor wakes the loop when a queue stops being empty. */
static void
wake_on(const struct saga_consumer *consumer, rd_kafka_queue_t *queue)
{
    static const uint64_t one = 1;

    rd_kafka_queue_io_event_enable(queue, consumer->wake_fd, &one, sizeof one);
}

int
kafka_subscribe(struct saga_consumer *consumer, struct saga_error *err)
{
    rd_kafka_topic_partition_list_t *topics =
        rd_kafka_topic_partition_list_new((int)consumer->n_routes);
    rd_kafka_resp_err_t code;

    for (size_t i = 0; i < consumer->n_routes; i++)
        rd_kafka_topic_partition_list_add(topics, consumer->routes[i].topic, RD_KAFKA_PARTITION_UA);
    wake_on(consumer, consumer->queue);
    code = rd_kafka_subscribe(consumer->kafka, topics);
    rd_kafka_topic_partition_list_destroy(topics);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        return error_set(err, SAGA_EINVAL, "subscribing: %s", rd_kafka_err2str(code));
    consumer->subscribed = true;
    return 0;
}

/* --- partitions -------------------------------------------------------------- */

const struct consumer_route *
find_route(const struct saga_consumer *consumer, const char *topic)
{
    for (size_t i = 0; i < consumer->n_routes; i++)
        if (strcmp(consumer->routes[i].topic, topic) == 0)
            return &consumer->routes[i];
    return NULL;
}

static void
add_partition(struct saga_consumer *consumer, const char *topic, int32_t number)
{
    const struct consumer_route *route = find_route(consumer, topic);
    struct partition *partition = calloc(1, sizeof *partition);
    char *copy = strdup(topic);

    if (route == NULL || partition == NULL || copy == NULL) {
        consumer->failed = error_set(&consumer->failure, SAGA_ENOMEM, "out of memory");
        free(partition);
        free(copy);
        return;
    }
    partition->topic = copy;
    partition->number = number;
    partition->route = route;
    partition->position = partition->end = OFFSET_NONE;
    partition->committed = partition->floor = OFFSET_NONE;
    hand_init(&partition->hand);
    partition->queue = rd_kafka_queue_get_partition(consumer->kafka, topic, number);
    rd_kafka_queue_forward(partition->queue, NULL);
    wake_on(consumer, partition->queue);
    partition->next = consumer->partitions;
    consumer->partitions = partition;
    atomic_fetch_add(&consumer->counters.partitions, 1);
}

static void
remove_partition(struct saga_consumer *consumer, struct partition **at)
{
    struct partition *partition = *at;

    *at = partition->next;
    kafka_drop(consumer, partition);
    rd_kafka_queue_io_event_enable(partition->queue, -1, NULL, 0);
    rd_kafka_queue_destroy(partition->queue);
    free(partition->topic);
    free(partition);
    atomic_fetch_sub(&consumer->counters.partitions, 1);
}

static void
remove_listed(struct saga_consumer *consumer, const rd_kafka_topic_partition_list_t *list)
{
    for (int i = 0; i < list->cnt; i++)
        for (struct partition **at = &consumer->partitions; *at != NULL;) {
            if ((*at)->number == list->elems[i].partition &&
                strcmp((*at)->topic, list->elems[i].topic) == 0)
                remove_partition(consumer, at);
            else
                at = &(*at)->next;
        }
}

/* --- rebalancing ------------------------------------------------------------- */

/* While the handle closes, a rebalance may still be handed to us when the group
 * is gone already, and has no protocol any more. */
static const char *
protocol_of(rd_kafka_t *kafka)
{
    const char *protocol = rd_kafka_rebalance_protocol(kafka);

    return protocol != NULL ? protocol : "NONE";
}

static void
log_rebalance(const struct saga_consumer *consumer, const char *what,
              const rd_kafka_topic_partition_list_t *list)
{
    log_event(&consumer->options.log, SAGA_LOG_INFO, what, LOG_INT("partitions", list->cnt),
              LOG_TEXT("protocol", protocol_of(consumer->kafka)),
              LOG_TEXT("lost", rd_kafka_assignment_lost(consumer->kafka) ? "yes" : "no"));
}

/* Queues are taken out of the common one first: what came through that could
 * not wait. */
static void
assign(struct saga_consumer *consumer, rd_kafka_topic_partition_list_t *list, bool cooperative)
{
    log_rebalance(consumer, "partitions assigned", list);
    for (int i = 0; i < list->cnt; i++)
        add_partition(consumer, list->elems[i].topic, list->elems[i].partition);
    if (cooperative)
        rd_kafka_error_destroy(rd_kafka_incremental_assign(consumer->kafka, list));
    else
        rd_kafka_assign(consumer->kafka, list);
    consumer->assigned = consumer->was_assigned = true;
    consumer->horizon_due = true;
}

/* No transaction is open here: rebalances are served between two batches. What
 * is in hand is left to the next owner. What is stored is committed by
 * librdkafka while it lets the partitions go, unless they are lost already. */
static void
revoke(struct saga_consumer *consumer, rd_kafka_topic_partition_list_t *list, bool cooperative)
{
    log_rebalance(consumer, "partitions revoked", list);
    CRASH_POINT("consumer.before_revoke");
    if (pg_connected(&consumer->pg))
        (void)batch_catch_up(consumer, true);
    batch_reset(&consumer->batch);
    remove_listed(consumer, list);
    if (cooperative) {
        rd_kafka_error_destroy(rd_kafka_incremental_unassign(consumer->kafka, list));
    } else {
        rd_kafka_assign(consumer->kafka, NULL);
        consumer->assigned = false; /* the new share is still to come */
    }
}

static void
on_rebalance(rd_kafka_t *kafka, rd_kafka_resp_err_t code, rd_kafka_topic_partition_list_t *list,
             void *opaque)
{
    struct saga_consumer *consumer = opaque;
    bool cooperative = strcmp(protocol_of(kafka), "COOPERATIVE") == 0;

    if (code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
        assign(consumer, list, cooperative);
        return;
    }
    if (code != RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS)
        log_trouble(consumer, code, "rebalance failed");
    revoke(consumer, list, cooperative);
}

/* --- messages ---------------------------------------------------------------- */

void
kafka_serve(struct saga_consumer *consumer)
{
    rd_kafka_message_t *message;

    while ((message = rd_kafka_consumer_poll(consumer->kafka, 0)) != NULL) {
        if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
            log_trouble(consumer, message->err, rd_kafka_message_errstr(message));
        else /* cannot be; but going on would lose it */
            consumer->failed = error_set(&consumer->failure, SAGA_EBROKER,
                                         "a message came past its partition's queue");
        rd_kafka_message_destroy(message);
    }
}

/* Before 2.3, librdkafka aborts the process if a member that rebalances cooperatively ends when it
 * has joined the group and has not yet had its first share (its issue 4312). */
static void
await_first_share(struct saga_consumer *consumer)
{
    enum { FIXED_IN = 0x02030000, AWAIT_MS = 5000 };
    char strategy[256] = "";
    size_t size = sizeof strategy;
    int64_t deadline = clock_mono_ms() + AWAIT_MS;

    rd_kafka_conf_get(rd_kafka_conf(consumer->kafka), "partition.assignment.strategy", strategy,
                      &size);
    if (rd_kafka_version() >= FIXED_IN || strstr(strategy, "cooperative") == NULL)
        return;
    while (consumer->subscribed && !consumer->was_assigned && clock_left_ms(deadline) > 0)
        rd_kafka_queue_poll_callback(consumer->queue, 100);
}

/* Leaves the group after committing what is stored. Without a coordinator that
 * would take a minute; the others notice by the session's timeout, too. */
static void
leave_group(struct saga_consumer *consumer)
{
    rd_kafka_queue_t *queue = rd_kafka_queue_new(consumer->kafka);
    rd_kafka_error_t *error = rd_kafka_consumer_close_queue(consumer->kafka, queue);
    int64_t deadline = clock_mono_ms() + CLOSE_MS;

    while (error == NULL && !rd_kafka_consumer_closed(consumer->kafka) &&
           clock_left_ms(deadline) > 0)
        rd_kafka_queue_poll_callback(queue, 100);
    rd_kafka_error_destroy(error);
    rd_kafka_queue_destroy(queue);
}

void
kafka_close(struct saga_consumer *consumer)
{
    if (consumer->kafka == NULL)
        return;
    await_first_share(consumer);
    leave_group(consumer);
    while (consumer->partitions != NULL)
        remove_partition(consumer, &consumer->partitions);
    horizon_forget(consumer);
    rd_kafka_queue_io_event_enable(consumer->queue, -1, NULL, 0);
    rd_kafka_queue_destroy(consumer->queue);
    rd_kafka_queue_destroy(consumer->nothing);
    rd_kafka_destroy_flags(consumer->kafka, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
}
