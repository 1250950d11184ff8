/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A consumer under test, and what it has done.
 */
#include "test/support/consumer.h"

#include "base/clock.h"
#include "base/log.h"
#include "test/support/kafka.h"
#include "test/support/run.h"
#include "test/support/server.h"
#include "test/support/wait.h"

#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { TIMEOUT_MS = 20000, CONSUMERS_MAX = 16 };

/* --- the fixture --------------------------------------------------------------- */

static struct fixture *
fixture_on(const char *conninfo, int partitions)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);

    ck_assert_ptr_nonnull(fixture);
    at_test_end(free, fixture);
    fixture->conninfo = conninfo;
    fixture->conn = given_session(conninfo);
    db_exec(fixture->conn,
            "CREATE TABLE effect (message_id uuid NOT NULL, consumer text,"
            " key text, value text, at timestamptz NOT NULL DEFAULT clock_timestamp())");
    fixture->topic = given_topic(partitions, (const char *const[]){ NULL });
    fixture->group = unique_name("group");
    return fixture;
}

struct fixture *
given_consumer_fixture(int partitions)
{
    return fixture_on(given_database(), partitions);
}

struct fixture *
given_consumer_fixture_in(const struct server *cluster, int partitions)
{
    return fixture_on(given_database_in(cluster), partitions);
}

const char *
id_of(int n)
{
    static unsigned long long ms; /* of now: the inbox knows nothing of long ago */

    if (ms == 0)
        ms = (unsigned long long)clock_wall_us() / 1000;
    return text_of("%08llx-%04llx-774b-8000-%012d", ms >> 16, ms & 0xffff, n + 1);
}

static rd_kafka_t *
new_client(rd_kafka_type_t type, const char *group)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char why[200];
    rd_kafka_t *client;

    rd_kafka_conf_set(conf, "bootstrap.servers", brokers(), why, sizeof why);
    rd_kafka_conf_set(conf, "enable.idempotence", type == RD_KAFKA_PRODUCER ? "true" : "false", why,
                      sizeof why);
    if (group != NULL)
        rd_kafka_conf_set(conf, "group.id", group, why, sizeof why);
    client = rd_kafka_new(type, conf, why, sizeof why);
    ck_assert_msg(client != NULL, "%s", why);
    return client;
}

void
produce_messages(const struct fixture *fixture, int from, int n)
{
    rd_kafka_t *producer = new_client(RD_KAFKA_PRODUCER, NULL);

    for (int i = from; i < from + n; i++) {
        const char *id = id_of(i), *value = text_of("value %d", i), *key = text_of("key %d", i % 7);
        rd_kafka_resp_err_t code = rd_kafka_producev(
            producer, RD_KAFKA_V_TOPIC(fixture->topic), RD_KAFKA_V_KEY(key, strlen(key)),
            RD_KAFKA_V_VALUE((void *)value, strlen(value)),
            RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_HEADER("message-id", id, -1),
            RD_KAFKA_V_END);

        ck_assert_msg(code == RD_KAFKA_RESP_ERR_NO_ERROR, "%s", rd_kafka_err2str(code));
    }
    ck_assert_int_eq(rd_kafka_flush(producer, TIMEOUT_MS), RD_KAFKA_RESP_ERR_NO_ERROR);
    rd_kafka_destroy(producer);
}

void
produce_one(const char *topic, const char *message_id, const char *key, const char *value)
{
    produce(topic, &(struct record){ .key = key,
                                     .value = value,
                                     HEADERS({ .name = "message-id", .value = message_id }) });
}

/* --- the consumer ---------------------------------------------------------------- */

static struct running {
    struct saga_consumer *consumer;
    pthread_t thread;
    bool is_running;
} all[CONSUMERS_MAX];

static void
free_one(void *consumer)
{
    for (size_t i = 0; i < CONSUMERS_MAX; i++)
        if (all[i].consumer == consumer && consumer != NULL) {
            stop_running(consumer);
            all[i].consumer = NULL;
            saga_consumer_free(consumer);
        }
}

void
free_consumer(struct saga_consumer *consumer)
{
    free_one(consumer);
}

static struct running *
place_for(struct saga_consumer *consumer)
{
    for (size_t i = 0; i < CONSUMERS_MAX; i++)
        if (all[i].consumer == consumer)
            return &all[i];
    ck_abort_msg("too many consumers");
}

struct saga_consumer *
given_consumer(const struct fixture *fixture, const struct consumer_choice *choice)
{
    static const struct saga_pair quick[] = { { "session.timeout.ms", "6000" },
                                              { "heartbeat.interval.ms", "500" },
                                              { "auto.commit.interval.ms", "100" },
                                              { "fetch.wait.max.ms", "50" },
                                              { NULL, NULL } };
    const struct saga_consumer_options options = {
        SAGA_CONSUMER_OPTIONS,
        .group = choice->group != NULL ? choice->group : fixture->group,
        .brokers = brokers(),
        .conninfo = choice->conninfo != NULL ? choice->conninfo : fixture->conninfo,
        .redis = choice->redis,
        .redis_timeout_ms = 50,
        .properties = choice->properties != NULL ? choice->properties : quick,
        .lease_ms = choice->lease_ms,
        .window_ms = choice->window_ms,
        .retry_first_ms = choice->retry_first_ms != 0 ? choice->retry_first_ms : 20,
        .retry_longest_ms = choice->retry_longest_ms != 0 ? choice->retry_longest_ms : 200,
        .batch_rows = choice->batch_rows,
        .statement_ms = choice->statement_ms,
        .attempts_max = choice->attempts_max,
        .mode = choice->mode,
        .drain_ms = choice->drain_ms,
        .stats_ms = choice->stats_ms,
        .on_stats = choice->on_stats,
        .stats_user = choice->stats_user,
        .log = { .write = choice->log != NULL ? choice->log : log_to_stderr,
                 .level = choice->debug ? SAGA_LOG_DEBUG : SAGA_LOG_INFO },
    };
    struct saga_consumer *consumer = NULL;
    struct saga_error err;

    ck_assert_msg(saga_consumer_new(&consumer, &options, &err) == 0, "%s", err.message);
    place_for(NULL)->consumer = consumer;
    at_test_end(free_one, consumer);
    if (!choice->unsubscribed)
        ck_assert_msg(
            saga_consumer_subscribe(consumer, fixture->topic,
                                    choice->handler != NULL ? choice->handler : apply_effect,
                                    choice->user, &err) == 0,
            "%s", err.message);
    return consumer;
}

int
handler_exec(PGconn *tx, const char *sql, const struct saga_record *record)
{
    char id[37];
    const char *values[] = { id };
    PGresult *result;
    ExecStatusType status;

    saga_uuid_text(&record->id, id);
    result = PQexecParams(tx, sql, strstr(sql, "$1") != NULL ? 1 : 0, NULL, values, NULL, NULL, 0);
    status = PQresultStatus(result);
    PQclear(result);
    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK ? 0 : SAGA_EDB;
}

int
apply_effect(PGconn *tx, const struct saga_record *record, void *user, struct saga_error *err)
{
    (void)user;
    (void)err;
    return handler_exec(tx, "INSERT INTO effect (message_id) VALUES ($1)", record);
}

void
run_until_idle(struct saga_consumer *consumer)
{
    struct saga_error err;

    ck_assert_msg(saga_consumer_run(consumer, SAGA_CONSUME_UNTIL_IDLE, &err) == 0, "%s",
                  err.message);
}

static void *
run_thread(void *consumer)
{
    struct saga_error err;

    if (saga_consumer_run(consumer, SAGA_CONSUME_UNTIL_STOP, &err) != 0)
        fprintf(stderr, "the consumer ended: %s\n", err.message);
    return NULL;
}

void
start_running(struct saga_consumer *consumer)
{
    struct running *running = place_for(consumer);

    running->is_running = true;
    ck_assert_int_eq(pthread_create(&running->thread, NULL, run_thread, consumer), 0);
}

void
stop_running(struct saga_consumer *consumer)
{
    struct running *running = place_for(consumer);

    if (!running->is_running)
        return;
    saga_consumer_stop(consumer);
    pthread_join(running->thread, NULL);
    running->is_running = false;
}

struct saga_consumer_stats
stats_of(const struct saga_consumer *consumer)
{
    struct saga_consumer_stats stats = { SAGA_CONSUMER_STATS };

    saga_consumer_stats(consumer, &stats);
    return stats;
}

/* --- what it has done ---------------------------------------------------------- */

bool
effects_are(const struct fixture *fixture, int messages, int rows)
{
    return db_int(fixture->conn, "SELECT count(DISTINCT message_id) FROM effect") == messages &&
           db_int(fixture->conn, "SELECT count(*) FROM effect") == rows;
}

void
expect_effects(const struct fixture *fixture, int messages, int rows)
{
    ck_assert_int_eq(db_int(fixture->conn, "SELECT count(DISTINCT message_id) FROM effect"),
                     messages);
    ck_assert_int_eq(db_int(fixture->conn, "SELECT count(*) FROM effect"), rows);
}

struct process *
start_consumer(const struct fixture *fixture, const char *redis, const char *mode,
               const char *const *more, const char *const *environment)
{
    const char *args[24] = { "test/programs/consumer",
                             fixture->conninfo,
                             fixture->group,
                             brokers(),
                             redis != NULL ? redis : "-",
                             fixture->topic,
                             mode,
                             "session.timeout.ms=6000",
                             "heartbeat.interval.ms=500",
                             "auto.commit.interval.ms=100",
                             "fetch.wait.max.ms=50" };
    size_t n = 11;

    for (; more != NULL && *more != NULL && n < 23; more++)
        args[n++] = *more;
    args[n] = NULL;
    return start_process(args, environment);
}

int64_t
kafka_offset(const struct fixture *fixture, int partition)
{
    rd_kafka_t *client = new_client(RD_KAFKA_CONSUMER, fixture->group);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    int64_t offset;

    rd_kafka_topic_partition_list_add(list, fixture->topic, partition);
    ck_assert_int_eq(rd_kafka_committed(client, list, TIMEOUT_MS), RD_KAFKA_RESP_ERR_NO_ERROR);
    offset = list->elems[0].offset >= 0 ? list->elems[0].offset : -1;
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_destroy(client);
    return offset;
}

void
reset_kafka_offset(const struct fixture *fixture, int partition, int64_t offset)
{
    rd_kafka_t *client = new_client(RD_KAFKA_CONSUMER, fixture->group);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);

    rd_kafka_topic_partition_list_add(list, fixture->topic, partition)->offset = offset;
    ck_assert_int_eq(rd_kafka_commit(client, list, 0), RD_KAFKA_RESP_ERR_NO_ERROR);
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_destroy(client);
}

int64_t
postgres_offset(const struct fixture *fixture, int partition)
{
    return db_int(fixture->conn,
                  "SELECT coalesce(max(next_offset), -1) FROM idempotency.consumer_offset"
                  " WHERE consumer = '%s' AND topic = '%s' AND partition = %d",
                  fixture->group, fixture->topic, partition);
}

bool
offsets_agree(const struct fixture *fixture, int partitions)
{
    for (int i = 0; i < partitions; i++)
        if (kafka_offset(fixture, i) != postgres_offset(fixture, i))
            return false;
    return true;
}
