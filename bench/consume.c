/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Consumers, from the ceiling downwards; each applies one UPDATE a message, or
 * nothing.
 *
 *     consume produce BROKERS TOPIC N SEED REPEATED
 *         N messages with ids of that seed; REPEATED % of them are those of a
 *         thousand messages before
 *     consume alone BROKERS TOPIC GROUP N
 *         reads, and commits offsets: no more
 *     consume loop BROKERS TOPIC GROUP N CONNINFO BATCH
 *         the same UPDATEs by hand, without any protection
 *     consume ours BROKERS TOPIC GROUP N CONNINFO BATCH REDIS|-
 *
 * Prints messages, seconds and CPU seconds, from the first message (or batch) to the
 * last.
 */
#include "bench/bench.h"

#include <libpq-fe.h>
#include <pthread.h>
#include <saga/consumer.h>
#include <stdbool.h>

enum { POLL_MS = 100, BATCH_MAX = 1000 };

static int64_t began;
static double cpu_before;

static void
begin(void)
{
    began = now_ns();
    cpu_before = cpu_seconds();
}

static void
report(long n)
{
    printf("%ld %.3f %.3f\n", n, (double)(now_ns() - began) / 1e9, cpu_seconds() - cpu_before);
}

/* --- messages ------------------------------------------------------------------- */

/* Version 7, of today: the consumer looks at the time inside. Each seed has minutes of its own, as
 * what was measured before was made before. */
static void
id_text(char text[37], long seed, long i)
{
    enum { OF_A_SEED = 200000, SEEDS = 86400000 / OF_A_SEED };
    long long ms = (long long)time(NULL) / 86400 * 86400000 + seed % SEEDS * OF_A_SEED + i;

    snprintf(text, 37, "%08llx-%04llx-7000-8000-%04lx%08lx", ms >> 16, ms & 0xffff, seed & 0xffff,
             i & 0xffffffff);
}

static int
produce(const char *brokers, const char *topic_name, long n, long seed, long repeated)
{
    static char payload[PAYLOAD_BYTES];
    rd_kafka_t *producer = client(RD_KAFKA_PRODUCER, producer_conf(brokers));

    memset(payload, 'x', sizeof payload);
    for (long i = 0; i < n;) {
        bool again = repeated == 10 && i >= 1000 && i % 10 == 0;
        char id[37], key[16];
        rd_kafka_resp_err_t code;

        id_text(id, seed, again ? i - 1000 + 1 : i);
        snprintf(key, sizeof key, "key-%ld", (again ? i + 1 : i) % KEYS);
        code = rd_kafka_producev(
            producer, RD_KAFKA_V_TOPIC(topic_name), RD_KAFKA_V_KEY(key, strlen(key)),
            RD_KAFKA_V_VALUE(payload, sizeof payload), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
            RD_KAFKA_V_HEADER("message-id", id, 36), RD_KAFKA_V_HEADER("kind", KIND, -1),
            RD_KAFKA_V_HEADER("traceparent", TRACEPARENT, -1), RD_KAFKA_V_END);
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
            i++;
        rd_kafka_poll(producer, code == RD_KAFKA_RESP_ERR_NO_ERROR ? 0 : 10);
    }
    if (rd_kafka_flush(producer, 300000) != RD_KAFKA_RESP_ERR_NO_ERROR)
        die("not all were delivered");
    rd_kafka_destroy(producer);
    return 0;
}

/* --- by hand ---------------------------------------------------------------------- */

static rd_kafka_message_t *
next_message(rd_kafka_t *consumer)
{
    rd_kafka_message_t *message;

    while ((message = rd_kafka_consumer_poll(consumer, POLL_MS)) == NULL ||
           message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
        if (message != NULL)
            rd_kafka_message_destroy(message);
    if (began == 0)
        begin();
    return message;
}

static void
finish(rd_kafka_message_t *message)
{
    if (rd_kafka_offset_store(message->rkt, message->partition, message->offset) !=
        RD_KAFKA_RESP_ERR_NO_ERROR)
        die("offset not stored");
    rd_kafka_message_destroy(message);
}

static void
command(PGconn *conn, const char *sql)
{
    PGresult *result = PQexec(conn, sql);

    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        die("%s: %s", sql, PQerrorMessage(conn));
    PQclear(result);
}

/* Prepared once, by hand and in our handler alike. */
static int
update(PGconn *conn, const void *key, size_t len)
{
    static PGconn *prepared;
    char text[16];
    const char *values[] = { text };
    PGresult *result;
    bool good;

    if (prepared != conn)
        PQclear(PQprepare(conn, "one", "UPDATE account SET n = n + 1 WHERE key = $1", 1, NULL));
    prepared = conn;
    snprintf(text, sizeof text, "%.*s", (int)len, (const char *)key);
    result = PQexecPrepared(conn, "one", 1, values, NULL, NULL, 0);
    good = PQresultStatus(result) == PGRES_COMMAND_OK;
    PQclear(result);
    return good ? 0 : SAGA_EDB;
}

static int
by_hand(const char *brokers, const char *topic, const char *group, long n, const char *conninfo,
        int batch)
{
    rd_kafka_t *consumer = subscribed(brokers, topic, group, "10000");
    PGconn *conn = conninfo != NULL ? PQconnectdb(conninfo) : NULL;
    rd_kafka_message_t *messages[BATCH_MAX];

    for (long done = 0; done < n;) {
        int held = 0;

        if (conn == NULL) {
            finish(next_message(consumer));
            done++;
            continue;
        }
        while (held < batch && done + held < n)
            messages[held++] = next_message(consumer);
        command(conn, "BEGIN");
        for (int i = 0; i < held; i++)
            if (update(conn, messages[i]->key, messages[i]->key_len) != 0)
                die("UPDATE: %s", PQerrorMessage(conn));
        command(conn, "COMMIT");
        for (int i = 0; i < held; i++)
            finish(messages[i]);
        done += held;
    }
    report(n);
    rd_kafka_consumer_close(consumer);
    rd_kafka_destroy(consumer);
    PQfinish(conn);
    return 0;
}

/* --- ours ---------------------------------------------------------------------------- */

static int
apply(PGconn *tx, const struct saga_record *record, void *user, struct saga_error *err)
{
    (void)user;
    (void)err;
    return update(tx, record->key.data, record->key.len);
}

static void
on_event(void *user, int32_t level, const char *message, const struct saga_pair *fields)
{
    (void)user;
    (void)fields;
    if (level >= SAGA_LOG_WARNING && strstr(message, "Redis") == NULL)
        fprintf(stderr, "%s\n", message);
}

static void *
run(void *consumer)
{
    struct saga_error err;

    if (saga_consumer_run(consumer, SAGA_CONSUME_UNTIL_STOP, &err) != 0)
        die("%s", err.message);
    return NULL;
}

static long
finished(const struct saga_consumer *consumer, struct saga_consumer_stats *stats)
{
    saga_consumer_stats(consumer, stats);
    return (long)(stats->applied + stats->duplicates_by_mark + stats->duplicates_by_inbox);
}

/* From the first ones that are finished to the last. */
static int
ours(const char *brokers, const char *topic, const char *group, long n, const char *conninfo,
     int batch, const char *redis)
{
    const struct saga_consumer_options options = {
        SAGA_CONSUMER_OPTIONS,
        .group = group,
        .brokers = brokers,
        .conninfo = conninfo,
        .redis = strcmp(redis, "-") == 0 ? NULL : redis,
        .batch_rows = batch,
        .log = { .write = on_event, .level = SAGA_LOG_INFO },
    };
    struct saga_consumer_stats stats = { SAGA_CONSUMER_STATS };
    struct saga_consumer *consumer;
    struct saga_error err;
    pthread_t thread;
    long first, done;

    if (saga_consumer_new(&consumer, &options, &err) != 0 ||
        saga_consumer_subscribe(consumer, topic, apply, NULL, &err) != 0)
        die("%s", err.message);
    pthread_create(&thread, NULL, run, consumer);
    while ((first = finished(consumer, &stats)) == 0)
        sleep_until(now_ns() + 2000000);
    begin();
    while ((done = finished(consumer, &stats)) < n)
        sleep_until(now_ns() + 2000000);
    report(done - first);
    fprintf(stderr, "applied %ld, by mark %ld, by inbox %ld, batches %ld, outages of Redis %ld\n",
            (long)stats.applied, (long)stats.duplicates_by_mark, (long)stats.duplicates_by_inbox,
            (long)stats.batches, (long)stats.redis_outages);
    saga_consumer_stop(consumer);
    pthread_join(thread, NULL);
    saga_consumer_free(consumer);
    return 0;
}

int
main(int argc, char **argv)
{
    if (argc == 7 && strcmp(argv[1], "produce") == 0)
        return produce(argv[2], argv[3], atol(argv[4]), atol(argv[5]), atol(argv[6]));
    if (argc == 6 && strcmp(argv[1], "alone") == 0)
        return by_hand(argv[2], argv[3], argv[4], atol(argv[5]), NULL, 0);
    if (argc == 8 && strcmp(argv[1], "loop") == 0 && atoi(argv[7]) <= BATCH_MAX)
        return by_hand(argv[2], argv[3], argv[4], atol(argv[5]), argv[6], atoi(argv[7]));
    if (argc == 9 && strcmp(argv[1], "ours") == 0)
        return ours(argv[2], argv[3], argv[4], atol(argv[5]), argv[6], atoi(argv[7]), argv[8]);
    die("usage: see the source");
}
