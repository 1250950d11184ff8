/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many messages in one transaction, and in hand: what one of them can do to the others.
 */
#include "idempotency/consumer_state.h"
#include "test/support/consumer.h"
#include "test/support/kafka.h"
#include "test/support/redis.h"
#include "test/support/run.h"
#include "test/support/server.h"
#include "test/support/wait.h"

#include <stdatomic.h>
#include <string.h>

enum { N = 50 };

static atomic_int calls;

static bool
is_message(const struct saga_record *record, int n)
{
    char id[37];

    saga_uuid_text(&record->id, id);
    return strcmp(id, id_of(n)) == 0;
}

/* The ids in the order in which they were applied, by their numbers. */
static const char *
order_of_effects(const struct fixture *fixture)
{
    return db_text(fixture->conn, "SELECT string_agg((right(message_id::text, 3)::int - 1)::text,"
                                  " ' ' ORDER BY at) FROM effect");
}

START_TEST(test_batch_applies_many_messages_in_few_transactions)
{
    struct fixture *fixture = given_consumer_fixture(3);
    struct saga_consumer *consumer = GIVEN_CONSUMER(fixture, .redis = redis_address());

    produce_messages(fixture, 0, N);
    run_until_idle(consumer);
    expect_effects(fixture, N, N);
    ck_assert_int_eq(stats_of(consumer).applied, N);
    ck_assert_int_lt(stats_of(consumer).batches, N / 2);
    free_consumer(consumer);
    ck_assert(offsets_agree(fixture, 3));
}
END_TEST

/* What librdkafka may hold is taken many times over; each time it could sleep for a second. */
START_TEST(test_consumer_does_not_wait_for_a_librdkafka_that_has_stopped_fetching)
{
    static const struct saga_pair small[] = { { "queued.max.messages.kbytes", "1" },
                                              { "fetch.message.max.bytes", "1000" },
                                              { NULL, NULL } };
    enum { MANY = 40 };
    char value[2001];
    struct fixture *fixture = given_consumer_fixture(1);
    struct saga_consumer *consumer = GIVEN_CONSUMER(fixture, .properties = small);

    memset(value, 'x', sizeof value);
    value[sizeof value - 1] = '\0';
    for (int i = 0; i < MANY; i++)
        produce_one(fixture->topic, id_of(i), "k", value); /* each is more than it may hold */
    start_running(consumer);
    WAIT_UNTIL(effects_are(fixture, MANY, MANY), 10000);
    stop_running(consumer);
}
END_TEST

static bool
all_but_the_ninth_are_applied(PGconn *tx)
{
    PGresult *result = PQexec(tx, "SELECT count(*) >= 11 FROM effect");
    bool yes = PQntuples(result) == 1 && *PQgetvalue(result, 0, 0) == 't';

    PQclear(result);
    return yes;
}

/* Twice at least, and as long as others that need not wait for it have not gone on. */
static int
fail_at_the_third(PGconn *tx, const struct saga_record *record, void *user, struct saga_error *err)
{
    int rc = apply_effect(tx, record, NULL, err);

    if (!is_message(record, 2) ||
        (atomic_fetch_add(&calls, 1) >= 2 && all_but_the_ninth_are_applied(tx)))
        return rc;
    return user != NULL ? handler_exec(tx, user, record) : SAGA_HANDLER_RETRY;
}

/* trap: I23: 9 is of its key and waits for it; the others have no reason to. */
START_TEST(test_batch_whose_third_handler_fails_costs_its_neighbours_nothing_i23)
{
    static const char *const statements[] = { NULL, "SELECT 1/0" };

    for (size_t i = 0; i < 2; i++) {
        struct fixture *fixture = given_consumer_fixture(1);
        struct saga_consumer *consumer =
            GIVEN_CONSUMER(fixture, .redis = redis_address(), .handler = fail_at_the_third,
                           .user = (void *)statements[i]);

        atomic_store(&calls, 0);
        produce_messages(fixture, 0, 12);
        run_until_idle(consumer);
        expect_effects(fixture, 12, 12);
        ck_assert_int_eq(stats_of(consumer).applied, 12);
        ck_assert_int_ge(stats_of(consumer).retries, 2);
        ck_assert_str_eq(order_of_effects(fixture), "0 1 3 4 5 6 7 8 10 11 2 9");
        ck_assert_int_eq(postgres_offset(fixture, 0), 12);
        free_consumer(consumer);
        ck_assert_int_eq(kafka_offset(fixture, 0), 12);
    }
}
END_TEST

static int
commit_at_the_third(PGconn *tx, const struct saga_record *record, void *user,
                    struct saga_error *err)
{
    int rc = apply_effect(tx, record, NULL, err);

    if (is_message(record, 2) && atomic_fetch_add(&calls, 1) == 0)
        for (const char *const *sql = user; *sql != NULL; sql++)
            (void)handler_exec(tx, *sql, record);
    return rc;
}

/* trap: I14: the inbox rows of those behind it would be committed without their effects. */
START_TEST(test_batch_whose_handler_commits_loses_nothing_i14)
{
    static const char *const ways[][3] = {
        { "COMMIT" }, { "COMMIT", "BEGIN" }, { "ROLLBACK" }, { "ROLLBACK", "BEGIN" }
    };

    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        struct fixture *fixture = given_consumer_fixture(1);
        struct saga_consumer *consumer =
            GIVEN_CONSUMER(fixture, .handler = commit_at_the_third, .user = (void *)ways[i]);

        atomic_store(&calls, 0);
        produce_messages(fixture, 0, 8);
        run_until_idle(consumer);
        expect_effects(fixture, 8, 8);
        free_consumer(consumer);
    }
}
END_TEST

/* trap: I10, I12 */
START_TEST(test_batch_with_the_same_message_twice_applies_it_once_i10)
{
    struct fixture *fixture = given_consumer_fixture(2);
    struct saga_consumer *consumer = GIVEN_CONSUMER(fixture, .redis = redis_address());

    produce_messages(fixture, 0, 10);
    produce_messages(fixture, 0, 10);
    produce_one(fixture->topic, id_of(3), "key 3", "forged");
    produce_messages(fixture, 10, 10);
    run_until_idle(consumer);
    expect_effects(fixture, 20, 20);
    ck_assert_int_eq(stats_of(consumer).duplicates_by_inbox, 10);
    ck_assert_int_eq(stats_of(consumer).conflicts, 1);
    ck_assert_int_lt(stats_of(consumer).batches, 10);
}
END_TEST

/* trap: I21 */
START_TEST(test_batch_with_a_partition_that_is_anothers_leaves_that_one_alone_i21)
{
    struct fixture *fixture = given_consumer_fixture(2);
    struct saga_consumer *consumer = GIVEN_CONSUMER(fixture, .redis = redis_address());

    produce_messages(fixture, 0, N);
    run_until_idle(consumer);
    produce_messages(fixture, N, N);
    db_exec(fixture->conn, "UPDATE idempotency.consumer_offset SET next_offset = next_offset + 1"
                           " WHERE partition = 1");
    start_running(consumer);
    WAIT_UNTIL(db_int(fixture->conn, "SELECT count(*) FROM effect") > N, 20000);
    /* It looked again before it went on there. */
    WAIT_UNTIL(effects_are(fixture, 2 * N, 2 * N), 20000);
    ck_assert_int_eq(stats_of(consumer).retries, 0);
}
END_TEST

/* --- handlers of a whole batch ------------------------------------------------------ */

static atomic_int largest;

static int
apply_all(PGconn *tx, const struct saga_record *const *records, size_t n, void *user,
          struct saga_error *err)
{
    int rc = 0;

    atomic_fetch_add(&calls, 1);
    if ((int)n > atomic_load(&largest))
        atomic_store(&largest, (int)n);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        if (user != NULL && n > 1 && is_message(records[i], 5))
            return SAGA_HANDLER_RETRY;
        rc = apply_effect(tx, records[i], NULL, err);
    }
    return rc;
}

static void
run_with_all(struct fixture *fixture, void *user)
{
    struct saga_consumer *consumer = GIVEN_CONSUMER(fixture, .unsubscribed = true);

    atomic_store(&calls, 0);
    atomic_store(&largest, 0);
    ck_assert_int_eq(saga_consumer_subscribe_batch(consumer, fixture->topic, apply_all, user, NULL),
                     0);
    produce_messages(fixture, 0, 20);
    produce_messages(fixture, 0, 5);
    run_until_idle(consumer);
    expect_effects(fixture, 20, 20);
    ck_assert_str_eq(order_of_effects(fixture),
                     "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19");
    free_consumer(consumer);
}

START_TEST(test_batch_handler_is_given_all_new_ones_at_once_in_their_order)
{
    run_with_all(given_consumer_fixture(1), NULL);
    ck_assert_int_ge(atomic_load(&largest), 10);
    ck_assert_int_le(atomic_load(&calls), 5);
}
END_TEST

START_TEST(test_batch_handler_that_fails_is_called_for_each_alone)
{
    run_with_all(given_consumer_fixture(1), &calls);
    ck_assert_int_ge(atomic_load(&calls), 7);
}
END_TEST

/* --- in hand ------------------------------------------------------------------------- */

enum { LARGE = 40, LARGE_HALF = 450000 };

struct look {
    struct saga_consumer *consumer;
    int32_t held;
    bool more, settled; /* more: librdkafka has some that were not taken */
};

/* Waits until no more are taken, though there are more, or until all are. */
static int
look_at_hand(PGconn *tx, const struct saga_record *record, void *user, struct saga_error *err)
{
    struct look *look = user;
    const struct partition *partition = look->consumer->partitions;
    int32_t held = look->held;
    bool more = look->more;

    if (!look->settled) {
        look->held = partition->hand.n;
        look->more = rd_kafka_queue_length(partition->queue) > 0;
        look->settled = look->held == LARGE || (more && look->more && look->held == held);
    }
    return look->settled ? apply_effect(tx, record, NULL, err) : SAGA_HANDLER_RETRY;
}

START_TEST(test_payloads_and_headers_count_for_what_a_partition_may_hold)
{
    static char half[LARGE_HALF + 1];
    struct fixture *fixture = given_consumer_fixture(1);
    struct look look = { .held = 0 };

    memset(half, 'x', LARGE_HALF);
    for (int i = 0; i < LARGE; i++)
        produce(fixture->topic,
                &(struct record){ .key = "k",
                                  .value = half,
                                  HEADERS({ "message-id", id_of(i) }, { "large", half }) });
    look.consumer = GIVEN_CONSUMER(fixture, .handler = look_at_hand, .user = &look, .batch_rows = 1,
                                   .attempts_max = 10000);
    run_until_idle(look.consumer);
    ck_assert_int_eq(look.held, (16 << 20) / (2 * LARGE_HALF) + 1);
    ck_assert_uint_eq(look.consumer->partitions->held_bytes, 0);
    expect_effects(fixture, LARGE, LARGE);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "idempotency_batch",
        .tests = TESTS(test_batch_applies_many_messages_in_few_transactions,
                       test_consumer_does_not_wait_for_a_librdkafka_that_has_stopped_fetching,
                       test_batch_whose_third_handler_fails_costs_its_neighbours_nothing_i23,
                       test_batch_whose_handler_commits_loses_nothing_i14,
                       test_batch_with_the_same_message_twice_applies_it_once_i10,
                       test_batch_with_a_partition_that_is_anothers_leaves_that_one_alone_i21,
                       test_batch_handler_is_given_all_new_ones_at_once_in_their_order,
                       test_batch_handler_that_fails_is_called_for_each_alone,
                       test_payloads_and_headers_count_for_what_a_partition_may_hold),
        .timeout_s = 60,
    });
}
