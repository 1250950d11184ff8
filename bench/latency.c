/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long messages take from their sender to a consumer.
 *
 *     latency relay|alone CONNINFO BROKERS TOPIC RATE SECONDS
 *
 * relay: from just before COMMIT, through a relay that somebody else runs.
 * alone: from just before they are given to librdkafka. Both with the same
 * consumer, in this process, by one clock. Two seconds warm up and do not count.
 * Prints p50, p99 and p99.9 in milliseconds.
 */
#include "bench/bench.h"

#include <libpq-fe.h>
#include <pthread.h>
#include <saga/outbox.h>
#include <stdatomic.h>
#include <stdbool.h>

enum { SENDERS = 4, WARM_SECONDS = 2, WAIT_SECONDS = 30 };

static struct {
    bool relay;
    const char *conninfo, *brokers, *topic;
    long rate, n, warm;
    int64_t begin;
    rd_kafka_t *producer;
} plan;
static int64_t *sent_ns, *took_ns; /* of each message; 0: not yet */
static atomic_long arrived;

static void
fill(long i, char payload[PAYLOAD_BYTES], char key[24])
{
    memset(payload, 'x', PAYLOAD_BYTES);
    memcpy(payload, &i, sizeof i);
    snprintf(key, 24, "key-%ld", i % KEYS);
}

static void
send_by_outbox(PGconn *conn, long i)
{
    char payload[PAYLOAD_BYTES], key[24];
    const struct saga_message message = { .topic = plan.topic,
                                          .key = key,
                                          .payload = { payload, sizeof payload } };
    struct saga_error err;

    fill(i, payload, key);
    if (saga_begin(conn, &err) != 0 || saga_enqueue(conn, &message, 1, NULL, &err) != 0)
        die("%s", err.message);
    sent_ns[i] = now_ns();
    if (saga_commit(conn, &err) != 0)
        die("%s", err.message);
}

static void
send_alone(long i)
{
    char payload[PAYLOAD_BYTES], key[24];
    rd_kafka_resp_err_t code;

    fill(i, payload, key);
    sent_ns[i] = now_ns();
    code = rd_kafka_producev(plan.producer, RD_KAFKA_V_TOPIC(plan.topic),
                             RD_KAFKA_V_KEY(key, strlen(key)),
                             RD_KAFKA_V_VALUE(payload, sizeof payload),
                             RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        die("%s", rd_kafka_err2str(code));
    rd_kafka_poll(plan.producer, 0);
}

static void *
run_sender(void *number)
{
    PGconn *conn = plan.relay ? PQconnectdb(plan.conninfo) : NULL;

    for (long i = (intptr_t)number; i < plan.n; i += SENDERS) {
        sleep_until(plan.begin + i * 1000000000 / plan.rate);
        if (plan.relay)
            send_by_outbox(conn, i);
        else
            send_alone(i);
    }
    PQfinish(conn);
    return NULL;
}

static rd_kafka_t *
assigned(void)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_topic_partition_list_t *all = rd_kafka_topic_partition_list_new(1);
    rd_kafka_t *consumer;

    set(conf, "bootstrap.servers", plan.brokers);
    set(conf, "group.id", plan.topic);
    set(conf, "enable.auto.commit", "false");
    consumer = client(RD_KAFKA_CONSUMER, conf);
    rd_kafka_topic_partition_list_add(all, plan.topic, 0)->offset = RD_KAFKA_OFFSET_BEGINNING;
    if (rd_kafka_assign(consumer, all) != RD_KAFKA_RESP_ERR_NO_ERROR)
        die("cannot read %s", plan.topic);
    rd_kafka_topic_partition_list_destroy(all);
    return consumer;
}

static void
consume(rd_kafka_t *consumer)
{
    int64_t give_up = plan.begin + (plan.n / plan.rate + WAIT_SECONDS) * 1000000000;

    while (atomic_load(&arrived) < plan.n) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(consumer, 100);
        int64_t now = now_ns();
        long i;

        if (message != NULL && message->err == 0 && message->len == PAYLOAD_BYTES) {
            memcpy(&i, message->payload, sizeof i);
            if (took_ns[i] == 0) {
                took_ns[i] = now - sent_ns[i];
                atomic_fetch_add(&arrived, 1);
            }
        }
        if (message != NULL)
            rd_kafka_message_destroy(message);
        if (now > give_up)
            die("only %ld of %ld messages arrived", atomic_load(&arrived), plan.n);
    }
}

static int
compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static void
print_percentiles(void)
{
    static const double shares[] = { 0.5, 0.99, 0.999 };
    long n = plan.n - plan.warm;

    qsort(took_ns + plan.warm, (size_t)n, sizeof *took_ns, compare);
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++)
        printf("%.2f%c", (double)took_ns[plan.warm + (long)(shares[i] * (double)(n - 1))] / 1e6,
               i < 2 ? ' ' : '\n');
}

int
main(int argc, char **argv)
{
    pthread_t threads[SENDERS];
    rd_kafka_t *consumer;

    if (argc != 7)
        die("usage: latency relay|alone CONNINFO BROKERS TOPIC RATE SECONDS");
    plan.relay = strcmp(argv[1], "relay") == 0;
    plan.conninfo = argv[2];
    plan.brokers = argv[3];
    plan.topic = argv[4];
    plan.rate = atol(argv[5]);
    plan.warm = plan.rate * WARM_SECONDS;
    plan.n = plan.warm + plan.rate * atol(argv[6]);
    sent_ns = calloc((size_t)plan.n, sizeof *sent_ns);
    took_ns = calloc((size_t)plan.n, sizeof *took_ns);
    if (sent_ns == NULL || took_ns == NULL)
        die("out of memory");
    if (!plan.relay)
        plan.producer = client(RD_KAFKA_PRODUCER, producer_conf(plan.brokers));
    consumer = assigned();
    plan.begin = now_ns() + 1000000000;
    for (int i = 0; i < SENDERS; i++)
        pthread_create(&threads[i], NULL, run_sender, (void *)(intptr_t)i);
    consume(consumer);
    for (int i = 0; i < SENDERS; i++)
        pthread_join(threads[i], NULL);
    print_percentiles();
    rd_kafka_consumer_close(consumer);
    rd_kafka_destroy(consumer);
    if (plan.producer != NULL)
        rd_kafka_destroy(plan.producer);
    return 0;
}
