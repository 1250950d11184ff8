/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In the midst of duplicates: what a consumer finishes after a look into the
 * inbox, and what it must not.
 */
#include "test/support/consumer.h"
#include "test/support/kafka.h"
#include "test/support/proxy.h"
#include "test/support/redis.h"
#include "test/support/run.h"
#include "test/support/server.h"
#include "test/support/wait.h"

/* More than one question holds. */
enum { N = 1200, BATCHES = N / 100 };

/* N messages were applied and have come again, so the next ones are looked up first. */
static struct saga_consumer *
given_repeats(const struct fixture *fixture)
{
    struct saga_consumer *consumer = GIVEN_CONSUMER(fixture);

    produce_messages(fixture, 0, N);
    run_until_idle(consumer);
    produce_messages(fixture, 0, N);
    run_until_idle(consumer);
    ck_assert_int_eq(stats_of(consumer).applied, N);
    ck_assert_int_eq(stats_of(consumer).duplicates_by_inbox, N);
    return consumer;
}

START_TEST(test_repeats_are_finished_without_a_transaction)
{
    struct fixture *fixture = given_consumer_fixture(1);
    struct saga_consumer *consumer = given_repeats(fixture);
    int64_t batches = stats_of(consumer).batches;

    produce_messages(fixture, 0, N);
    run_until_idle(consumer);
    expect_effects(fixture, N, N);
    ck_assert_int_eq(stats_of(consumer).duplicates_by_inbox, 2 * N);
    ck_assert_int_lt(stats_of(consumer).batches, batches + BATCHES);
    free_consumer(consumer);
    ck_assert(offsets_agree(fixture, 1));
}
END_TEST

/* In batches of one, and where each comes more than once among those that are asked about. */
START_TEST(test_repeats_are_finished_so_whatever_a_batch_holds_and_however_often_they_come)
{
    struct fixture *fixture = given_consumer_fixture(1);
    struct saga_consumer *consumer;

    free_consumer(given_repeats(fixture));
    for (int i = 0; i < BATCHES; i++)
        produce_messages(fixture, 0, N / BATCHES);
    consumer = GIVEN_CONSUMER(fixture, .batch_rows = 1);
    run_until_idle(consumer);
    expect_effects(fixture, N, N);
    ck_assert_int_eq(stats_of(consumer).duplicates_by_inbox, N);
    ck_assert_int_lt(stats_of(consumer).batches, N / 2);
}
END_TEST

START_TEST(test_repeats_are_recognised_in_whatever_order_their_ids_come)
{
    struct fixture *fixture = given_consumer_fixture(1);
    struct saga_consumer *consumer = given_repeats(fixture);
    int64_t batches = stats_of(consumer).batches;

    for (int i = N; i > 0; i -= N / BATCHES)
        produce_messages(fixture, i - N / BATCHES, N / BATCHES);
    run_until_idle(consumer);
    expect_effects(fixture, N, N);
    ck_assert_int_eq(stats_of(consumer).duplicates_by_inbox, 2 * N);
    ck_assert_int_lt(stats_of(consumer).batches, batches + BATCHES / 2);
}
END_TEST

/* --- behind a message that waits ---------------------------------------------------- */

static int64_t
duplicates_of(const struct saga_consumer *consumer)
{
    return stats_of(consumer).duplicates_by_inbox + stats_of(consumer).duplicates_by_mark;
}

/* N of them, behind a new message, or behind one that can only go to the quarantine. */
static void
given_repeats_behind(const struct fixture *fixture, const char *id)
{
    struct saga_consumer *consumer = GIVEN_CONSUMER(fixture);
    const struct record_header header = { .name = "message-id", .value = id };

    produce_messages(fixture, 0, N);
    run_until_idle(consumer);
    free_consumer(consumer);
    produce(fixture->topic,
            &(struct record){ .key = "head", .value = "v", .headers = &header, .n_headers = 1 });
    produce_messages(fixture, 0, N);
}

static int
wait_for_the_others(PGconn *tx, const struct saga_record *record, void *user,
                    struct saga_error *err)
{
    if (duplicates_of(*(struct saga_consumer **)user) < N)
        return SAGA_HANDLER_RETRY;
    return apply_effect(tx, record, user, err);
}

/* They lie finished behind it, and are not looked at again when the others are: Redis has their
 * marks by then. */
START_TEST(test_repeats_behind_one_that_waits_are_counted_once)
{
    struct fixture *fixture = given_consumer_fixture(1);
    struct saga_consumer *consumer = NULL;

    given_repeats_behind(fixture, id_of(N));
    consumer = GIVEN_CONSUMER(fixture, .redis = redis_address(), .handler = wait_for_the_others,
                              .user = &consumer, .batch_rows = 10, .attempts_max = 10000);
    run_until_idle(consumer);
    expect_effects(fixture, N + 1, N + 1);
    ck_assert_int_eq(stats_of(consumer).duplicates_by_inbox, N);
    ck_assert_int_eq(stats_of(consumer).duplicates_by_mark, 0);
}
END_TEST

/* No inbox knows it; the look finds all that are behind it. */
START_TEST(test_repeats_behind_one_without_an_id_are_looked_up)
{
    struct fixture *fixture = given_consumer_fixture(1);
    struct saga_consumer *consumer;

    given_repeats_behind(fixture, NULL);
    db_exec(fixture->conn,
            "ALTER TABLE idempotency.quarantine ADD CONSTRAINT is_full CHECK (false)");
    consumer = GIVEN_CONSUMER(fixture, .batch_rows = 10, .attempts_max = 10000);
    start_running(consumer);
    WAIT_UNTIL(duplicates_of(consumer) >= N, 20000);
    db_exec(fixture->conn, "ALTER TABLE idempotency.quarantine DROP CONSTRAINT is_full");
    WAIT_UNTIL(postgres_offset(fixture, 0) == 2 * N + 1, 20000);
    stop_running(consumer);
    ck_assert_int_eq(stats_of(consumer).quarantined, 1);
    ck_assert_int_eq(stats_of(consumer).duplicates_by_inbox, N);
    ck_assert_int_lt(stats_of(consumer).batches, N / 20);
}
END_TEST

/* It was applied, and does not know it: its COMMIT has got no answer. That it is in the inbox is
 * its own doing, and no duplicate. */
START_TEST(test_one_whose_commit_got_no_answer_is_no_duplicate_of_itself)
{
    struct fixture *fixture = given_consumer_fixture(1);
    struct proxy *proxy = given_proxy(text_of("%s:%s", server_env("PGHOST"), server_env("PGPORT")));
    struct saga_consumer *consumer = GIVEN_CONSUMER(fixture);

    produce_messages(fixture, 0, N);
    run_until_idle(consumer);
    free_consumer(consumer);
    consumer = GIVEN_CONSUMER(
        fixture, .conninfo = text_of("%s port=%d", fixture->conninfo, proxy_port(proxy)),
        .batch_rows = 10, .retry_first_ms = 3000, .retry_longest_ms = 3000);
    start_running(consumer);
    produce_messages(fixture, N, 1);
    WAIT_UNTIL(stats_of(consumer).applied == 1, 20000);
    proxy_cut_at(proxy, "COMMIT");
    produce_messages(fixture, N + 1, 1);
    WAIT_UNTIL(stats_of(consumer).retries == 1, 10000);
    produce_messages(fixture, 0, N);
    WAIT_UNTIL(postgres_offset(fixture, 0) == 2 * N + 2, 20000);
    stop_running(consumer);
    expect_effects(fixture, N + 2, N + 2);
    ck_assert_int_eq(stats_of(consumer).applied, 2);
    ck_assert_int_eq(stats_of(consumer).duplicates_by_inbox, N);
}
END_TEST

/* How many of a topic's messages were handled when PostgreSQL's offset of the other one had moved.
 */
static struct {
    const struct fixture *fixture;
    int handled, before_it_moved;
} busy;

static int
look_at_the_other(PGconn *tx, const struct saga_record *record, void *user, struct saga_error *err)
{
    (void)tx;
    (void)record;
    (void)user;
    (void)err;
    busy.handled++;
    if (postgres_offset(busy.fixture, 0) < 10)
        busy.before_it_moved = busy.handled;
    return 0;
}

START_TEST(test_offset_behind_what_was_seen_moves_with_the_next_batch)
{
    enum { MANY = 200 };
    struct fixture *fixture = given_consumer_fixture(1), other = *fixture;
    struct saga_consumer *consumer =
        GIVEN_CONSUMER(fixture, .redis = redis_address(), .batch_rows = 1);

    busy.fixture = fixture;
    other.topic = GIVEN_TOPIC(1);
    ck_assert_int_eq(saga_consumer_subscribe(consumer, other.topic, look_at_the_other, NULL, NULL),
                     0);
    produce_messages(fixture, 0, 5);
    run_until_idle(consumer);
    produce_messages(fixture, 0, 5);
    produce_messages(&other, 5, MANY);
    run_until_idle(consumer);
    ck_assert_int_eq(busy.handled, MANY);
    ck_assert_int_lt(busy.before_it_moved, MANY / 2);
}
END_TEST

/* Once more; by their marks, if Redis answers in time. */
static bool
most_are_seen_by_mark(const struct fixture *fixture, struct saga_consumer *consumer)
{
    int64_t before = stats_of(consumer).duplicates_by_mark;

    produce_messages(fixture, 0, N);
    run_until_idle(consumer);
    return stats_of(consumer).duplicates_by_mark > before + N / 2;
}

START_TEST(test_repeats_that_redis_has_forgotten_are_marked_again)
{
    struct server *server = GIVEN_SERVER("redis");
    redisContext *redis = redis_open(server->address);
    struct fixture *fixture = given_consumer_fixture(1);
    struct saga_consumer *consumer = GIVEN_CONSUMER(fixture, .redis = server->address);

    for (int i = 0; i < 3; i++) {
        redis_text(redis, "FLUSHALL");
        produce_messages(fixture, 0, N);
        run_until_idle(consumer);
    }
    redisFree(redis);
    WAIT_UNTIL(most_are_seen_by_mark(fixture, consumer), 20000);
    expect_effects(fixture, N, N);
}
END_TEST

/* All is there before it begins to read, so it is in their midst when it comes to the odd one. */
static struct saga_consumer *
given_reader(const struct fixture *fixture)
{
    struct saga_consumer *consumer = GIVEN_CONSUMER(fixture);

    run_until_idle(consumer);
    ck_assert_int_eq(stats_of(consumer).duplicates_by_inbox, 2 * N);
    ck_assert_int_lt(stats_of(consumer).batches, 2 * BATCHES); /* if none were looked up */
    return consumer;
}

/* Rows of the group that lie between those of the fixture's messages, three for each: the ids of
 * these are counted in decimal digits. */
static void
receive_between(const struct fixture *fixture)
{
    db_exec(fixture->conn,
            "SELECT idempotency.receive('%s', ids, hashes, topics, partitions, offsets)"
            " FROM (SELECT array_agg((left('%s', 24) || lpad(to_hex(i), 12, '0'))::uuid) ids,"
            " array_agg(sha256('')) hashes, array_agg(''::text) topics, array_agg(0) partitions,"
            " array_agg(0::bigint) offsets"
            " FROM generate_series(1, 4608) i WHERE to_hex(i) ~ '[a-f]') others",
            fixture->group, id_of(0));
}

START_TEST(test_repeats_are_finished_without_a_transaction_where_others_lie_between)
{
    struct fixture *fixture = given_consumer_fixture(1);
    struct saga_consumer *consumer;

    free_consumer(given_repeats(fixture));
    receive_between(fixture);
    for (int i = 0; i < 3; i++)
        produce_messages(fixture, 0, N);
    consumer = GIVEN_CONSUMER(fixture);
    run_until_idle(consumer);
    expect_effects(fixture, N, N);
    ck_assert_int_eq(stats_of(consumer).duplicates_by_inbox, 3 * N);
    ck_assert_int_lt(stats_of(consumer).batches, BATCHES);
}
END_TEST

/* trap: I10, I12 */
START_TEST(test_among_repeats_a_new_one_is_applied_i10)
{
    struct fixture *fixture = given_consumer_fixture(1);

    free_consumer(given_repeats(fixture));
    produce_messages(fixture, 0, N);
    produce_messages(fixture, N, 1);
    produce_messages(fixture, 0, N);
    given_reader(fixture);
    expect_effects(fixture, N + 1, N + 1);
}
END_TEST

/* trap: I10 */
START_TEST(test_among_repeats_one_with_other_contents_goes_to_quarantine_i10)
{
    struct fixture *fixture = given_consumer_fixture(1);
    struct saga_consumer *consumer = given_repeats(fixture);

    produce_messages(fixture, N, 1); /* once: two of one id would spoil the look by themselves */
    run_until_idle(consumer);
    free_consumer(consumer);
    produce_messages(fixture, 0, N);
    produce_one(fixture->topic, id_of(N), "key", "forged");
    produce_messages(fixture, 0, N);
    ck_assert_int_eq(stats_of(given_reader(fixture)).conflicts, 1);
    expect_effects(fixture, N + 1, N + 1);
}
END_TEST

/* trap: I11 */
START_TEST(test_among_repeats_those_that_another_group_knows_are_new_i11)
{
    struct fixture *fixture = given_consumer_fixture(1);
    struct saga_consumer *consumer = given_repeats(fixture);
    struct saga_consumer *other = GIVEN_CONSUMER(fixture, .group = unique_name("other"));

    produce_messages(fixture, N, N);
    run_until_idle(other);
    expect_effects(fixture, 2 * N, 3 * N);
    run_until_idle(consumer);
    expect_effects(fixture, 2 * N, 4 * N);
}
END_TEST

/* N more are applied by another process of the group, which would rather be quick than safe. */
static void
apply_carelessly(const struct fixture *fixture)
{
    struct fixture elsewhere = *fixture;
    struct saga_consumer *other;

    /* Their hashes, from a group of its own. */
    elsewhere.topic = GIVEN_TOPIC(1);
    elsewhere.group = unique_name("other");
    other = GIVEN_CONSUMER(&elsewhere);
    produce_messages(&elsewhere, N, N);
    run_until_idle(other);
    free_consumer(other);
    db_exec(fixture->conn, "TRUNCATE effect");
    db_exec(fixture->conn, "CHECKPOINT");
    db_exec(fixture->conn,
            "SET synchronous_commit = off; BEGIN;"
            "INSERT INTO effect (message_id) SELECT message_id FROM idempotency.inbox"
            " WHERE consumer = '%s';"
            "SELECT idempotency.receive('%s', array_agg(message_id), array_agg(hash),"
            " array_agg(topic), array_agg(partition), array_agg(\"offset\"))"
            " FROM idempotency.inbox WHERE consumer = '%s'; COMMIT",
            elsewhere.group, fixture->group, elsewhere.group);
}

/* trap: I25: what is seen has survived the crash, whoever has committed it: the mark that is made
 * of it would outlive it. */
START_TEST(test_repeats_whose_effect_was_committed_asynchronously_are_not_lost_i25)
{
    /* So that the killed one's partition is free at once. */
    static const struct saga_pair same_member[] = { { "group.instance.id", "1" }, { NULL, NULL } };
    struct server *cluster = GIVEN_SERVER("pg", "wal_writer_delay=10s", "bgwriter_delay=10s");
    struct server *redis = GIVEN_SERVER("redis");
    struct fixture *fixture = given_consumer_fixture_in(cluster, 1);
    struct process *consumer;

    free_consumer(given_repeats(fixture));
    produce_messages(fixture, 0, N);
    consumer =
        start_consumer(fixture, redis->address, "stop",
                       (const char *const[]){ "auto.commit.interval.ms=600000",
                                              "group.instance.id=1", "redis_timeout_ms=50", NULL },
                       NULL);
    WAIT_UNTIL(postgres_offset(fixture, 0) == 3 * N, 20000);
    apply_carelessly(fixture);
    /* So that its offset, which would save all that was committed before, stays where it is. */
    db_exec(fixture->conn, "BEGIN; SELECT FROM idempotency.consumer_offset FOR UPDATE");
    process_freeze(consumer);
    produce_messages(fixture, N, N);
    process_thaw(consumer);
    WAIT_UNTIL(db_int(fixture->conn, "SELECT count(*) FROM pg_locks WHERE NOT granted") > 0, 10000);
    server_kill(cluster);
    process_kill(consumer);
    server_start(cluster);
    PQreset(fixture->conn);
    run_until_idle(GIVEN_CONSUMER(fixture, .redis = redis->address, .properties = same_member));
    expect_effects(fixture, N, N);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "idempotency_seen",
        .tests =
            TESTS(test_repeats_are_finished_without_a_transaction,
                  test_repeats_are_finished_so_whatever_a_batch_holds_and_however_often_they_come,
                  test_repeats_are_recognised_in_whatever_order_their_ids_come,
                  test_repeats_behind_one_that_waits_are_counted_once,
                  test_repeats_behind_one_without_an_id_are_looked_up,
                  test_one_whose_commit_got_no_answer_is_no_duplicate_of_itself,
                  test_offset_behind_what_was_seen_moves_with_the_next_batch,
                  test_repeats_that_redis_has_forgotten_are_marked_again,
                  test_repeats_are_finished_without_a_transaction_where_others_lie_between,
                  test_among_repeats_a_new_one_is_applied_i10,
                  test_among_repeats_one_with_other_contents_goes_to_quarantine_i10,
                  test_among_repeats_those_that_another_group_knows_are_new_i11,
                  test_repeats_whose_effect_was_committed_asynchronously_are_not_lost_i25),
    });
}
