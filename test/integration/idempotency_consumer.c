/* SPDX-License-Identifier: Apache-2.0 */
/* long */
/*
 * The consumer on real PostgreSQL, Kafka and Redis: what is applied, that it
 * is applied once, and what becomes of what cannot be applied.
 */
#include "test/support/consumer.h"
#include "test/support/kafka.h"
#include "test/support/proxy.h"
#include "test/support/redis.h"
#include "test/support/run.h"
#include "test/support/server.h"
#include "test/support/wait.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

enum { N = 40 };

START_TEST(test_consumer_applies_each_message_of_all_partitions_once)
{
    struct fixture *fixture = given_consumer_fixture(3);
    struct saga_consumer *consumer = GIVEN_CONSUMER(fixture, .redis = redis_address());

    produce_messages(fixture, 0, N);
    run_until_idle(consumer);
    expect_effects(fixture, N, N);
    ck_assert_int_eq(stats_of(consumer).applied, N);
    produce_messages(fixture, N, 5);
    run_until_idle(consumer); /* may be called again */
    expect_effects(fixture, N + 5, N + 5);
    free_consumer(consumer);
    ck_assert(offsets_agree(fixture, 3));
}
END_TEST

START_TEST(test_consumer_until_idle_reads_all_that_was_there_when_it_was_called)
{
    struct fixture *fixture = given_consumer_fixture(1);
    struct saga_consumer *consumer = GIVEN_CONSUMER(fixture);

    for (int i = 0; i < 10; i++) {
        produce_messages(fixture, i, 1);
        run_until_idle(consumer);
        expect_effects(fixture, i + 1, i + 1);
    }
}
END_TEST

static int64_t
cpu_ms(void)
{
    struct timespec used;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (int64_t)used.tv_sec * 1000 + used.tv_nsec / 1000000;
}

/* As in a group with more members than partitions. */
START_TEST(test_consumer_without_a_partition_waits_and_does_not_spin)
{
    struct fixture *fixture = given_consumer_fixture(1);
    struct saga_consumer *consumer = GIVEN_CONSUMER(fixture, .unsubscribed = true);
    int64_t before;

    ck_assert_int_eq(saga_consumer_subscribe(consumer, text_of("%s.absent", fixture->topic),
                                             apply_effect, NULL, NULL),
                     0);
    start_running(consumer);
    before = cpu_ms();
    STAYS_TRUE(cpu_ms() - before < 500, 2000);
    ck_assert_int_eq(stats_of(consumer).partitions, 0);
}
END_TEST

/* Slowly, until the second member has its share. */
static int
let_another_join(PGconn *tx, const struct saga_record *record, void *user, struct saga_error *err)
{
    static bool started;
    struct deadline moment = deadline_exactly_in(20);

    if (!started)
        start_running(user);
    started = true;
    while (stats_of(user).partitions == 0 && wait_a_little(&moment))
        ;
    return apply_effect(tx, record, NULL, err);
}

/* Between losing its partitions and getting its new share it has none, and is not done. */
START_TEST(test_consumer_until_idle_is_not_idle_while_the_group_rebalances_i21)
{
    static const struct saga_pair properties[] = { { "session.timeout.ms", "6000" },
                                                   { "heartbeat.interval.ms", "100" },
                                                   { "partition.assignment.strategy", "range" },
                                                   { NULL, NULL } };
    struct fixture *fixture = given_consumer_fixture(2);
    struct saga_consumer *second = GIVEN_CONSUMER(fixture, .properties = properties);
    struct saga_consumer *first = GIVEN_CONSUMER(fixture, .properties = properties,
                                                 .handler = let_another_join, .user = second);

    produce_messages(fixture, 0, 500);
    run_until_idle(first);
    ck_assert_int_eq(stats_of(first).partitions, 1);
    WAIT_UNTIL(effects_are(fixture, 500, 500), 20000);
}
END_TEST

/* trap: I20: a new group reads what is there already. */
START_TEST(test_consumer_of_a_new_group_begins_at_the_beginning_i20)
{
    struct fixture *fixture = given_consumer_fixture(1);

    produce_messages(fixture, 0, 5);
    run_until_idle(GIVEN_CONSUMER(fixture));
    expect_effects(fixture, 5, 5);
}
END_TEST

/* trap: I20: what was not finished when it was killed comes back. */
START_TEST(test_consumer_killed_while_handling_gets_the_message_again_i20)
{
    struct fixture *fixture = given_consumer_fixture(1);
    const char *const hold[] = { "hold", "group.instance.id=one", NULL };
    struct process *process;

    produce_messages(fixture, 0, 1);
    process = start_consumer(fixture, NULL, "stop", hold, NULL);
    WAIT_UNTIL(strstr(process_output(process), "holding") != NULL, 20000);
    /* Long enough for an offset that were stored too early to be committed. */
    STAYS_TRUE(kafka_offset(fixture, 0) == -1, 500);
    process_kill(process);
    process_expect(start_consumer(fixture, NULL, "idle", hold + 1, NULL), 0, 20000);
    expect_effects(fixture, 1, 1);
}
END_TEST

/* --- duplicates ------------------------------------------------------------------ */

START_TEST(test_consumer_skips_a_duplicate_by_its_mark)
{
    struct fixture *fixture = given_consumer_fixture(1);
    struct saga_consumer *consumer = GIVEN_CONSUMER(fixture, .redis = redis_address());

    produce_messages(fixture, 0, 10);
    run_until_idle(consumer);
    produce_messages(fixture, 0, 10);
    run_until_idle(consumer);
    expect_effects(fixture, 10, 10);
    ck_assert_int_eq(postgres_offset(fixture, 0), 20);
    /* Not all ten: a Redis that is slow for a moment is not waited for. */
    ck_assert_int_ge(stats_of(consumer).duplicates_by_mark, 5);
    ck_assert_int_eq(stats_of(consumer).duplicates_by_mark + stats_of(consumer).duplicates_by_inbox,
                     10);
}
END_TEST

static struct server *flushed;
static atomic_bool flushing;

static void *
flush_all_the_time(void *arg)
{
    redisContext *redis = redis_open(flushed->address);

    while (atomic_load(&flushing)) {
        struct deadline deadline = deadline_exactly_in(2);

        freeReplyObject(redisCommand(redis, "FLUSHALL"));
        while (wait_a_little(&deadline))
            ;
    }
    redisFree(redis);
    return arg;
}

/* Everything twice, interleaved, over two partitions. */
static struct saga_consumer *
duplicates_through(struct fixture *fixture, const char *redis)
{
    struct saga_consumer *consumer = GIVEN_CONSUMER(fixture, .redis = redis);

    produce_messages(fixture, 0, N);
    produce_messages(fixture, 0, N);
    run_until_idle(consumer);
    expect_effects(fixture, N, N);
    ck_assert_int_eq(stats_of(consumer).duplicates_by_mark + stats_of(consumer).duplicates_by_inbox,
                     N);
    return consumer;
}

START_TEST(test_consumer_without_redis_applies_once_i8)
{
    struct saga_consumer *none = duplicates_through(given_consumer_fixture(2), NULL);
    struct saga_consumer *refused = duplicates_through(given_consumer_fixture(2), "127.0.0.1:1");

    ck_assert_int_eq(stats_of(none).duplicates_by_inbox, N);
    ck_assert_int_eq(stats_of(refused).duplicates_by_inbox, N);
}
END_TEST

START_TEST(test_consumer_with_a_redis_that_is_flushed_all_the_time_applies_once_i8)
{
    pthread_t thread;

    flushed = GIVEN_SERVER("redis");
    atomic_store(&flushing, true);
    pthread_create(&thread, NULL, flush_all_the_time, NULL);
    duplicates_through(given_consumer_fixture(2), flushed->address);
    atomic_store(&flushing, false);
    pthread_join(thread, NULL);
}
END_TEST

START_TEST(test_consumer_with_a_redis_without_memory_applies_once_i8)
{
    struct server *full = GIVEN_SERVER("redis", "maxmemory=1", "maxmemory-policy=noeviction");
    struct server *evicting =
        GIVEN_SERVER("redis", "maxmemory=2mb", "maxmemory-policy=allkeys-lru");

    duplicates_through(given_consumer_fixture(2), full->address);
    duplicates_through(given_consumer_fixture(2), evicting->address);
}
END_TEST

START_TEST(test_consumer_whose_redis_dies_and_comes_back_applies_once_i6_i8)
{
    struct server *server = GIVEN_SERVER("redis");
    struct fixture *fixture = given_consumer_fixture(2);
    struct saga_consumer *consumer = GIVEN_CONSUMER(fixture, .redis = server->address);
    redisContext *redis;

    start_running(consumer);
    produce_messages(fixture, 0, N);
    server_kill(server);
    produce_messages(fixture, 0, 2 * N);
    WAIT_UNTIL(effects_are(fixture, 2 * N, 2 * N), 20000);
    server_start(server);
    produce_messages(fixture, N, 2 * N);
    WAIT_UNTIL(effects_are(fixture, 3 * N, 3 * N), 20000);
    redis = redis_open(server->address);
    expect_every_key_expires(redis, "saga:*");
    redisFree(redis);
}
END_TEST

/* trap: I3: the n-th answer of Redis is lost. */
START_TEST(test_consumer_applies_once_whichever_answer_of_redis_is_lost_i3)
{
    struct fixture *fixture = given_consumer_fixture(1);
    struct proxy *proxy = given_proxy(redis_address());
    struct saga_consumer *consumer = GIVEN_CONSUMER(fixture, .redis = proxy_address(proxy));
    int sent = 0;

    for (int nth = 1; nth <= 6; nth++, sent += 3) {
        proxy_swallow(proxy, nth);
        produce_messages(fixture, sent, 3);
        run_until_idle(consumer);
        expect_effects(fixture, sent + 3, sent + 3);
    }
}
END_TEST

/* trap: I7 */
START_TEST(test_consumer_recognises_a_duplicate_after_the_window_i7)
{
    struct fixture *fixture = given_consumer_fixture(1);
    struct saga_consumer *consumer =
        GIVEN_CONSUMER(fixture, .redis = redis_address(), .window_ms = 300);
    redisContext *redis = redis_open(redis_address());

    produce_messages(fixture, 0, 3);
    run_until_idle(consumer);
    WAIT_UNTIL(redis_int(redis, "EVAL %s 0",
                         text_of("return #redis.call('keys', '*%s*')", fixture->group)) == 0,
               5000);
    produce_messages(fixture, 0, 3);
    run_until_idle(consumer);
    expect_effects(fixture, 3, 3);
    ck_assert_int_eq(stats_of(consumer).duplicates_by_inbox, 3);
    redisFree(redis);
}
END_TEST

/* trap: I7: offsets are reset, the topic is replayed from 0. */
START_TEST(test_consumer_replays_a_topic_without_a_second_effect_i7)
{
    struct fixture *fixture = given_consumer_fixture(2);
    struct saga_consumer *consumer = GIVEN_CONSUMER(fixture);

    produce_messages(fixture, 0, N);
    run_until_idle(consumer);
    free_consumer(consumer);
    reset_kafka_offset(fixture, 0, 0);
    reset_kafka_offset(fixture, 1, 0);
    consumer = GIVEN_CONSUMER(fixture);
    produce_messages(fixture, N, 1);
    run_until_idle(consumer);
    expect_effects(fixture, N + 1, N + 1);
    ck_assert_int_eq(stats_of(consumer).duplicates_by_inbox, N);
}
END_TEST

/* trap: I21: read again one by one from the beginning, as after a Kafka that has lost offsets. */
START_TEST(test_consumer_that_reads_again_does_not_move_postgresqls_offset_back_i21)
{
    struct fixture *fixture = given_consumer_fixture(1);
    const char *const one_by_one[] = { "batch_rows=1", NULL };

    produce_messages(fixture, 0, 10);
    process_expect(start_consumer(fixture, NULL, "idle", NULL, NULL), 0, 20000);
    reset_kafka_offset(fixture, 0, 0);
    db_exec(fixture->conn,
            "CREATE TABLE went_back AS SELECT 0 AS here LIMIT 0;"
            "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS"
            " 'BEGIN INSERT INTO public.went_back VALUES (NEW.next_offset); RETURN NULL; END';"
            "CREATE TRIGGER note AFTER UPDATE ON idempotency.consumer_offset FOR EACH ROW"
            " WHEN (NEW.next_offset < OLD.next_offset) EXECUTE FUNCTION note()");
    produce_messages(fixture, 10, 1);
    process_expect(start_consumer(fixture, NULL, "idle", one_by_one, NULL), 0, 20000);
    expect_effects(fixture, 11, 11);
    ck_assert_int_eq(postgres_offset(fixture, 0), 11);
    ck_assert_str_eq(db_text(fixture->conn, "SELECT coalesce(string_agg(here::text, ' '), '')"
                                            " FROM went_back"),
                     "");
}
END_TEST

/* --- trap: I2 ------------------------------------------------------------------ */

/* A winner in an open transaction, and in Redis, too, as he would be. */
static PGconn *
given_open_winner(const struct fixture *fixture, int n)
{
    PGconn *winner = db_connect(fixture->conninfo);
    struct saga_record record = { .topic = "elsewhere", .hash = { "", 0 } };
    int32_t verdict;

    ck_assert_int_eq(saga_uuid_parse(&record.id, id_of(n), NULL), 0);
    ck_assert_int_eq(saga_begin(winner, NULL), 0);
    ck_assert_int_eq(saga_inbox_enter(winner, fixture->group, &record, &verdict, NULL), 0);
    return winner;
}

static void
mark_busy(const struct fixture *fixture, int n)
{
    redisContext *redis = redis_open(redis_address());
    const char *identity = db_text(
        fixture->conn, "SELECT concat_ws('.', (SELECT system_identifier FROM pg_control_system()),"
                       " substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8),"
                       " (SELECT oid FROM pg_database WHERE datname = current_database()))");

    redis_text(redis, "SET %s busy:ffffffffffffffff PX 60000",
               text_of("saga:mark:%s:%s:%s", identity, fixture->group, id_of(n)));
    redisFree(redis);
}

START_TEST(test_consumer_that_lost_the_race_applies_if_the_winner_rolls_back_i2)
{
    struct fixture *fixture = given_consumer_fixture(1);
    struct saga_consumer *consumer = GIVEN_CONSUMER(fixture, .redis = redis_address());
    PGconn *winner = given_open_winner(fixture, 0);

    mark_busy(fixture, 0);
    produce_messages(fixture, 0, 2);
    start_running(consumer);
    WAIT_UNTIL(db_int(fixture->conn, "SELECT count(*) FROM pg_locks WHERE NOT granted") > 0, 20000);
    ck_assert_int_eq(
        db_int(fixture->conn, "SELECT count(*) FROM effect WHERE message_id = '%s'", id_of(0)), 0);
    saga_rollback(winner);
    PQfinish(winner);
    WAIT_UNTIL(effects_are(fixture, 2, 2), 10000);
}
END_TEST

/* trap: I2, I4: somebody marked it and died; nothing holds it in PostgreSQL. */
START_TEST(test_consumer_does_not_wait_for_a_mark_whose_owner_is_dead_i2_i4)
{
    struct fixture *fixture = given_consumer_fixture(1);
    struct saga_consumer *consumer = GIVEN_CONSUMER(fixture, .redis = redis_address());

    mark_busy(fixture, 0);
    produce_messages(fixture, 0, 2);
    run_until_idle(consumer);
    expect_effects(fixture, 2, 2);
}
END_TEST

/* --- what is not applied -------------------------------------------------------- */

/* trap: I10 */
START_TEST(test_consumer_puts_the_same_id_with_other_contents_into_quarantine_i10)
{
    struct fixture *fixture = given_consumer_fixture(1);
    const char *const redis[] = { redis_address(), NULL };
    struct saga_consumer *consumer;

    for (int i = 0; i < 2; i++) {
        consumer = GIVEN_CONSUMER(fixture, .redis = redis[i]);
        produce_one(fixture->topic, id_of(i), "key", "100 euros");
        produce_one(fixture->topic, id_of(i), "key", "900 euros");
        produce_one(fixture->topic, id_of(i), "kez", "100 euros");
        run_until_idle(consumer);
        expect_effects(fixture, i + 1, i + 1);
        ck_assert_int_eq(stats_of(consumer).conflicts, 2);
        ck_assert_int_eq(stats_of(consumer).quarantined, 2);
        free_consumer(consumer);
    }
    ck_assert_str_eq(db_text(fixture->conn,
                             "SELECT string_agg(concat_ws(' ', reason, message_id,"
                             " convert_from(key, 'UTF8'), convert_from(payload, 'UTF8'),"
                             " headers[1]), ';' ORDER BY id) FROM idempotency.quarantine"
                             " WHERE \"offset\" < 3"),
                     text_of("same id, other contents %s key 900 euros message-id;"
                             "same id, other contents %s kez 100 euros message-id",
                             id_of(0), id_of(0)));
}
END_TEST

START_TEST(test_consumer_puts_messages_without_a_usable_id_into_quarantine)
{
    struct fixture *fixture = given_consumer_fixture(1);
    struct saga_consumer *consumer = GIVEN_CONSUMER(fixture, .redis = redis_address());

    produce(fixture->topic, &(struct record){ .value = "no headers" });
    produce_one(fixture->topic, "not a uuid", NULL, "x");
    produce_one(fixture->topic, "00000000-0000-0000-0000-000000000000", "k", NULL);
    produce(fixture->topic, &(struct record){ .key = "k",
                                              .value = "\x01\xff",
                                              HEADERS({ .name = "message-id", .value = "\xff\xfe" },
                                                      { .name = "b", .value = NULL },
                                                      { .name = "c", .value = "\\x41" }) });
    produce(fixture->topic, &(struct record){ .key = "k",
                                              .value = "v",
                                              HEADERS({ .name = "message-id", .value = "x" },
                                                      { .name = "message-id", .value = id_of(0) },
                                                      { .name = "message-id", .value = "\xff" },
                                                      { .name = "message-id", .value = NULL }) });
    run_until_idle(consumer);
    expect_effects(fixture, 1, 1);
    ck_assert_int_eq(stats_of(consumer).quarantined, 4);
    ck_assert_int_eq(stats_of(consumer).conflicts, 0);
    ck_assert_int_eq(postgres_offset(fixture, 0), 5);
    ck_assert_str_eq(db_text(fixture->conn,
                             "SELECT string_agg(split_part(reason, ':', 1), ';' ORDER BY id)"
                             " FROM idempotency.quarantine"),
                     "no message-id;the message-id is not a uuid;the message-id is the nil uuid;"
                     "no message-id");
    ck_assert_str_eq(db_text(fixture->conn, "SELECT headers::text || payload::text"
                                            " FROM idempotency.quarantine WHERE \"offset\" = 3"),
                     "{message-id,\"\\\\xfffe\",b,NULL,c,\"\\\\x5c783431\"}\\x01ff");
    ck_assert_int_eq(db_int(fixture->conn,
                            "SELECT count(*) FROM idempotency.quarantine"
                            " WHERE key IS NULL AND \"offset\" = 0 OR payload IS NULL"),
                     2);
}
END_TEST

/* trap: I11 */
START_TEST(test_consumer_groups_in_one_database_each_apply_it_i11)
{
    struct fixture *fixture = given_consumer_fixture(1);
    struct saga_consumer *one = GIVEN_CONSUMER(fixture, .redis = redis_address());
    struct saga_consumer *two =
        GIVEN_CONSUMER(fixture, .redis = redis_address(), .group = unique_name("other"));

    produce_messages(fixture, 0, 5);
    run_until_idle(one);
    run_until_idle(two);
    expect_effects(fixture, 5, 10);
}
END_TEST

/* trap: I11 */
START_TEST(test_consumer_redriven_through_another_topic_applies_once_i11)
{
    struct fixture *fixture = given_consumer_fixture(1);
    const char *retry = GIVEN_TOPIC(1);
    const char *const redis[] = { redis_address(), NULL };

    for (int i = 0; i < 2; i++) {
        struct saga_consumer *consumer = GIVEN_CONSUMER(fixture, .redis = redis[i]);

        ck_assert_int_eq(saga_consumer_subscribe(consumer, retry, apply_effect, NULL, NULL), 0);
        produce_one(fixture->topic, id_of(i), "key", "value");
        run_until_idle(consumer);
        produce_one(retry, id_of(i), "key", "value");
        run_until_idle(consumer);
        expect_effects(fixture, i + 1, i + 1);
        free_consumer(consumer);
    }
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "idempotency_consumer",
        .tests = TESTS(test_consumer_applies_each_message_of_all_partitions_once,
                       test_consumer_without_a_partition_waits_and_does_not_spin,
                       test_consumer_until_idle_is_not_idle_while_the_group_rebalances_i21,
                       test_consumer_until_idle_reads_all_that_was_there_when_it_was_called,
                       test_consumer_of_a_new_group_begins_at_the_beginning_i20,
                       test_consumer_killed_while_handling_gets_the_message_again_i20,
                       test_consumer_skips_a_duplicate_by_its_mark,
                       test_consumer_without_redis_applies_once_i8,
                       test_consumer_with_a_redis_that_is_flushed_all_the_time_applies_once_i8,
                       test_consumer_with_a_redis_without_memory_applies_once_i8,
                       test_consumer_whose_redis_dies_and_comes_back_applies_once_i6_i8,
                       test_consumer_applies_once_whichever_answer_of_redis_is_lost_i3,
                       test_consumer_recognises_a_duplicate_after_the_window_i7,
                       test_consumer_replays_a_topic_without_a_second_effect_i7,
                       test_consumer_that_reads_again_does_not_move_postgresqls_offset_back_i21,
                       test_consumer_that_lost_the_race_applies_if_the_winner_rolls_back_i2,
                       test_consumer_does_not_wait_for_a_mark_whose_owner_is_dead_i2_i4,
                       test_consumer_puts_the_same_id_with_other_contents_into_quarantine_i10,
                       test_consumer_puts_messages_without_a_usable_id_into_quarantine,
                       test_consumer_groups_in_one_database_each_apply_it_i11,
                       test_consumer_redriven_through_another_topic_applies_once_i11),
        .timeout_s = 60,
    });
}
