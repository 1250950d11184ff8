/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the programs of the benchmark share: the shape of a message, the
 * producer's properties, and the clock.
 *
 * A message has a payload of 256 bytes unless said otherwise, a key of 1,000,
 * two headers of its own, and in Kafka a third, its id, which the relay adds.
 */
#ifndef BENCH_H
#define BENCH_H

#include <librdkafka/rdkafka.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { KEYS = 1000, PAYLOAD_BYTES = 256 };

#define KIND        "order.created"
#define TRACEPARENT "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

static inline void __attribute__((noreturn, format(printf, 1, 2))) die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("bench: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

static inline int64_t
now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline void
sleep_until(int64_t ns)
{
    struct timespec until = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) != 0)
        ;
}

static inline void
set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
    char why[200];

    if (rd_kafka_conf_set(conf, name, value, why, sizeof why) != RD_KAFKA_CONF_OK)
        die("%s: %s", name, why);
}

/* The same properties as the relay's own (outbox/sink_properties.c), so that
 * what differs is the relay's work; except that nothing is left to linger. */
static inline rd_kafka_conf_t *
producer_conf(const char *brokers)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();

    set(conf, "bootstrap.servers", brokers);
    set(conf, "log_level", "3"); /* it warns of properties that we mean */
    set(conf, "client.id", "outbox-relay");
    set(conf, "enable.idempotence", "true");
    set(conf, "acks", "all");
    set(conf, "message.timeout.ms", "0");
    set(conf, "enable.gapless.guarantee", "true");
    set(conf, "partitioner", "murmur2_random");
    set(conf, "linger.ms", "1");
    set(conf, "message.max.bytes", "1048588");
    set(conf, "batch.size", "1000000");
    set(conf, "queue.buffering.max.kbytes", "262144");
    return conf;
}

static inline rd_kafka_t *
client(rd_kafka_type_t type, rd_kafka_conf_t *conf)
{
    char why[200];
    rd_kafka_t *made = rd_kafka_new(type, conf, why, sizeof why);

    if (made == NULL)
        die("librdkafka: %s", why);
    return made;
}

/* Holds up to `queued` messages: full, librdkafka may stand still for a second. */
static inline rd_kafka_t *
subscribed(const char *brokers, const char *topic, const char *group, const char *queued)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(1);
    rd_kafka_t *consumer;

    set(conf, "bootstrap.servers", brokers);
    set(conf, "group.id", group);
    set(conf, "auto.offset.reset", "earliest");
    set(conf, "enable.auto.offset.store", "false");
    set(conf, "auto.commit.interval.ms", "1000");
    set(conf, "queued.min.messages", queued);
    set(conf, "queued.max.messages.kbytes", "2000000");
    consumer = client(RD_KAFKA_CONSUMER, conf);
    rd_kafka_poll_set_consumer(consumer);
    rd_kafka_topic_partition_list_add(topics, topic, RD_KAFKA_PARTITION_UA);
    if (rd_kafka_subscribe(consumer, topics) != RD_KAFKA_RESP_ERR_NO_ERROR)
        die("cannot subscribe");
    rd_kafka_topic_partition_list_destroy(topics);
    return consumer;
}

static inline double
cpu_seconds(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

#endif
