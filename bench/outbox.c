/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast the outbox is, beside what bounds it, in one run on the same
 * servers: librdkafka alone producing the same messages, then saga_enqueue()
 * writing them, then the relay publishing them.
 *
 *     outbox CONNINFO BROKERS N            (make bench)
 *
 * Messages have 256 bytes, a key and two headers. Ratios of one run are what
 * counts; the machine's other work moves all the figures together.
 */
#include <libpq-fe.h>
#include <librdkafka/rdkafka.h>
#include <saga/outbox.h>
#include <saga/relay.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { PAYLOAD_BYTES = 256, BATCH = 1000, KEYS = 1000 };

static const char topic_alone[] = "bench.alone", topic_relay[] = "bench.relay";
static char payload[PAYLOAD_BYTES];

static void
die(const char *what, const char *why)
{
    fprintf(stderr, "bench: %s: %s\n", what, why);
    exit(1);
}

static double
seconds(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Prints a line and returns the rate. */
static double
report(const char *what, long n, double wall, double cpu, double ceiling)
{
    double rate = (double)n / wall;

    printf("  %-34s %10.0f /s %8.2f s %8.2f s", what, rate, wall, cpu);
    if (ceiling > 0)
        printf(" %8.2f", rate / ceiling);
    printf("\n");
    fflush(stdout);
    return rate;
}

static void
set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
    char why[200];

    if (rd_kafka_conf_set(conf, name, value, why, sizeof why) != RD_KAFKA_CONF_OK)
        die(name, why);
}

static double
kafka_alone(const char *brokers, long n)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    double wall, cpu;
    rd_kafka_t *producer;
    char why[200], key[24];

    set(conf, "bootstrap.servers", brokers);
    set(conf, "enable.idempotence", "true");
    set(conf, "queue.buffering.max.messages", "100000");
    set(conf, "linger.ms", "1");
    producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    if (producer == NULL)
        die("librdkafka", why);
    wall = seconds(CLOCK_MONOTONIC);
    cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    for (long i = 0; i < n;) {
        snprintf(key, sizeof key, "key-%ld", i % KEYS);
        if (rd_kafka_producev(
                producer, RD_KAFKA_V_TOPIC(topic_alone), RD_KAFKA_V_KEY(key, strlen(key)),
                RD_KAFKA_V_VALUE(payload, sizeof payload), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                RD_KAFKA_V_HEADER("message-id", "0123456789abcdef", 16),
                RD_KAFKA_V_HEADER("kind", "bench", 5), RD_KAFKA_V_END) == 0)
            i++;
        rd_kafka_poll(producer, 0);
    }
    rd_kafka_flush(producer, 120000);
    wall = seconds(CLOCK_MONOTONIC) - wall;
    cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    rd_kafka_destroy(producer);
    return report("librdkafka alone, the ceiling", n, wall, cpu, 0);
}

static void
enqueue(const char *conninfo, long n, double ceiling)
{
    static struct saga_message messages[BATCH];
    static char keys[BATCH][24];
    const struct saga_pair *headers = SAGA_PAIRS({ "kind", "bench" });
    PGconn *conn = PQconnectdb(conninfo);
    double wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    struct saga_error err;

    for (long i = 0; i < n; i += BATCH) {
        for (long j = 0; j < BATCH; j++) {
            snprintf(keys[j], sizeof keys[j], "key-%ld", (i + j) % KEYS);
            messages[j] = (struct saga_message){ .topic = topic_relay,
                                                 .key = keys[j],
                                                 .headers = headers,
                                                 .payload = { payload, sizeof payload } };
        }
        if (saga_begin(conn, &err) != 0 || saga_enqueue(conn, messages, BATCH, NULL, &err) != 0 ||
            saga_commit(conn, &err) != 0)
            die("enqueue", err.message);
    }
    report("saga_enqueue, 1000 a transaction", n, seconds(CLOCK_MONOTONIC) - wall,
           seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu, ceiling);
    PQfinish(conn);
}

static void
relay(const char *conninfo, const char *brokers, long n, double ceiling)
{
    const struct saga_relay_options options = { SAGA_RELAY_OPTIONS, .conninfo = conninfo,
                                                .brokers = brokers };
    double wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    struct saga_relay *relay;
    struct saga_error err;

    if (saga_relay_new(&relay, &options, &err) != 0 ||
        saga_relay_run(relay, SAGA_RELAY_ONCE, &err) != 0)
        die("relay", err.message);
    saga_relay_free(relay);
    report("relay, from start to all published", n, seconds(CLOCK_MONOTONIC) - wall,
           seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu, ceiling);
}

int
main(int argc, char **argv)
{
    long n = argc == 4 ? atol(argv[3]) / BATCH * BATCH : 0;
    struct rusage usage;
    double ceiling;

    if (n <= 0) {
        fprintf(stderr, "usage: outbox CONNINFO BROKERS N, N at least %d\n", BATCH);
        return 2;
    }
    memset(payload, 'x', sizeof payload);
    printf("  %ld messages of %d bytes        %14s %10s %10s %8s\n", n, PAYLOAD_BYTES, "rate",
           "elapsed", "CPU here", "ratio");
    ceiling = kafka_alone(argv[2], n);
    enqueue(argv[1], n, ceiling);
    relay(argv[1], argv[2], n, ceiling);
    getrusage(RUSAGE_SELF, &usage);
    printf("  memory at its peak: %ld MiB, all three together\n", usage.ru_maxrss / 1024);
    return 0;
}
