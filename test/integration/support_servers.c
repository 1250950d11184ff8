/* SPDX-License-Identifier: Apache-2.0 */
/* release only */
/*
 * The helpers around Kafka, Redis, proxies and processes.
 */
#include "test/support/db.h"
#include "test/support/kafka.h"
#include "test/support/process.h"
#include "test/support/proxy.h"
#include "test/support/redis.h"
#include "test/support/run.h"
#include "test/support/server.h"
#include "test/support/wait.h"

#include <signal.h>

START_TEST(test_topic_gives_back_what_was_produced)
{
    const char *topic = GIVEN_TOPIC(2, "max.message.bytes=2000");
    struct records records;

    ck_assert_uint_eq(topic_records(topic).n, 0);
    produce(topic, &(struct record){ .key = "k", .value = "first", HEADERS({ "a", "1" }) });
    produce(topic, &(struct record){ .key = "k" });

    records = topic_records(topic);
    ck_assert_uint_eq(records.n, 2);
    ck_assert_str_eq(records.at[0].key, "k");
    ck_assert_str_eq(records.at[0].value, "first");
    ck_assert_str_eq(record_header(&records.at[0], "a"), "1");
    ck_assert_ptr_null(record_header(&records.at[0], "b"));
    ck_assert_ptr_null(records.at[1].value);
    ck_assert_int_eq(records.at[1].offset, 1);
}
END_TEST

START_TEST(test_killed_broker_keeps_its_records)
{
    struct server *kafka = GIVEN_SERVER("kafka");
    const char *topic;

    use_brokers(kafka->address);
    topic = GIVEN_TOPIC(1);
    produce(topic, &(struct record){ .value = "kept" });
    server_kill(kafka);
    server_start(kafka);

    ck_assert_uint_eq(topic_records(topic).n, 1);
}
END_TEST

START_TEST(test_own_redis_takes_settings_and_forgets_over_a_restart)
{
    struct server *own = GIVEN_SERVER("redis", "maxmemory=2mb");
    redisContext *redis = redis_open(own->address);

    ck_assert_str_eq(redis_text(redis, "SET %s %s PX 10000", "a", "x y"), "OK");
    expect_every_key_expires(redis, "*");
    ck_assert_int_eq(redis_int(redis, "DBSIZE"), 1);
    redisFree(redis);
    server_stop(own);
    server_start(own);
    redis = redis_open(own->address);
    ck_assert_int_eq(redis_int(redis, "DBSIZE"), 0);
    redisFree(redis);
}
END_TEST

START_TEST(test_proxy_loses_the_answer_but_not_the_command)
{
    struct proxy *proxy = given_proxy(redis_address());
    redisContext *direct = redis_open(redis_address()), *redis = redis_open(proxy_address(proxy));
    const char *key = unique_name("key");

    redisSetTimeout(redis, (struct timeval){ .tv_usec = 100000 });
    ck_assert_str_eq(redis_text(redis, "PING"), "PONG");
    proxy_swallow(proxy, 1);
    ck_assert_ptr_null(redisCommand(redis, "SET %s 1 PX 10000", key));
    ck_assert_str_eq(redis_text(direct, "GET %s", key), "1");
    redisFree(redis);

    redis = redis_open(proxy_address(proxy));
    proxy_delay(proxy, 2, 50);
    ck_assert_str_eq(redis_text(redis, "PING"), "PONG");
    ck_assert_str_eq(redis_text(redis, "GET %s", key), "1");
    proxy_cut(proxy, 1);
    ck_assert_ptr_null(redisCommand(redis, "PING"));
    ck_assert_int_eq(proxy_answers(proxy), 5);
    redisFree(redis);
    redisFree(direct);
}
END_TEST

START_TEST(test_proxy_cuts_a_database_connection)
{
    const char *conninfo = given_empty_database();
    struct proxy *proxy = given_proxy(text_of(":%s", server_env("PGPORT")));
    PGconn *conn = db_connect(text_of("%s port=%d", conninfo, proxy_port(proxy)));

    ck_assert_int_eq(db_int(conn, "SELECT 1"), 1);
    proxy_cut_now(proxy);
    PQclear(PQexec(conn, "SELECT 1"));
    ck_assert_int_eq(PQstatus(conn), CONNECTION_BAD);
    PQfinish(conn);
    proxy_refuse(proxy, true);
    ck_assert_ptr_null(db_try_connect(text_of("%s port=%d", conninfo, proxy_port(proxy))));
}
END_TEST

START_TEST(test_process_is_frozen_thawed_and_killed)
{
    struct process *tail = start_process(ARGS("tail", "-f", "/dev/null"), NULL);
    struct process *shell =
        start_process(ARGS("sh", "-c", "echo $GREETING; echo no >&2; exit 3"), ARGS("GREETING=hi"));

    process_expect(shell, 3, 5000);
    ck_assert_str_eq(process_output(shell), "hi\n");
    ck_assert_str_eq(process_errors(shell), "no\n");
    process_freeze(tail);
    ck_assert(!process_ended(tail));
    process_thaw(tail);
    process_signal(tail, SIGTERM);
    ck_assert_int_eq(process_wait(tail, 5000), -SIGTERM);
    ck_assert_str_eq(run_process(ARGS("echo", "done")), "done\n");
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "support/servers",
        .timeout_s = 90,
        .tests =
            TESTS(test_topic_gives_back_what_was_produced, test_killed_broker_keeps_its_records,
                  test_own_redis_takes_settings_and_forgets_over_a_restart,
                  test_proxy_loses_the_answer_but_not_the_command,
                  test_proxy_cuts_a_database_connection, test_process_is_frozen_thawed_and_killed),
    });
}
