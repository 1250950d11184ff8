/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A Kafka to try things with: librdkafka's mock cluster in a process of its
 * own. Prints its address on one line and runs until SIGTERM or SIGINT.
 *
 *     mock-broker [--partitions N] [TOPIC...]
 *
 * Owns nothing of the demo; it makes the topics it is told to, and any other
 * on first use. What it is not: it keeps 5 MiB a partition and then forgets the
 * oldest, it keeps duplicates of an idempotent producer, and it answers a
 * waiting consumer only after fetch.wait.max.ms. It proves nothing about Kafka.
 */
#include <getopt.h>
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static int
usage(void)
{
    fputs("usage: mock-broker [--partitions N] [TOPIC...]\n", stderr);
    return 2;
}

/* The handle that librdkafka wants a mock cluster to belong to. */
static rd_kafka_t *
owner_new(void)
{
    char reason[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_t *owner;

    /* It has no broker to connect to, and would say so. */
    if (rd_kafka_conf_set(conf, "log_level", "3", reason, sizeof reason) != 0 ||
        (owner = rd_kafka_new(RD_KAFKA_PRODUCER, conf, reason, sizeof reason)) == NULL) {
        fprintf(stderr, "mock-broker: %s\n", reason);
        rd_kafka_conf_destroy(conf);
        return NULL;
    }
    return owner;
}

static int
topics_create(rd_kafka_mock_cluster_t *cluster, char **topics, int n, int partitions)
{
    for (int i = 0; i < n; i++) {
        rd_kafka_resp_err_t rc = rd_kafka_mock_topic_create(cluster, topics[i], partitions, 1);

        if (rc != RD_KAFKA_RESP_ERR_NO_ERROR) {
            fprintf(stderr, "mock-broker: topic %s: %s\n", topics[i], rd_kafka_err2str(rc));
            return -1;
        }
    }
    return 0;
}

int
main(int argc, char **argv)
{
    static const struct option options[] = { { "partitions", required_argument, NULL, 'p' },
                                             { 0 } };
    rd_kafka_t *owner = NULL;
    rd_kafka_mock_cluster_t *cluster = NULL;
    sigset_t ends;
    int partitions = 4, option, signal_number, rc = 1;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option != 'p' || (partitions = atoi(optarg)) < 1)
            return usage();
    }

    /* Blocked before librdkafka starts its threads, which inherit that: so
     * sigwait() below is the only place where these signals arrive. */
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    pthread_sigmask(SIG_BLOCK, &ends, NULL);

    if ((owner = owner_new()) == NULL)
        goto out;
    if ((cluster = rd_kafka_mock_cluster_new(owner, 1)) == NULL) {
        fputs("mock-broker: cannot listen on the loopback address\n", stderr);
        goto out;
    }
    if (topics_create(cluster, argv + optind, argc - optind, partitions) != 0)
        goto out;
    puts(rd_kafka_mock_cluster_bootstraps(cluster));
    fflush(stdout);
    sigwait(&ends, &signal_number);
    rc = 0;
out:
    if (cluster != NULL)
        rd_kafka_mock_cluster_destroy(cluster);
    if (owner != NULL)
        rd_kafka_destroy(owner);
    return rc;
}
