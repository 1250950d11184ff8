/* SPDX-License-Identifier: Apache-2.0 */
/* long */
/*
 * The consumer while PostgreSQL loses connections, crashes and goes back in
 * time, and while members of the group come, go and fall asleep.
 */
#include "base/log.h"
#include "test/support/consumer.h"
#include "test/support/kafka.h"
#include "test/support/proxy.h"
#include "test/support/redis.h"
#include "test/support/run.h"
#include "test/support/server.h"
#include "test/support/wait.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>

/* --- lost connections -------------------------------------------------------------- */

static const char *
address_of_shared_postgres(void)
{
    return text_of("%s:%s", server_env("PGHOST"), server_env("PGPORT"));
}

/* trap: I15: the connection ends with the n-th answer: of BEGIN, of the inbox, of the handler,
 * of the offset, of COMMIT; and while it is made anew. */
START_TEST(test_consumer_applies_once_whichever_answer_of_postgres_is_lost_i15)
{
    struct fixture *fixture = given_consumer_fixture(1);
    struct proxy *proxy = given_proxy(address_of_shared_postgres());
    struct saga_consumer *consumer =
        GIVEN_CONSUMER(fixture, .redis = redis_address(),
                       .conninfo = text_of("%s port=%d", fixture->conninfo, proxy_port(proxy)));
    int sent = 0;

    produce_messages(fixture, sent++, 1);
    start_running(consumer);
    WAIT_UNTIL(effects_are(fixture, sent, sent), 20000);
    for (int nth = 1; nth <= 15; nth++) {
        if (nth < 15)
            proxy_cut(proxy, nth);
        else
            proxy_cut_at(proxy, "COMMIT"); /* whatever else was asked in between */
        produce_messages(fixture, sent, 2);
        sent += 2;
        WAIT_UNTIL(postgres_offset(fixture, 0) == sent, 10000);
        expect_effects(fixture, sent, sent);
    }
    stop_running(consumer);
    ck_assert_int_ge(stats_of(consumer).reconnects, 5);
    ck_assert_int_eq(stats_of(consumer).applied, sent);
    ck_assert_int_eq(stats_of(consumer).duplicates_by_inbox, 0);
}
END_TEST

/* The connection stays, and says nothing more after BEGIN. */
START_TEST(test_consumer_does_not_wait_for_ever_for_the_answer_about_the_inbox_row)
{
    struct fixture *fixture = given_consumer_fixture(1);
    struct proxy *proxy = given_proxy(address_of_shared_postgres());
    struct saga_consumer *consumer =
        GIVEN_CONSUMER(fixture, .statement_ms = 500,
                       .conninfo = text_of("%s port=%d", fixture->conninfo, proxy_port(proxy)));

    produce_messages(fixture, 0, 1);
    start_running(consumer);
    WAIT_UNTIL(effects_are(fixture, 1, 1), 20000);
    proxy_swallow(proxy, 1);
    produce_messages(fixture, 1, 1);
    WAIT_UNTIL(effects_are(fixture, 2, 2), 20000);
    ck_assert_int_eq(stats_of(consumer).reconnects, 1);
}
END_TEST

START_TEST(test_consumer_goes_on_after_postgres_was_away)
{
    struct fixture *fixture = given_consumer_fixture(2);
    struct proxy *proxy = given_proxy(address_of_shared_postgres());
    struct saga_consumer *consumer =
        GIVEN_CONSUMER(fixture, .redis = redis_address(),
                       .conninfo = text_of("%s port=%d", fixture->conninfo, proxy_port(proxy)));

    start_running(consumer);
    for (int i = 0; i < 3; i++) {
        produce_messages(fixture, 100 * i, 50);
        proxy_refuse(proxy, true);
        proxy_cut_now(proxy);
        produce_messages(fixture, 100 * i + 50, 50);
        proxy_refuse(proxy, false);
    }
    WAIT_UNTIL(effects_are(fixture, 300, 300), 30000);
}
END_TEST

/* Cuts the connection under its own hands, once. */
static int
lose_connection(PGconn *tx, const struct saga_record *record, void *user, struct saga_error *err)
{
    static atomic_bool lost;

    if (!atomic_exchange(&lost, true)) {
        proxy_refuse(user, true);
        proxy_cut_now(user);
    }
    return apply_effect(tx, record, NULL, err);
}

/* trap: I21: the batch that it has failed with is of partitions that are gone by then */
START_TEST(test_consumer_whose_partitions_go_while_postgres_is_away_goes_on_with_others_i21)
{
    struct fixture *fixture = given_consumer_fixture(2);
    struct proxy *proxy = given_proxy(address_of_shared_postgres());
    struct saga_consumer *cut_off =
        GIVEN_CONSUMER(fixture, .handler = lose_connection, .user = proxy,
                       .conninfo = text_of("%s port=%d", fixture->conninfo, proxy_port(proxy)));
    struct saga_consumer *other = GIVEN_CONSUMER(fixture);

    start_running(cut_off);
    WAIT_UNTIL(stats_of(cut_off).partitions == 2, 20000);
    produce_messages(fixture, 0, 10);
    WAIT_UNTIL(stats_of(cut_off).retries > 0, 20000);
    start_running(other);
    WAIT_UNTIL(stats_of(cut_off).partitions == 1 && stats_of(other).partitions == 1, 20000);
    proxy_refuse(proxy, false);
    produce_messages(fixture, 10, 40);
    WAIT_UNTIL(effects_are(fixture, 50, 50), 20000);
}
END_TEST

/* A member that was taken for dead and is not, or an operator: our offset is not where we left it.
 */
START_TEST(test_consumer_whose_offset_was_moved_by_another_goes_on_from_what_is_there)
{
    struct fixture *fixture = given_consumer_fixture(1);
    struct saga_consumer *consumer = GIVEN_CONSUMER(fixture, .redis = redis_address());

    produce_messages(fixture, 0, 5);
    run_until_idle(consumer);
    db_exec(fixture->conn, "UPDATE idempotency.consumer_offset SET next_offset = 100");
    produce_messages(fixture, 5, 5);
    run_until_idle(consumer);
    expect_effects(fixture, 10, 10);
    ck_assert_int_eq(postgres_offset(fixture, 0), 10);
    db_exec(fixture->conn, "UPDATE idempotency.consumer_offset SET next_offset = 3");
    produce_messages(fixture, 10, 5);
    run_until_idle(consumer);
    expect_effects(fixture, 15, 15);
    ck_assert_int_ge(stats_of(consumer).duplicates_by_inbox, 7); /* read again from 3 */
    ck_assert_int_eq(postgres_offset(fixture, 0), 15);
}
END_TEST

/* --- Kafka away --------------------------------------------------------------------- */

static atomic_int troubles;

static void
count_troubles(void *user, int32_t level, const char *message, const struct saga_pair *fields)
{
    log_to_stderr(user, level, message, fields);
    if (strstr(message, "trouble with Kafka") != NULL)
        atomic_fetch_add(&troubles, 1);
}

START_TEST(test_consumer_without_kafka_keeps_trying_says_so_once_and_can_be_stopped)
{
    struct fixture *fixture = given_consumer_fixture(1);
    const char *real = brokers();
    struct saga_consumer *consumer;
    int64_t from;

    use_brokers("127.0.0.1:1");
    consumer = GIVEN_CONSUMER(fixture, .log = count_troubles);
    start_running(consumer);
    WAIT_UNTIL(atomic_load(&troubles) == 1, 10000);
    STAYS_TRUE(atomic_load(&troubles) == 1, 1500);
    from = monotonic_us();
    free_consumer(consumer);
    ck_assert_int_lt(monotonic_us() - from, 10000000);
    use_brokers(real);
}
END_TEST

static void
is_freed_after(void (*hurt)(struct server *kafka))
{
    struct server *kafka = GIVEN_SERVER("kafka");
    struct fixture *fixture;
    struct saga_consumer *consumer;
    int64_t from;

    use_brokers(kafka->address);
    fixture = given_consumer_fixture(2);
    consumer = GIVEN_CONSUMER(fixture, .redis = redis_address());
    start_running(consumer);
    produce_messages(fixture, 0, 20);
    WAIT_UNTIL(effects_are(fixture, 20, 20), 20000);
    hurt(kafka);
    from = monotonic_us();
    free_consumer(consumer);
    ck_assert_int_lt(monotonic_us() - from, 15000000);
}

START_TEST(test_consumer_whose_kafka_has_gone_can_be_freed)
{
    is_freed_after(server_kill);
}
END_TEST

/* Its connections stay, and nobody answers. */
START_TEST(test_consumer_whose_kafka_stands_still_can_be_freed)
{
    is_freed_after(server_freeze);
}
END_TEST

/* --- commits that are lost ----------------------------------------------------------- */

/* trap: I25: what marks and offsets tell of has survived the crash, although the database's
 * default is to lose it. */
START_TEST(test_consumer_effects_survive_a_crash_of_an_asynchronous_database_i25)
{
    struct server *cluster =
        GIVEN_SERVER("pg", "synchronous_commit=off", "wal_writer_delay=10s", "bgwriter_delay=10s");
    struct fixture *fixture = given_consumer_fixture_in(cluster, 1);
    struct saga_consumer *consumer = GIVEN_CONSUMER(fixture, .redis = redis_address());

    db_exec(fixture->conn, "CHECKPOINT");
    produce_messages(fixture, 0, 10);
    run_until_idle(consumer);
    server_kill(cluster);
    server_start(cluster);
    PQreset(fixture->conn);
    expect_effects(fixture, 10, 10);
    run_until_idle(consumer);
    expect_effects(fixture, 10, 10);
}
END_TEST

/* What the database was after the first twenty messages, and Redis and Kafka
 * that know better. Same system identifier, same timeline, as after a disk was
 * set back to a snapshot: the marks' names do not tell. */
static void
back_up(const struct fixture *fixture)
{
    db_exec(fixture->conn, "CREATE TABLE old_effect AS TABLE effect;"
                           "CREATE TABLE old_inbox AS TABLE idempotency.inbox;"
                           "CREATE TABLE old_offset AS TABLE idempotency.consumer_offset");
}

static struct fixture *
given_backup_and_ten_messages_more(struct saga_consumer **consumer)
{
    struct fixture *fixture = given_consumer_fixture(2);

    *consumer = GIVEN_CONSUMER(fixture, .redis = redis_address());
    produce_messages(fixture, 0, 20);
    run_until_idle(*consumer);
    back_up(fixture);
    produce_messages(fixture, 20, 10);
    run_until_idle(*consumer);
    expect_effects(fixture, 30, 30);
    return fixture;
}

static void
restore(const struct fixture *fixture)
{
    db_exec(fixture->conn,
            /* In the order in which a consumer locks them. */
            "BEGIN; TRUNCATE idempotency.consumer_offset, idempotency.inbox, effect;"
            "INSERT INTO effect TABLE old_effect;"
            "INSERT INTO idempotency.inbox TABLE old_inbox;"
            "INSERT INTO idempotency.consumer_offset TABLE old_offset;"
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid(); COMMIT");
    PQreset(fixture->conn);
}

/* trap: I9, I26 */
START_TEST(test_consumer_reads_again_what_a_restored_database_has_lost_i9_i26)
{
    struct saga_consumer *consumer;
    struct fixture *fixture = given_backup_and_ten_messages_more(&consumer);

    free_consumer(consumer);
    restore(fixture);
    expect_effects(fixture, 20, 20);
    run_until_idle(GIVEN_CONSUMER(fixture, .redis = redis_address()));
    expect_effects(fixture, 30, 30);
}
END_TEST

/* trap: I9, I26: the same with a consumer that stays in its group, and has nothing to do. */
START_TEST(test_consumer_that_lives_through_a_restore_reads_again_i9_i26)
{
    struct saga_consumer *consumer;
    struct fixture *fixture = given_backup_and_ten_messages_more(&consumer);

    start_running(consumer);
    restore(fixture);
    WAIT_UNTIL(effects_are(fixture, 30, 30), 20000);
    produce_messages(fixture, 30, 5);
    WAIT_UNTIL(effects_are(fixture, 35, 35), 20000);
}
END_TEST

/* trap: I26: restored to before its first message. */
START_TEST(test_consumer_reads_all_again_for_a_database_that_knows_nothing_i26)
{
    struct fixture *fixture = given_consumer_fixture(2);
    struct saga_consumer *consumer = GIVEN_CONSUMER(fixture, .redis = redis_address());

    produce_messages(fixture, 0, 20);
    run_until_idle(consumer);
    free_consumer(consumer);
    db_exec(fixture->conn, "TRUNCATE effect, idempotency.inbox, idempotency.consumer_offset");
    run_until_idle(GIVEN_CONSUMER(fixture, .redis = redis_address()));
    expect_effects(fixture, 20, 20);
}
END_TEST

/* --- commits that are lost while the first message waits ------------------------------- */

/* Value 0 is tried again and again, until `user` says true. */
static int
keep_the_first_waiting(PGconn *tx, const struct saga_record *record, void *user,
                       struct saga_error *err)
{
    if (record->payload.len == 7 && memcmp(record->payload.data, "value 0", 7) == 0 &&
        !atomic_load((atomic_bool *)user))
        return SAGA_HANDLER_RETRY;
    return apply_effect(tx, record, NULL, err);
}

static struct saga_consumer *
given_consumer_whose_first_waits(const struct fixture *fixture, atomic_bool *go)
{
    return GIVEN_CONSUMER(fixture, .redis = redis_address(), .handler = keep_the_first_waiting,
                          .user = go, .retry_first_ms = 20, .retry_longest_ms = 100);
}

/* trap: I26: what was applied behind it is in no offset, so nothing but the inbox tells of it. */
START_TEST(test_consumer_applies_again_what_was_lost_behind_one_that_waits_i26)
{
    struct fixture *fixture = given_consumer_fixture(1);
    atomic_bool go = false;

    back_up(fixture);
    produce_messages(fixture, 0, 6);
    start_running(given_consumer_whose_first_waits(fixture, &go));
    WAIT_UNTIL(effects_are(fixture, 5, 5), 20000);
    restore(fixture);
    atomic_store(&go, true);
    WAIT_UNTIL(postgres_offset(fixture, 0) == 6, 20000);
    expect_effects(fixture, 6, 6);
}
END_TEST

/* trap: I26: PostgreSQL's offset must not be past it, although Kafka's is not either: later Kafka's
 * is, and a database that then loses the first message's commit has nothing else to tell of it. */
START_TEST(test_consumer_reads_again_one_that_waited_and_was_lost_i26)
{
    struct fixture *fixture = given_consumer_fixture(1);
    atomic_bool go = false;
    struct saga_consumer *consumer = given_consumer_whose_first_waits(fixture, &go);

    produce_messages(fixture, 0, 6);
    start_running(consumer);
    WAIT_UNTIL(effects_are(fixture, 5, 5), 20000);
    back_up(fixture);
    atomic_store(&go, true);
    WAIT_UNTIL(kafka_offset(fixture, 0) == 6, 20000);
    free_consumer(consumer);
    restore(fixture);
    run_until_idle(GIVEN_CONSUMER(fixture, .redis = redis_address()));
    expect_effects(fixture, 6, 6);
}
END_TEST

/* trap: I9: a mark of another database is none. */
START_TEST(test_consumer_does_not_believe_marks_of_another_database_i9)
{
    struct fixture *one = given_consumer_fixture(1), *two = given_consumer_fixture(1);
    const char *group = unique_name("group");
    struct saga_consumer *first;

    produce_messages(one, 0, 5);
    produce_messages(two, 0, 5);
    first = GIVEN_CONSUMER(one, .redis = redis_address(), .group = group);
    run_until_idle(first);
    free_consumer(first);
    run_until_idle(GIVEN_CONSUMER(two, .redis = redis_address(), .group = group));
    expect_effects(one, 5, 5);
    expect_effects(two, 5, 5);
}
END_TEST

/* --- members ------------------------------------------------------------------------ */

/* trap: I21: asleep past its session, in the middle of a transaction. */
START_TEST(test_consumer_that_fell_asleep_in_its_transaction_does_no_harm_i21)
{
    struct fixture *fixture = given_consumer_fixture(2);
    const char *const sleepy[] = { "hold", "idle_in_tx_ms=1000", NULL };
    struct process *one, *two;
    struct saga_consumer *three;

    produce_messages(fixture, 0, 20);
    one = start_consumer(fixture, redis_address(), "stop", sleepy, NULL);
    WAIT_UNTIL(strstr(process_output(one), "holding") != NULL, 20000);
    process_freeze(one);
    two = start_consumer(fixture, redis_address(), "stop", NULL, NULL);
    WAIT_UNTIL(effects_are(fixture, 20, 20), 30000);
    process_thaw(one);
    produce_messages(fixture, 20, 20);
    WAIT_UNTIL(effects_are(fixture, 40, 40), 30000);
    process_signal(one, SIGTERM);
    process_signal(two, SIGTERM);
    process_expect(one, 0, 10000);
    process_expect(two, 0, 10000);
    /* Who ends while the group rebalances may not have Kafka take his last offset. */
    three = GIVEN_CONSUMER(fixture, .redis = redis_address());
    run_until_idle(three);
    free_consumer(three);
    expect_effects(fixture, 40, 40);
    ck_assert(offsets_agree(fixture, 2));
}
END_TEST

static void
come_and_go(const char *strategy)
{
    const struct saga_pair properties[] = { { "session.timeout.ms", "6000" },
                                            { "heartbeat.interval.ms", "200" },
                                            { "auto.commit.interval.ms", "50" },
                                            { "partition.assignment.strategy", strategy },
                                            { NULL, NULL } };
    struct fixture *fixture = given_consumer_fixture(4);
    struct saga_consumer *members[3] = { NULL };
    int sent = 0;

    for (int i = 0; i < 9; i++) {
        struct saga_consumer **member = &members[i % 3];

        if (*member != NULL && i % 2 == 0) {
            free_consumer(*member);
            *member = NULL;
        } else if (*member == NULL) {
            *member = GIVEN_CONSUMER(fixture, .redis = redis_address(), .properties = properties);
            start_running(*member);
        }
        produce_messages(fixture, sent, 50);
        sent += 50;
        WAIT_UNTIL(db_int(fixture->conn, "SELECT count(*) FROM effect") > sent - 25, 20000);
    }
    WAIT_UNTIL(effects_are(fixture, sent, sent), 20000);
    for (int i = 0; i < 3; i++)
        if (members[i] != NULL)
            free_consumer(members[i]);
    ck_assert(offsets_agree(fixture, 4));
    expect_effects(fixture, sent, sent);
}

/* trap: I21 */
START_TEST(test_consumers_that_come_and_go_lose_and_double_nothing_eager_i21)
{
    come_and_go("range");
}
END_TEST

START_TEST(test_consumers_that_come_and_go_lose_and_double_nothing_cooperative_i21)
{
    come_and_go("cooperative-sticky");
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "idempotency_faults",
        .tests =
            TESTS(test_consumer_applies_once_whichever_answer_of_postgres_is_lost_i15,
                  test_consumer_does_not_wait_for_ever_for_the_answer_about_the_inbox_row,
                  test_consumer_goes_on_after_postgres_was_away,
                  test_consumer_whose_partitions_go_while_postgres_is_away_goes_on_with_others_i21,
                  test_consumer_whose_offset_was_moved_by_another_goes_on_from_what_is_there,
                  test_consumer_without_kafka_keeps_trying_says_so_once_and_can_be_stopped,
                  test_consumer_whose_kafka_has_gone_can_be_freed,
                  test_consumer_whose_kafka_stands_still_can_be_freed,
                  test_consumer_effects_survive_a_crash_of_an_asynchronous_database_i25,
                  test_consumer_reads_again_what_a_restored_database_has_lost_i9_i26,
                  test_consumer_that_lives_through_a_restore_reads_again_i9_i26,
                  test_consumer_reads_all_again_for_a_database_that_knows_nothing_i26,
                  test_consumer_applies_again_what_was_lost_behind_one_that_waits_i26,
                  test_consumer_reads_again_one_that_waited_and_was_lost_i26,
                  test_consumer_does_not_believe_marks_of_another_database_i9,
                  test_consumer_that_fell_asleep_in_its_transaction_does_no_harm_i21,
                  test_consumers_that_come_and_go_lose_and_double_nothing_eager_i21,
                  test_consumers_that_come_and_go_lose_and_double_nothing_cooperative_i21),
        .timeout_s = 90,
    });
}
