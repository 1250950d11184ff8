/* SPDX-License-Identifier: Apache-2.0 */
/*
 * librdkafka's mock cluster of one broker, told what to answer.
 */
#include "test/support/mock.h"

#include "test/support/kafka.h"
#include "test/support/run.h"

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <stdlib.h>

struct mock {
    rd_kafka_t *client;
    rd_kafka_mock_cluster_t *cluster;
};

static void
end_mock(void *arg)
{
    struct mock *mock = arg;

    rd_kafka_destroy(mock->client);
    free(mock);
}

struct mock *
given_mock(void)
{
    struct mock *mock = calloc(1, sizeof *mock);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char why[256];

    ck_assert_ptr_nonnull(mock);
    ck_assert_int_eq(rd_kafka_conf_set(conf, "test.mock.num.brokers", "1", why, sizeof why),
                     RD_KAFKA_CONF_OK);
    mock->client = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    ck_assert_msg(mock->client != NULL, "%s", why);
    mock->cluster = rd_kafka_handle_mock_cluster(mock->client);
    at_test_end(end_mock, mock);
    use_brokers(text_of("%s", rd_kafka_mock_cluster_bootstraps(mock->cluster)));
    return mock;
}

void
mock_topic(struct mock *mock, const char *topic, int partitions)
{
    ck_assert_int_eq(rd_kafka_mock_topic_create(mock->cluster, topic, partitions, 1), 0);
}

enum { PRODUCE = 0, SYNC_GROUP = 14, END_TXN = 26 }; /* Kafka's numbers of requests */

static void
request_errors(struct mock *mock, int16_t request, int n, int error)
{
    for (int i = 0; i < n; i++)
        rd_kafka_mock_push_request_errors(mock->cluster, request, 1, (rd_kafka_resp_err_t)error);
}

void
mock_produce_errors(struct mock *mock, int n, int error)
{
    request_errors(mock, PRODUCE, n, error);
}

void
mock_commit_errors(struct mock *mock, int n, int error)
{
    request_errors(mock, END_TXN, n, error);
}

void
mock_topic_error(struct mock *mock, const char *topic, int error)
{
    rd_kafka_mock_topic_set_error(mock->cluster, topic, (rd_kafka_resp_err_t)error);
}

void
mock_delay(struct mock *mock, int ms)
{
    rd_kafka_mock_broker_set_rtt(mock->cluster, 1, ms);
}

void
mock_down(struct mock *mock, bool down)
{
    if (down)
        rd_kafka_mock_broker_set_down(mock->cluster, 1);
    else
        rd_kafka_mock_broker_set_up(mock->cluster, 1);
}

void
mock_share_late(struct mock *mock, int ms)
{
    rd_kafka_mock_broker_push_request_error_rtts(mock->cluster, 1, SYNC_GROUP, 1,
                                                 RD_KAFKA_RESP_ERR_NO_ERROR, ms);
}
