/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread polls. Ids that came before they were asked for are among the
 * latest, which are kept.
 */
#include "test/chaos/arrivals.h"

#include "test/support/kafka.h"
#include "test/support/run.h"

#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { LATEST = 4096, POLL_MS = 50, METADATA_MS = 3000 };

struct arrivals {
    rd_kafka_t *consumer;
    rd_kafka_topic_t *topic;
    pthread_t thread;
    atomic_bool stop;
    pthread_mutex_t lock;
    struct saga_uuid latest[LATEST];
    size_t n_latest;
    struct saga_uuid awaited[AWAITED_MAX];
    int n_awaited;
};

static void
come(struct arrivals *arrivals, const struct saga_uuid *id)
{
    arrivals->latest[arrivals->n_latest++ % LATEST] = *id;
    for (int i = 0; i < arrivals->n_awaited; i++)
        if (memcmp(&arrivals->awaited[i], id, sizeof *id) == 0)
            arrivals->awaited[i--] = arrivals->awaited[--arrivals->n_awaited];
}

static void
take(struct arrivals *arrivals, const rd_kafka_message_t *message)
{
    rd_kafka_headers_t *headers;
    const void *value;
    struct saga_uuid id;
    struct saga_error err;
    size_t len;
    char text[37] = "";

    if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR ||
        rd_kafka_message_headers(message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR ||
        rd_kafka_header_get_last(headers, "message-id", &value, &len) != 0 || len != 36)
        return;
    memcpy(text, value, 36);
    if (saga_uuid_parse(&id, text, &err) != 0)
        return;
    pthread_mutex_lock(&arrivals->lock);
    come(arrivals, &id);
    pthread_mutex_unlock(&arrivals->lock);
}

static void *
run_arrivals(void *arg)
{
    struct arrivals *arrivals = arg;

    while (!atomic_load(&arrivals->stop)) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(arrivals->consumer, POLL_MS);

        if (message == NULL)
            continue;
        take(arrivals, message);
        rd_kafka_message_destroy(message);
    }
    return NULL;
}

static void
end_arrivals(void *arg)
{
    struct arrivals *arrivals = arg;

    atomic_store(&arrivals->stop, true);
    pthread_join(arrivals->thread, NULL);
    rd_kafka_topic_destroy(arrivals->topic);
    rd_kafka_consumer_close(arrivals->consumer);
    rd_kafka_destroy(arrivals->consumer);
    free(arrivals);
}

struct arrivals *
start_arrivals(const char *topic, int partitions)
{
    static const char *const settings[][2] = {
        { "group.id", "arrivals" },
        { "enable.auto.commit", "false" },
        { "fetch.wait.max.ms", "50" },
        { "reconnect.backoff.max.ms", "500" },
        { "log_level", "2" },
        { "topic.metadata.refresh.interval.ms", "1000" },
        { "fetch.error.backoff.ms", "50" },
    };
    struct arrivals *arrivals = calloc(1, sizeof *arrivals);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(partitions);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char why[256];

    ck_assert_ptr_nonnull(arrivals);
    pthread_mutex_init(&arrivals->lock, NULL);
    rd_kafka_conf_set(conf, "bootstrap.servers", brokers(), why, sizeof why);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        ck_assert_int_eq(rd_kafka_conf_set(conf, settings[i][0], settings[i][1], why, sizeof why),
                         0);
    arrivals->consumer = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);
    ck_assert_msg(arrivals->consumer != NULL, "%s", why);
    arrivals->topic = rd_kafka_topic_new(arrivals->consumer, topic, NULL);
    for (int i = 0; i < partitions; i++)
        rd_kafka_topic_partition_list_add(list, topic, i)->offset = RD_KAFKA_OFFSET_BEGINNING;
    ck_assert_int_eq(rd_kafka_assign(arrivals->consumer, list), 0);
    rd_kafka_topic_partition_list_destroy(list);
    ck_assert_int_eq(pthread_create(&arrivals->thread, NULL, run_arrivals, arrivals), 0);
    at_test_end(end_arrivals, arrivals);
    return arrivals;
}

void
arrivals_await(struct arrivals *arrivals, const struct saga_uuid *ids, int n)
{
    pthread_mutex_lock(&arrivals->lock);
    arrivals->n_awaited = 0;
    for (int i = 0; i < n; i++) {
        size_t at = arrivals->n_latest > LATEST ? arrivals->n_latest - LATEST : 0;

        while (at < arrivals->n_latest &&
               memcmp(&arrivals->latest[at % LATEST], &ids[i], sizeof *ids) != 0)
            at++;
        if (at == arrivals->n_latest)
            arrivals->awaited[arrivals->n_awaited++] = ids[i];
    }
    pthread_mutex_unlock(&arrivals->lock);
}

bool
arrivals_complete(struct arrivals *arrivals)
{
    bool complete;

    pthread_mutex_lock(&arrivals->lock);
    complete = arrivals->n_awaited == 0;
    pthread_mutex_unlock(&arrivals->lock);
    return complete;
}

int
arrivals_leader(struct arrivals *arrivals)
{
    const struct rd_kafka_metadata *metadata;
    int leader = -1;

    if (rd_kafka_metadata(arrivals->consumer, 0, arrivals->topic, &metadata, METADATA_MS) != 0)
        return -1;
    if (metadata->topic_cnt == 1 && metadata->topics[0].partition_cnt > 0)
        leader = metadata->topics[0].partitions[0].leader;
    rd_kafka_metadata_destroy(metadata);
    return leader;
}
