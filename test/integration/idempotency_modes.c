/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What recognises duplicates, by mode; and how a consumer's loop ends and tells of itself.
 */
#include "base/clock.h"
#include "test/support/consumer.h"
#include "test/support/mock.h"
#include "test/support/proxy.h"
#include "test/support/redis.h"
#include "test/support/run.h"
#include "test/support/server.h"
#include "test/support/wait.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

static atomic_int calls;

static int
count_call(PGconn *tx, const struct saga_record *record, void *user, struct saga_error *err)
{
    atomic_fetch_add(&calls, 1);
    return apply_effect(tx, record, user, err);
}

START_TEST(test_redis_mode_drops_duplicates_within_the_window_and_keeps_no_rows)
{
    struct fixture *fixture = given_consumer_fixture(1);
    struct saga_consumer *consumer = GIVEN_CONSUMER(fixture, .redis = redis_address(),
                                                    .mode = SAGA_MODE_REDIS, .handler = count_call);

    produce_messages(fixture, 0, 5);
    produce_messages(fixture, 0, 5);
    produce_one(fixture->topic, id_of(0), "key 0", "forged");
    run_until_idle(consumer);
    produce_messages(fixture, 0, 5);
    run_until_idle(consumer);
    ck_assert_int_eq(atomic_load(&calls), 5);
    expect_effects(fixture, 5, 5);
    ck_assert_int_eq(stats_of(consumer).duplicates_by_mark, 10);
    ck_assert_int_eq(stats_of(consumer).quarantined, 1);
    ck_assert_int_eq(stats_of(consumer).conflicts, 1);
    ck_assert_int_eq(db_int(fixture->conn, "SELECT count(*) FROM idempotency.inbox"), 0);
    ck_assert_int_eq(postgres_offset(fixture, 0), 16);
}
END_TEST

/* trap: I4: somebody died at it: after his lease, not after the window. */
START_TEST(test_redis_mode_takes_over_when_the_lease_ends_i4)
{
    struct server *server = GIVEN_SERVER("redis");
    struct fixture *fixture = given_consumer_fixture(1);
    redisContext *redis = redis_open(server->address);
    struct saga_consumer *consumer =
        GIVEN_CONSUMER(fixture, .redis = server->address, .mode = SAGA_MODE_REDIS);

    redis_text(redis, "SET saga:mark:-:%s:%s busy:ffffffffffffffff PX 3000", fixture->group,
               id_of(0));
    produce_messages(fixture, 0, 2);
    start_running(consumer);
    WAIT_UNTIL(effects_are(fixture, 1, 1), 20000); /* another key's */
    WAIT_UNTIL(effects_are(fixture, 2, 2), 20000);
    ck_assert_ptr_nonnull(
        strstr(redis_text(redis, "GET saga:mark:-:%s:%s", fixture->group, id_of(0)), "done:"));
    free_consumer(consumer);
    redisFree(redis);
}
END_TEST

static int64_t clock_shift_us;

static int64_t
shifted_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000 + clock_shift_us;
}

/* On a host whose clock is so many minutes ahead, a member sees these messages. */
static void
consume_with_clock(const struct fixture *fixture, const char *redis, int minutes, int from, int n)
{
    struct saga_consumer *consumer;

    clock_shift_us = minutes * INT64_C(60000000);
    clock_replace(shifted_clock, NULL);
    consumer = GIVEN_CONSUMER(fixture, .redis = redis, .mode = SAGA_MODE_REDIS);
    produce_messages(fixture, from, n);
    run_until_idle(consumer);
    ck_assert_int_eq(stats_of(consumer).quarantined, 0);
    free_consumer(consumer);
    clock_replace(NULL, NULL);
}

/* trap: I22: marks count as long as Redis says, whose own clock alone runs. */
START_TEST(test_consumers_whose_clocks_are_apart_believe_each_others_marks_i22)
{
    struct server *server = GIVEN_SERVER("redis");
    struct fixture *fixture = given_consumer_fixture(1);

    consume_with_clock(fixture, server->address, -10, 0, 5);
    consume_with_clock(fixture, server->address, 10, 0, 10);
    consume_with_clock(fixture, server->address, -10, 0, 15);
    expect_effects(fixture, 15, 15);
}
END_TEST

struct work {
    const struct fixture *fixture;
    struct saga_consumer *consumer;
    redisContext *redis;
};

static const char *
mark_of(const struct work *work)
{
    const char *mark =
        redis_text(work->redis, "GET saga:mark:-:%s:%s", work->fixture->group, id_of(0));

    return mark != NULL ? mark : "nothing";
}

static struct work
given_work(void)
{
    return (struct work){ .fixture = given_consumer_fixture(1),
                          .redis = redis_open(redis_address()) };
}

/* Longer than its lease, and says so. */
static int
work_on(PGconn *tx, const struct saga_record *record, void *user, struct saga_error *err)
{
    struct work *work = user;

    STAYS_TRUE(saga_consumer_keep_alive(work->consumer) == 0 &&
                   strncmp(mark_of(work), "busy:", 5) == 0,
               1800);
    return apply_effect(tx, record, user, err);
}

/* Its lease is its own for as long as it works. trap: I5 */
START_TEST(test_redis_mode_keeps_the_lease_of_a_long_handler_i5)
{
    struct work work = given_work();

    work.consumer = GIVEN_CONSUMER(work.fixture, .redis = redis_address(), .mode = SAGA_MODE_REDIS,
                                   .handler = work_on, .user = &work, .lease_ms = 1000);
    produce_messages(work.fixture, 0, 1);
    run_until_idle(work.consumer);
    expect_effects(work.fixture, 1, 1);
    ck_assert_ptr_nonnull(strstr(mark_of(&work), "done:"));
    redisFree(work.redis);
}
END_TEST

/* How long its mark still lives when the handler begins. */
static int
look_at_lease(PGconn *tx, const struct saga_record *record, void *user, struct saga_error *err)
{
    struct work *work = user;

    atomic_store(&calls, (int)redis_int(work->redis, "PTTL saga:mark:-:%s:%s", work->fixture->group,
                                        id_of(0)));
    return apply_effect(tx, record, NULL, err);
}

/* trap: I3, I5: the answer to it was lost, and Redis away for half of the lease. */
START_TEST(test_redis_mode_begins_with_a_whole_lease_i3_i5)
{
    struct work work = given_work();
    struct proxy *proxy = given_proxy(redis_address());
    redisContext *redis = redis_open(redis_address());
    const char *mark = text_of("PTTL saga:mark:-:%s:%s", work.fixture->group, id_of(0));

    work.consumer =
        GIVEN_CONSUMER(work.fixture, .redis = proxy_address(proxy), .mode = SAGA_MODE_REDIS,
                       .handler = look_at_lease, .user = &work, .lease_ms = 2000);
    proxy_swallow(proxy, 2); /* the first one says that there is no mark */
    produce_messages(work.fixture, 0, 1);
    start_running(work.consumer);
    WAIT_UNTIL(redis_int(redis, mark) > 0, 20000);
    proxy_refuse(proxy, true);
    WAIT_UNTIL(redis_int(redis, mark) < 1000, 20000);
    proxy_refuse(proxy, false);
    WAIT_UNTIL(effects_are(work.fixture, 1, 1), 20000);
    ck_assert_int_gt(atomic_load(&calls), 1800);
    stop_running(work.consumer);
    redisFree(redis);
    redisFree(work.redis);
}
END_TEST

/* As if it had slept, and another one had taken over. */
static int
lose_the_lease(PGconn *tx, const struct saga_record *record, void *user, struct saga_error *err)
{
    struct work *work = user;

    if (atomic_fetch_add(&calls, 1) > 0)
        return apply_effect(tx, record, user, err);
    redis_text(work->redis, "SET saga:mark:-:%s:%s busy:ffffffffffffffff PX 1500",
               work->fixture->group, id_of(0));
    WAIT_UNTIL(saga_consumer_keep_alive(work->consumer) == SAGA_EFENCED, 5000);
    ck_assert_int_eq(saga_consumer_keep_alive(work->consumer), SAGA_EFENCED);
    ck_assert_str_eq(mark_of(work), "busy:ffffffffffffffff");
    return SAGA_ESTATE;
}

/* trap: I5 */
START_TEST(test_redis_mode_tells_a_handler_that_its_lease_is_lost_i5)
{
    struct work work = given_work();

    work.consumer = GIVEN_CONSUMER(work.fixture, .redis = redis_address(), .mode = SAGA_MODE_REDIS,
                                   .handler = lose_the_lease, .user = &work, .lease_ms = 500,
                                   .retry_first_ms = 10);
    produce_messages(work.fixture, 0, 1);
    run_until_idle(work.consumer);
    ck_assert_int_eq(atomic_load(&calls), 2);
    expect_effects(work.fixture, 1, 1);
    redisFree(work.redis);
}
END_TEST

static void
note_waiting(void *user, int32_t level, const char *message, const struct saga_pair *fields)
{
    (void)user;
    (void)level;
    (void)fields;
    if (strstr(message, "nothing is applied before it answers") != NULL)
        atomic_fetch_add(&calls, 1);
}

/* Nobody is there to tell, and nothing else knows. */
START_TEST(test_redis_mode_waits_for_redis)
{
    struct server *server = GIVEN_SERVER("redis");
    struct fixture *fixture = given_consumer_fixture(1);
    struct saga_consumer *consumer = GIVEN_CONSUMER(fixture, .redis = server->address,
                                                    .mode = SAGA_MODE_REDIS, .log = note_waiting);

    server_freeze(server);
    produce_messages(fixture, 0, 2);
    start_running(consumer);
    WAIT_UNTIL(stats_of(consumer).circuit != SAGA_CIRCUIT_CLOSED, 20000);
    STAYS_TRUE(effects_are(fixture, 0, 0), 200);
    ck_assert_int_eq(atomic_load(&calls), 1);
    server_thaw(server);
    WAIT_UNTIL(effects_are(fixture, 2, 2), 20000);
    free_consumer(consumer);
}
END_TEST

START_TEST(test_inbox_mode_does_not_ask_redis)
{
    struct fixture *fixture = given_consumer_fixture(1);
    struct saga_consumer *consumer =
        GIVEN_CONSUMER(fixture, .redis = redis_address(), .mode = SAGA_MODE_INBOX);

    produce_messages(fixture, 0, 5);
    run_until_idle(consumer);
    produce_messages(fixture, 0, 5);
    run_until_idle(consumer);
    expect_effects(fixture, 5, 5);
    ck_assert_int_eq(stats_of(consumer).duplicates_by_inbox, 5);
    ck_assert_int_eq(stats_of(consumer).duplicates_by_mark, 0);
}
END_TEST

static int
later(PGconn *tx, const struct saga_record *record, void *user, struct saga_error *err)
{
    if (atomic_fetch_add(&calls, 1) < 2)
        return SAGA_HANDLER_RETRY;
    return apply_effect(tx, record, user, err);
}

START_TEST(test_stop_drains_what_was_taken)
{
    struct fixture *fixture = given_consumer_fixture(1);
    struct saga_consumer *consumer =
        GIVEN_CONSUMER(fixture, .handler = later, .drain_ms = 20000, .retry_first_ms = 1500,
                       .retry_longest_ms = 1500);

    produce_messages(fixture, 0, 1);
    start_running(consumer);
    WAIT_UNTIL(stats_of(consumer).retries == 1, 20000);
    WAIT_UNTIL(stats_of(consumer).lag == 1, 5000);
    stop_running(consumer);
    expect_effects(fixture, 1, 1);
}
END_TEST

static int
long_work(PGconn *tx, const struct saga_record *record, void *user, struct saga_error *err)
{
    struct deadline deadline = deadline_exactly_in(8000);

    while (wait_a_little(&deadline))
        saga_consumer_keep_alive(*(struct saga_consumer **)user);
    return apply_effect(tx, record, user, err);
}

static atomic_int revoked;

static void
count_revoked(void *user, int32_t level, const char *message, const struct saga_pair *fields)
{
    (void)user;
    (void)level;
    (void)fields;
    if (strcmp(message, "partitions revoked") == 0)
        atomic_fetch_add(&revoked, 1);
}

/* trap: I21 */
START_TEST(test_long_handler_stays_a_member_i21)
{
    static const struct saga_pair short_poll[] = { { "session.timeout.ms", "6000" },
                                                   { "max.poll.interval.ms", "6000" },
                                                   { "heartbeat.interval.ms", "500" },
                                                   { NULL, NULL } };
    struct fixture *fixture = given_consumer_fixture(1);
    struct saga_consumer *consumer = NULL;

    consumer = GIVEN_CONSUMER(fixture, .handler = long_work, .user = &consumer,
                              .properties = short_poll, .log = count_revoked);
    produce_messages(fixture, 0, 1);
    run_until_idle(consumer);
    expect_effects(fixture, 1, 1);
    ck_assert_int_eq(atomic_load(&revoked), 0);
    ck_assert_int_eq(stats_of(consumer).applied, 1);
}
END_TEST

static atomic_bool joined;

static void
note_joined(void *user, int32_t level, const char *message, const struct saga_pair *fields)
{
    (void)user;
    (void)level;
    (void)message;
    for (; fields->name != NULL; fields++)
        if (strstr(fields->value, "-> wait-sync") != NULL)
            atomic_store(&joined, true);
}

/* trap: I21: between joining its group and its first share. Before 2.3, librdkafka then aborts
 * the process. */
START_TEST(test_cooperative_member_may_end_before_its_first_share_i21)
{
    static const struct saga_pair cooperative[] = { { "partition.assignment.strategy",
                                                      "cooperative-sticky" },
                                                    { "debug", "cgrp" },
                                                    { NULL, NULL } };
    struct mock *mock = given_mock();
    struct fixture fixture = { .group = "group", .topic = "topic", .conninfo = given_database() };
    struct saga_consumer *consumer =
        GIVEN_CONSUMER(&fixture, .properties = cooperative, .log = note_joined, .debug = true);

    mock_topic(mock, fixture.topic, 1);
    mock_share_late(mock, 1000);
    start_running(consumer);
    WAIT_UNTIL(atomic_load(&joined), 20000);
    ck_assert_int_eq(stats_of(consumer).partitions, 0);
    free_consumer(consumer);
}
END_TEST

/* --- telling of itself -------------------------------------------------------------- */

struct told {
    int n;
    pthread_t thread;
    struct saga_consumer *stopped; /* by the second call */
    struct saga_consumer_stats first, last;
};

static void
take_stats(void *user, const struct saga_consumer_stats *stats)
{
    struct told *told = user;

    told->thread = pthread_self();
    if (told->n++ == 0)
        told->first = *stats;
    told->last = *stats;
    if (told->n == 2 && told->stopped != NULL)
        saga_consumer_stop(told->stopped);
}

START_TEST(test_consumer_tells_its_counters_now_and_then_and_at_the_end)
{
    struct server *server = GIVEN_SERVER("redis");
    struct fixture *fixture = given_consumer_fixture(1);
    struct told told = { .n = 0 };
    struct saga_consumer *consumer = GIVEN_CONSUMER(fixture, .redis = server->address,
                                                    .on_stats = take_stats, .stats_user = &told);

    produce_messages(fixture, 0, 5);
    produce_messages(fixture, 0, 2);
    run_until_idle(consumer);
    ck_assert_int_eq(told.n, 2); /* at once, and at the end: it is not ten seconds */
    ck_assert(pthread_equal(told.thread, pthread_self()));
    ck_assert_int_eq(told.first.applied, 0);
    ck_assert_int_eq(told.last.applied, 5);
    ck_assert_int_eq(told.last.duplicates_by_mark + told.last.duplicates_by_inbox, 2);
    ck_assert_int_eq(told.last.lag, 0);
    ck_assert_int_eq(told.last.partitions, 1);
    ck_assert_int_eq(told.last.redis_outages, 0);
    server_stop(server);
    produce_messages(fixture, 5, 1);
    run_until_idle(consumer);
    ck_assert_int_eq(told.last.applied, 6);
    ck_assert_int_eq(told.last.redis_outages, 1);
}
END_TEST

/* Nothing comes, and nothing else wakes it. */
START_TEST(test_consumer_without_messages_tells_its_counters_in_time)
{
    struct fixture *fixture = given_consumer_fixture(1);
    struct told told = { .n = 0 };
    struct saga_error err;

    told.stopped =
        GIVEN_CONSUMER(fixture, .on_stats = take_stats, .stats_user = &told, .stats_ms = 50);
    ck_assert_int_eq(saga_consumer_run(told.stopped, SAGA_CONSUME_UNTIL_STOP, &err), 0);
    ck_assert_int_eq(told.n, 3);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "idempotency_modes",
        .tests = TESTS(test_redis_mode_drops_duplicates_within_the_window_and_keeps_no_rows,
                       test_redis_mode_takes_over_when_the_lease_ends_i4,
                       test_consumers_whose_clocks_are_apart_believe_each_others_marks_i22,
                       test_redis_mode_keeps_the_lease_of_a_long_handler_i5,
                       test_redis_mode_begins_with_a_whole_lease_i3_i5,
                       test_redis_mode_tells_a_handler_that_its_lease_is_lost_i5,
                       test_redis_mode_waits_for_redis, test_inbox_mode_does_not_ask_redis,
                       test_stop_drains_what_was_taken, test_long_handler_stays_a_member_i21,
                       test_cooperative_member_may_end_before_its_first_share_i21,
                       test_consumer_tells_its_counters_now_and_then_and_at_the_end,
                       test_consumer_without_messages_tells_its_counters_in_time),
        .timeout_s = 60,
    });
}
