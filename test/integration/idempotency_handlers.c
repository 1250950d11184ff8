/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What handlers may do, what they must not, and what becomes of their
 * message then.
 */
#include "idempotency/consumer.h"
#include "test/support/consumer.h"
#include "test/support/redis.h"
#include "test/support/run.h"
#include "test/support/server.h"
#include "test/support/wait.h"

#include <stdatomic.h>
#include <string.h>

static atomic_int calls;

static int
call_number(void)
{
    return atomic_fetch_add(&calls, 1) + 1;
}

/* --- trap: I14 ------------------------------------------------------------------ */

static int
roll_back_to_own_savepoint(PGconn *tx, const struct saga_record *record, void *user,
                           struct saga_error *err)
{
    int rc = handler_exec(tx, "SAVEPOINT mine", record);

    if (rc == 0)
        rc = apply_effect(tx, record, user, err);
    if (rc == 0)
        rc = handler_exec(tx, "ROLLBACK TO mine", record);
    return rc != 0 ? rc : apply_effect(tx, record, user, err);
}

START_TEST(test_handler_may_roll_back_to_its_own_savepoint_i14)
{
    struct fixture *fixture = given_consumer_fixture(1);
    struct saga_consumer *consumer =
        GIVEN_CONSUMER(fixture, .redis = redis_address(), .handler = roll_back_to_own_savepoint);

    produce_messages(fixture, 0, 3);
    produce_messages(fixture, 0, 3);
    run_until_idle(consumer);
    expect_effects(fixture, 3, 3);
    ck_assert_int_eq(stats_of(consumer).applied, 3);
}
END_TEST

static atomic_bool looked;

static bool
has_looked(void *arg)
{
    (void)arg;
    return atomic_load(&looked);
}

/* The first time it does `user` after its effect; then it behaves, as soon as the test has
 * looked at what the first time has left. */
static int
misbehave_once(PGconn *tx, const struct saga_record *record, void *user, struct saga_error *err)
{
    int rc = apply_effect(tx, record, NULL, err);

    if (call_number() > 1 || rc != 0)
        return wait_until(has_looked, NULL, 20000) ? rc : SAGA_HANDLER_RETRY;
    for (const char *const *sql = user; *sql != NULL; sql++)
        (void)handler_exec(tx, *sql, record);
    return 0;
}

/* Claims success over a transaction that is not what it was; comes again. */
static void
expect_refused(const char *const *sql, int effects)
{
    struct fixture *fixture = given_consumer_fixture(1);
    struct saga_consumer *consumer = GIVEN_CONSUMER(fixture, .redis = redis_address(),
                                                    .handler = misbehave_once, .user = (void *)sql);

    atomic_store(&calls, 0);
    atomic_store(&looked, false);
    produce_messages(fixture, 0, 1);
    start_running(consumer);
    WAIT_UNTIL(stats_of(consumer).retries == 1, 20000);
    ck_assert_int_eq(stats_of(consumer).applied, 0);
    ck_assert_int_eq(postgres_offset(fixture, 0), -1);
    ck_assert_int_eq(kafka_offset(fixture, 0), -1);
    atomic_store(&looked, true);
    WAIT_UNTIL(postgres_offset(fixture, 0) == 1, 10000);
    expect_effects(fixture, 1, effects);
    free_consumer(consumer);
}

START_TEST(test_handler_that_rolls_back_and_returns_success_marks_nothing_i14)
{
    static const char *const sql[] = { "ROLLBACK", NULL };

    expect_refused(sql, 1);
    ck_assert_int_eq(atomic_load(&calls), 2);
}
END_TEST

START_TEST(test_handler_that_rolls_back_and_begins_anew_marks_nothing_i14)
{
    static const char *const sql[] = { "ROLLBACK", "BEGIN", NULL };

    expect_refused(sql, 1);
    ck_assert_int_eq(atomic_load(&calls), 2);
}
END_TEST

/* It would commit the inbox rows of the messages behind it. */
START_TEST(test_handler_cannot_commit_i14)
{
    static const char *const commit[] = { "COMMIT", NULL };
    static const char *const again[] = { "COMMIT", "BEGIN", NULL };

    expect_refused(commit, 1);
    ck_assert_int_eq(atomic_load(&calls), 2);
    expect_refused(again, 1);
    ck_assert_int_eq(atomic_load(&calls), 2);
}
END_TEST

/* trap: I15: COMMIT would answer with success, and roll back. */
START_TEST(test_handler_that_hides_a_failed_statement_marks_nothing_i15)
{
    static const char *const sql[] = { "SELECT 1/0", NULL };

    expect_refused(sql, 1);
    ck_assert_int_eq(atomic_load(&calls), 2);
}
END_TEST

/* --- retries ---------------------------------------------------------------------- */

static int
fail_the_first_three_times(PGconn *tx, const struct saga_record *record, void *user,
                           struct saga_error *err)
{
    int rc = apply_effect(tx, record, NULL, err);

    if (rc == 0 && memcmp(record->payload.data, "stubborn", 8) == 0 && call_number() <= 3)
        return *(const int *)user;
    return rc;
}

START_TEST(test_handler_that_fails_gets_its_message_again_and_others_go_on)
{
    /* Codes that mean something among ourselves, and one that means nothing, too. */
    static const int answers[] = { SAGA_HANDLER_RETRY, SAGA_EDB,         SAGA_EFENCED,
                                   SAGA_EUNKNOWN,      ROUTE_QUARANTINE, 77 };

    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        struct fixture *fixture = given_consumer_fixture(1);
        struct saga_consumer *consumer =
            GIVEN_CONSUMER(fixture, .redis = redis_address(), .handler = fail_the_first_three_times,
                           .user = (void *)&answers[i]);

        atomic_store(&calls, 0);
        produce_one(fixture->topic, id_of(100), "key", "stubborn");
        produce_one(fixture->topic, id_of(101), "key", "waits for it");
        produce_one(fixture->topic, id_of(102), "another", "does not");
        run_until_idle(consumer);
        expect_effects(fixture, 3, 3);
        ck_assert_int_eq(stats_of(consumer).retries, 3);
        ck_assert_int_eq(atomic_load(&calls), 4);
        ck_assert_str_eq(
            db_text(fixture->conn,
                    "SELECT string_agg(message_id::text, ' ' ORDER BY at) FROM effect"),
            text_of("%s %s %s", id_of(102), id_of(100), id_of(101)));
        free_consumer(consumer);
    }
}
END_TEST

static int
fail_always(PGconn *tx, const struct saga_record *record, void *user, struct saga_error *err)
{
    (void)tx;
    (void)record;
    (void)user;
    (void)err;
    return SAGA_HANDLER_RETRY;
}

START_TEST(test_handler_that_always_fails_holds_up_its_partition_only)
{
    struct fixture *fixture = given_consumer_fixture(1), other = *fixture;
    struct saga_consumer *consumer =
        GIVEN_CONSUMER(fixture, .redis = redis_address(), .handler = fail_always);

    other.topic = unique_name("topic");
    produce_messages(&other, 0, 20);
    ck_assert_int_eq(saga_consumer_subscribe(consumer, other.topic, apply_effect, NULL, NULL), 0);
    produce_messages(fixture, 50, 3);
    start_running(consumer);
    WAIT_UNTIL(effects_are(fixture, 20, 20), 20000);
    WAIT_UNTIL(stats_of(consumer).retries > 5, 20000);
    ck_assert_int_eq(postgres_offset(fixture, 0), -1);
    ck_assert_int_eq(kafka_offset(fixture, 0), -1);
}
END_TEST

/* --- trap: I5: a mark is never taken back ------------------------------------------ */

static int
meet_a_successor(PGconn *tx, const struct saga_record *record, void *user, struct saga_error *err)
{
    char id[37];

    saga_uuid_text(&record->id, id);
    if (strcmp(id, id_of(1)) == 0 && call_number() == 1) {
        /* Its mark's name, from the one that is there. */
        redis_text(user, "EVAL %s 0 %s",
                   "local k = redis.call('keys', 'saga:mark:*')[1]"
                   " redis.call('set', k:sub(1, -37) .. ARGV[1], 'busy:ffffffffffffffff', 'PX',"
                   " 60000) return 'done'",
                   id);
        return SAGA_HANDLER_RETRY;
    }
    return apply_effect(tx, record, NULL, err);
}

START_TEST(test_handler_that_failed_leaves_the_successors_mark_alone_i5)
{
    struct server *server = GIVEN_SERVER("redis");
    struct fixture *fixture = given_consumer_fixture(1);
    redisContext *handlers = redis_open(server->address), *redis = redis_open(server->address);
    struct saga_consumer *consumer =
        GIVEN_CONSUMER(fixture, .redis = server->address, .handler = meet_a_successor,
                       .user = handlers, .retry_first_ms = 500);

    produce_messages(fixture, 0, 1);
    start_running(consumer);
    WAIT_UNTIL(effects_are(fixture, 1, 1), 20000);
    produce_messages(fixture, 1, 1);
    WAIT_UNTIL(stats_of(consumer).retries == 1, 20000);
    ck_assert_str_eq(redis_text(redis, "EVAL %s 0 %s",
                                "return redis.call('get',"
                                " redis.call('keys', 'saga:mark:*' .. ARGV[1])[1])",
                                id_of(1)),
                     "busy:ffffffffffffffff");
    WAIT_UNTIL(effects_are(fixture, 2, 2), 20000);
    free_consumer(consumer);
    redisFree(handlers);
    redisFree(redis);
}
END_TEST

/* --- answers ------------------------------------------------------------------------ */

static atomic_int news, duplicates;

static int
answer(PGconn *tx, const struct saga_record *record, int32_t verdict, void *user,
       struct saga_error *err)
{
    atomic_fetch_add(verdict == SAGA_INBOX_NEW ? &news : &duplicates, 1);
    return apply_effect(tx, record, user, err);
}

/* trap: I18, I30: for who is waited for an answer, nothing skips a message. */
START_TEST(test_route_with_answers_is_called_for_duplicates_too_i18_i30)
{
    struct fixture *fixture = given_consumer_fixture(1);
    const struct consumer_route route = { .topic = fixture->topic,
                                          .answers = true,
                                          .handle = answer };
    struct saga_consumer *consumer =
        GIVEN_CONSUMER(fixture, .redis = redis_address(), .unsubscribed = true);

    ck_assert_int_eq(consumer_route(consumer, &route, NULL), 0);
    produce_messages(fixture, 0, 5);
    produce_messages(fixture, 0, 5);
    produce_one(fixture->topic, id_of(0), "key 0", "forged");
    run_until_idle(consumer);
    ck_assert_int_eq(atomic_load(&news), 5);
    ck_assert_int_eq(atomic_load(&duplicates), 5);
    expect_effects(fixture, 5, 10);
    ck_assert_int_eq(stats_of(consumer).conflicts, 1);
}
END_TEST

/* --- what a handler is given -------------------------------------------------------- */

static int
look_at_record(PGconn *tx, const struct saga_record *record, void *user, struct saga_error *err)
{
    PGresult *result = PQexec(tx, "SELECT current_setting('transaction_isolation'),"
                                  " current_setting('synchronous_commit'),"
                                  " current_setting('transaction_read_only')");

    (void)user;
    ck_assert_str_eq(PQgetvalue(result, 0, 0), "read committed");
    ck_assert_str_eq(PQgetvalue(result, 0, 1), "on");
    ck_assert_str_eq(PQgetvalue(result, 0, 2), "off");
    PQclear(result);
    ck_assert_int_eq(record->partition, 0);
    ck_assert_int_eq(record->offset, 0);
    ck_assert_int_eq(record->key.len, 3);
    ck_assert_mem_eq(record->key.data, "key", 3);
    ck_assert_mem_eq(record->payload.data, "value", 5);
    ck_assert_int_eq(record->hash.len, 32);
    ck_assert_int_gt(record->timestamp_us, INT64_C(1600000000000000));
    ck_assert_str_eq(record->headers[0].name, "message-id");
    ck_assert_ptr_null(record->headers[1].name);
    return apply_effect(tx, record, NULL, err);
}

/* trap: I16, I25: whatever the database's defaults are. */
START_TEST(test_handler_is_given_the_record_and_a_transaction_of_the_promised_kind_i16_i25)
{
    struct fixture *fixture = given_consumer_fixture(1);
    struct saga_consumer *consumer = GIVEN_CONSUMER(fixture, .handler = look_at_record);

    db_exec(fixture->conn,
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %%I SET default_transaction_isolation ="
            " serializable', current_database());"
            " EXECUTE format('ALTER DATABASE %%I SET default_transaction_read_only = on',"
            " current_database());"
            " EXECUTE format('ALTER DATABASE %%I SET synchronous_commit = off',"
            " current_database()); END $$");
    produce_one(fixture->topic, id_of(0), "key", "value");
    run_until_idle(consumer);
    expect_effects(fixture, 1, 1);
}
END_TEST

/* --- wrong use ------------------------------------------------------------------------ */

START_TEST(test_consumer_refuses_wrong_options_and_says_which)
{
    static const struct saga_pair forbidden[] = { { "auto.offset.reset", "latest" },
                                                  { NULL, NULL } };
    static const struct saga_pair unknown[] = { { "no.such.property", "1" }, { NULL, NULL } };
    const struct {
        struct saga_consumer_options options;
        const char *word;
    } wrong[] = {
        { { SAGA_CONSUMER_OPTIONS, .brokers = "b:1" }, "group" },
        { { SAGA_CONSUMER_OPTIONS, .group = "", .brokers = "b:1" }, "group" },
        { { SAGA_CONSUMER_OPTIONS, .group = "g" }, "brokers" },
        { { SAGA_CONSUMER_OPTIONS, .group = "g", .brokers = "b:1", .redis = "x" }, "Redis" },
        { { SAGA_CONSUMER_OPTIONS, .group = "g", .brokers = "b:1", .redis = "10.0.0.1:1" },
          "redis_remote" },
        { { SAGA_CONSUMER_OPTIONS, .group = "g", .brokers = "b:1", .redis_timeout_ms = 51 },
          "redis_timeout_ms" },
        { { SAGA_CONSUMER_OPTIONS, .group = "g", .brokers = "b:1", .lease_ms = -1 }, "lease_ms" },
        { { SAGA_CONSUMER_OPTIONS, .group = "g", .brokers = "b:1", .properties = forbidden },
          "auto.offset.reset" },
        { { SAGA_CONSUMER_OPTIONS, .group = "g", .brokers = "b:1", .properties = unknown },
          "no.such.property" },
        { { .group = "g", .brokers = "b:1" }, "options" },
    };

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct saga_consumer *consumer = NULL;
        struct saga_error err;

        ck_assert_int_eq(saga_consumer_new(&consumer, &wrong[i].options, &err), SAGA_EINVAL);
        ck_assert_ptr_null(consumer);
        ck_assert_msg(strstr(err.message, wrong[i].word) != NULL, "%s", err.message);
    }
}
END_TEST

START_TEST(test_consumer_refuses_wrong_use)
{
    struct fixture *fixture = given_consumer_fixture(1);
    struct saga_consumer *consumer = GIVEN_CONSUMER(fixture, .unsubscribed = true);
    struct saga_error err;

    ck_assert_int_eq(saga_consumer_run(consumer, SAGA_CONSUME_UNTIL_IDLE, &err), SAGA_EINVAL);
    ck_assert_int_eq(saga_consumer_subscribe(consumer, NULL, apply_effect, NULL, &err),
                     SAGA_EINVAL);
    ck_assert_int_eq(saga_consumer_subscribe(consumer, "t", NULL, NULL, &err), SAGA_EINVAL);
    ck_assert_int_eq(saga_consumer_subscribe(consumer, fixture->topic, apply_effect, NULL, &err),
                     0);
    ck_assert_int_eq(saga_consumer_subscribe(consumer, fixture->topic, apply_effect, NULL, &err),
                     SAGA_EINVAL);
    ck_assert_int_eq(saga_consumer_run(consumer, 7, &err), SAGA_EINVAL);
    run_until_idle(consumer);
    ck_assert_int_eq(saga_consumer_subscribe(consumer, "t", apply_effect, NULL, &err), SAGA_ESTATE);
    saga_consumer_free(NULL);
}
END_TEST

START_TEST(test_consumer_without_the_schema_says_what_to_do)
{
    struct fixture *fixture = given_consumer_fixture(1);
    struct saga_consumer *consumer = GIVEN_CONSUMER(fixture, .conninfo = given_empty_database());
    struct saga_error err;

    produce_messages(fixture, 0, 1);
    ck_assert_int_eq(saga_consumer_run(consumer, SAGA_CONSUME_UNTIL_STOP, &err), SAGA_ESCHEMA);
    ck_assert_ptr_nonnull(strstr(err.message, "migrate up"));
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "idempotency_handlers",
        .tests = TESTS(
            test_handler_may_roll_back_to_its_own_savepoint_i14,
            test_handler_that_rolls_back_and_returns_success_marks_nothing_i14,
            test_handler_that_rolls_back_and_begins_anew_marks_nothing_i14,
            test_handler_cannot_commit_i14,
            test_handler_that_hides_a_failed_statement_marks_nothing_i15,
            test_handler_that_fails_gets_its_message_again_and_others_go_on,
            test_handler_that_always_fails_holds_up_its_partition_only,
            test_handler_that_failed_leaves_the_successors_mark_alone_i5,
            test_route_with_answers_is_called_for_duplicates_too_i18_i30,
            test_handler_is_given_the_record_and_a_transaction_of_the_promised_kind_i16_i25,
            test_consumer_refuses_wrong_options_and_says_which, test_consumer_refuses_wrong_use,
            test_consumer_without_the_schema_says_what_to_do),
        .timeout_s = 60,
    });
}
