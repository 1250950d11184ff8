/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes topics in a Kafka that is there; those that exist already are left as
 * they are. Returns when all of them can be written to.
 *
 *     make-topics --brokers HOST:PORT [--partitions N] TOPIC...
 */
#include <getopt.h>
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>

enum { TOPICS_MAX = 64, TIMEOUT_MS = 20000 };

static int
usage(void)
{
    fputs("usage: make-topics --brokers HOST:PORT [--partitions N] TOPIC...\n", stderr);
    return 2;
}

/* 0 if every topic is there now. */
static int
judge(rd_kafka_event_t *event)
{
    const rd_kafka_topic_result_t *const *results;
    size_t n;
    int rc = 0;

    if (event == NULL || rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        fprintf(stderr, "make-topics: %s\n",
                event != NULL ? rd_kafka_event_error_string(event) : "no answer from the brokers");
        return 1;
    }
    results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &n);
    for (size_t i = 0; i < n; i++) {
        rd_kafka_resp_err_t error = rd_kafka_topic_result_error(results[i]);

        if (error != RD_KAFKA_RESP_ERR_NO_ERROR &&
            error != RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS) {
            fprintf(stderr, "make-topics: %s: %s\n", rd_kafka_topic_result_name(results[i]),
                    rd_kafka_topic_result_error_string(results[i]));
            rc = 1;
        }
    }
    return rc;
}

static int
make_topics(rd_kafka_t *kafka, char **names, size_t n, int partitions)
{
    rd_kafka_NewTopic_t *topics[TOPICS_MAX];
    rd_kafka_AdminOptions_t *options =
        rd_kafka_AdminOptions_new(kafka, RD_KAFKA_ADMIN_OP_CREATETOPICS);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(kafka);
    rd_kafka_event_t *event;
    char reason[256];
    int rc;

    for (size_t i = 0; i < n; i++) {
        topics[i] = rd_kafka_NewTopic_new(names[i], partitions, -1, reason, sizeof reason);
        if (topics[i] == NULL) {
            fprintf(stderr, "make-topics: %s: %s\n", names[i], reason);
            return 1;
        }
    }
    /* The brokers answer when the partitions have leaders. */
    rd_kafka_AdminOptions_set_operation_timeout(options, TIMEOUT_MS, reason, sizeof reason);
    rd_kafka_CreateTopics(kafka, topics, n, options, queue);
    event = rd_kafka_queue_poll(queue, TIMEOUT_MS);
    rc = judge(event);
    if (event != NULL)
        rd_kafka_event_destroy(event);
    rd_kafka_NewTopic_destroy_array(topics, n);
    rd_kafka_queue_destroy(queue);
    rd_kafka_AdminOptions_destroy(options);
    return rc;
}

int
main(int argc, char **argv)
{
    static const struct option options[] = { { "brokers", required_argument, NULL, 'b' },
                                             { "partitions", required_argument, NULL, 'p' },
                                             { 0 } };
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_t *kafka;
    const char *brokers = NULL;
    char reason[256];
    int partitions = 1, option, rc;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'b')
            brokers = optarg;
        else if (option != 'p' || (partitions = atoi(optarg)) < 1)
            return usage();
    }
    if (brokers == NULL || optind == argc || argc - optind > TOPICS_MAX)
        return usage();
    if (rd_kafka_conf_set(conf, "bootstrap.servers", brokers, reason, sizeof reason) != 0 ||
        rd_kafka_conf_set(conf, "log_level", "2", reason, sizeof reason) != 0 ||
        (kafka = rd_kafka_new(RD_KAFKA_PRODUCER, conf, reason, sizeof reason)) == NULL) {
        fprintf(stderr, "make-topics: %s\n", reason);
        return 2;
    }
    rc = make_topics(kafka, argv + optind, (size_t)(argc - optind), partitions);
    rd_kafka_destroy(kafka);
    return rc;
}
