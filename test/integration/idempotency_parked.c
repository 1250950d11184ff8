/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages that a handler always fails on: parked with the later ones of their key, while
 * others flow; and tried again, or discarded, when an operator says so.
 */
#include "test/support/consumer.h"
#include "test/support/kafka.h"
#include "test/support/participant.h"
#include "test/support/redis.h"
#include "test/support/run.h"
#include "test/support/wait.h"

#include <stdatomic.h>
#include <string.h>

/* What is bad fails while there is a row in `broken`. */
static int
poisoned(PGconn *tx, const struct saga_record *record, void *user, struct saga_error *err)
{
    int rc = apply_effect(tx, record, user, err);
    PGresult *result;

    if (rc != 0 || memcmp(record->payload.data, "bad", 3) != 0)
        return rc;
    result = PQexec(tx, "SELECT FROM broken");
    if (PQntuples(result) > 0)
        rc = SAGA_HANDLER_RETRY;
    PQclear(result);
    return rc;
}

static struct fixture *
given_broken(void)
{
    struct fixture *fixture = given_consumer_fixture(1);

    db_exec(fixture->conn, "CREATE TABLE broken AS SELECT");
    return fixture;
}

#define GIVEN_POISONED(fixture, ...)                                                               \
    GIVEN_CONSUMER(fixture, .redis = redis_address(), .handler = poisoned, .attempts_max = 2,      \
                   __VA_ARGS__)

static const char *
parked(const struct fixture *fixture)
{
    return db_text(
        fixture->conn,
        "SELECT coalesce(string_agg(right(message_id::text, 2) || CASE WHEN error IS NULL"
        " THEN '' ELSE '!' END, ' ' ORDER BY id), '') FROM idempotency.parked");
}

/* In the order in which they were committed to. */
static const char *
applied(const struct fixture *fixture)
{
    return db_text(fixture->conn, "SELECT coalesce(string_agg(right(message_id::text, 2), ' '"
                                  " ORDER BY at), '') FROM effect");
}

static const char *
parked_keys(const struct fixture *fixture)
{
    return db_text(fixture->conn, "SELECT coalesce(string_agg(convert_from(key, 'UTF8'), ' '), '')"
                                  " FROM idempotency.parked_key");
}

static void
send(const struct fixture *fixture, int n, const char *key, const char *value)
{
    produce_one(fixture->topic, id_of(n - 1), key, value);
}

static void
retry(const struct fixture *fixture, const char *key)
{
    db_exec(fixture->conn, "SELECT idempotency.retry('%s', '%s', '%s', 'mended')", fixture->group,
            fixture->topic, key);
}

static void
mend(const struct fixture *fixture)
{
    db_exec(fixture->conn, "TRUNCATE broken");
}

static int alarms;

static void
count_alarms(void *user, int32_t level, const char *message, const struct saga_pair *fields)
{
    (void)user;
    (void)fields;
    if (level == SAGA_LOG_ERROR && strstr(message, "its key are parked") != NULL)
        alarms++;
}

/* trap: I23 */
START_TEST(test_poison_parks_its_key_and_others_flow_i23)
{
    struct fixture *fixture = given_broken();
    struct saga_consumer *consumer = GIVEN_POISONED(fixture, .log = count_alarms);

    send(fixture, 1, "k", "bad");
    send(fixture, 2, "k", "good");
    send(fixture, 3, "other", "good");
    send(fixture, 4, "k", "bad");
    send(fixture, 2, "k", "good");
    run_until_idle(consumer);
    ck_assert_str_eq(parked(fixture), "01! 02 04");
    ck_assert_str_eq(parked_keys(fixture), "k");
    ck_assert_str_eq(applied(fixture), "03");
    ck_assert_int_eq(stats_of(consumer).parked, 3);
    ck_assert_int_eq(stats_of(consumer).applied, 1);
    ck_assert_int_eq(stats_of(consumer).retries, 2);
    ck_assert_int_eq(alarms, 1);
    ck_assert_int_eq(postgres_offset(fixture, 0), 5);
    free_consumer(consumer);

    /* Somebody else has the partition now. */
    consumer = GIVEN_POISONED(fixture);
    send(fixture, 5, "k", "good");
    send(fixture, 6, "other", "good");
    run_until_idle(consumer);
    ck_assert_str_eq(parked(fixture), "01! 02 04 05");
    ck_assert_str_eq(applied(fixture), "03 06");

    mend(fixture);
    retry(fixture, "k");
    run_until_idle(consumer);
    ck_assert_str_eq(parked(fixture), "");
    ck_assert_str_eq(parked_keys(fixture), "");
    ck_assert_str_eq(applied(fixture), "03 06 01 02 04 05");
    send(fixture, 7, "k", "good");
    run_until_idle(consumer);
    ck_assert_str_eq(applied(fixture), "03 06 01 02 04 05 07");
    expect_effects(fixture, 7, 7);
}
END_TEST

static int
always_fail(PGconn *tx, const struct saga_record *record, void *user, struct saga_error *err)
{
    (void)tx;
    (void)record;
    (void)err;
    atomic_fetch_add((atomic_int *)user, 1);
    return SAGA_HANDLER_RETRY;
}

START_TEST(test_poison_is_parked_when_its_attempts_are_used_up_i23)
{
    struct fixture *fixture = given_consumer_fixture(1);
    atomic_int calls = 0;
    struct saga_consumer *consumer =
        GIVEN_CONSUMER(fixture, .handler = always_fail, .user = &calls, .attempts_max = 4);

    send(fixture, 1, "k", "bad");
    start_running(consumer);
    WAIT_UNTIL(stats_of(consumer).parked == 1, 10000);
    stop_running(consumer);
    ck_assert_int_eq(atomic_load(&calls), 4);
    ck_assert_int_eq(db_int(fixture->conn, "SELECT attempts FROM idempotency.parked"), 4);
}
END_TEST

/* The key's last message is being tried again, by us as another member of the group, while
 * the next one comes: it waits for our end. */
static void
meet_a_retry(bool fails)
{
    struct fixture *fixture = given_broken();
    struct saga_consumer *consumer = GIVEN_POISONED(fixture);
    PGconn *other = db_connect(fixture->conninfo);

    send(fixture, 1, "k", "bad");
    run_until_idle(consumer);
    ck_assert_str_eq(parked(fixture), "01!");
    retry(fixture, "k");
    db_exec(other, "BEGIN; SELECT idempotency.take_retried('%s', '{%s}')", fixture->group,
            fixture->topic);
    send(fixture, 2, "k", "good");
    start_running(consumer);
    WAIT_UNTIL(db_int(fixture->conn,
                      "SELECT count(*) FROM pg_stat_activity WHERE"
                      " wait_event_type = 'Lock' AND application_name = '%s'",
                      fixture->group) == 1,
               10000);
    if (fails) {
        db_exec(other, "ROLLBACK");
        WAIT_UNTIL(stats_of(consumer).parked == 2, 10000);
        mend(fixture);
        retry(fixture, "k");
    } else {
        db_exec(other, "INSERT INTO effect (message_id) VALUES ('%s'); COMMIT", id_of(0));
    }
    PQfinish(other);
    WAIT_UNTIL(effects_are(fixture, 2, 2), 20000);
    ck_assert_str_eq(parked(fixture), "");
    ck_assert_str_eq(applied(fixture), "01 02");
}

START_TEST(test_message_that_comes_during_a_retry_waits_for_it_i23)
{
    meet_a_retry(false);
}
END_TEST

START_TEST(test_message_that_comes_during_a_retry_that_fails_is_parked_behind_i23)
{
    meet_a_retry(true);
}
END_TEST

/* A retry that fails in the middle: what is behind stays, in its order. */
START_TEST(test_poison_that_fails_again_stays_parked_until_discarded_i23)
{
    struct fixture *fixture = given_broken();
    struct saga_consumer *consumer = GIVEN_POISONED(fixture);

    send(fixture, 1, "k", "bad");
    send(fixture, 2, "k", "good");
    send(fixture, 3, "k", "bad");
    run_until_idle(consumer);
    retry(fixture, "k");
    run_until_idle(consumer);
    ck_assert_str_eq(parked(fixture), "01! 02 03");
    ck_assert_int_eq(db_int(fixture->conn, "SELECT max(attempts) FROM idempotency.parked"), 3);
    db_exec(fixture->conn, "SELECT idempotency.discard('%s', '%s', 'no')", fixture->group,
            id_of(0));
    retry(fixture, "k");
    run_until_idle(consumer);
    ck_assert_str_eq(parked(fixture), "03!");
    ck_assert_str_eq(applied(fixture), "02");
    db_exec(fixture->conn, "SELECT idempotency.discard('%s', '%s', 'no')", fixture->group,
            id_of(2));
    send(fixture, 4, "k", "good");
    send(fixture, 3, "k", "bad");
    run_until_idle(consumer);
    ck_assert_str_eq(applied(fixture), "02 04");
    ck_assert_str_eq(parked(fixture), "");
}
END_TEST

START_TEST(test_poison_without_a_key_parks_alone_i23)
{
    struct fixture *fixture = given_broken();
    struct saga_consumer *consumer = GIVEN_POISONED(fixture);

    send(fixture, 1, NULL, "bad");
    send(fixture, 2, NULL, "good");
    run_until_idle(consumer);
    ck_assert_str_eq(parked(fixture), "01!");
    ck_assert_str_eq(applied(fixture), "02");
    mend(fixture);
    db_exec(fixture->conn, "SELECT idempotency.retry('%s', '%s', NULL, 'mended')", fixture->group,
            fixture->topic);
    run_until_idle(consumer);
    ck_assert_str_eq(applied(fixture), "02 01");
}
END_TEST

/* Asked for again while two members are at it, and when some are gone. */
START_TEST(test_many_keys_of_several_partitions_are_retried_at_once_and_in_order_i23)
{
    enum { KEYS = 250 };
    struct fixture *fixture = given_consumer_fixture(4);
    struct saga_consumer *consumers[2];
    const char *refusal;

    db_exec(fixture->conn,
            "CREATE TABLE parked AS SELECT k, outbox.uuid_v7() AS id FROM generate_series(1, 2) n,"
            " generate_series(1, %d) k;"
            "DO $$ DECLARE one record; BEGIN FOR one IN SELECT * FROM parked ORDER BY id LOOP"
            " PERFORM idempotency.park('%s', '%s', convert_to('key ' || one.k, 'UTF8'), one.id,"
            " 'x', one.k %% 4, 0, '{}', 'good', 'broken', 1); END LOOP; END $$",
            KEYS, fixture->group, fixture->topic);
    for (int i = 0; i < 2; i++)
        start_running(consumers[i] = GIVEN_CONSUMER(fixture));
    for (int i = 0; i < 2; i++)
        WAIT_UNTIL(stats_of(consumers[i]).partitions == 2, 20000);
    for (int applied = 0; applied < 2 * KEYS; applied += KEYS / 2) {
        WAIT_UNTIL(db_int(fixture->conn, "SELECT count(*) FROM effect") >= applied, 20000);
        refusal = db_refusal(fixture->conn, "SELECT idempotency.retry_all('%s', '%s', 'mended')",
                             fixture->group, fixture->topic);
        ck_assert_msg(*refusal == '\0' || strcmp(refusal, "P0002") == 0, "%s", refusal);
    }
    WAIT_UNTIL(db_int(fixture->conn, "SELECT count(*) FROM idempotency.parked") == 0, 20000);
    expect_effects(fixture, 2 * KEYS, 2 * KEYS);
    ck_assert_int_eq(db_int(fixture->conn, "SELECT count(*) FROM parked a JOIN parked b ON a.k ="
                                           " b.k AND a.id < b.id JOIN effect c ON c.message_id ="
                                           " a.id JOIN effect d ON d.message_id = b.id"
                                           " WHERE c.at < d.at"),
                     KEYS);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_gt(stats_of(consumers[i]).applied, 0);
        ck_assert_int_eq(stats_of(consumers[i]).retries, 0);
    }
}
END_TEST

/* trap: I29: parked for longer than the inbox remembers. */
START_TEST(test_parked_message_is_retried_below_the_horizon_i29)
{
    struct fixture *fixture = given_broken();
    struct saga_consumer *consumer = GIVEN_POISONED(fixture);
    const char *old =
        db_text(fixture->conn, "SELECT left(x, 8) || '-' || substr(x, 9, 4) || '-7000-8000-"
                               "000000000001' FROM lpad(to_hex((extract(epoch FROM now() - interval"
                               " '5 days') * 1000)::bigint), 12, '0') x");

    produce_one(fixture->topic, old, "k", "bad");
    run_until_idle(consumer);
    ck_assert_str_eq(parked(fixture), "01!");
    db_exec(fixture->conn, "SELECT idempotency.keep('inbox', '1 day', 'test')");
    db_exec(fixture->conn, "SELECT idempotency.clean_up() FROM generate_series(1, 3)");
    ck_assert_int_eq(db_int(fixture->conn, "SELECT count(*) FROM idempotency.inbox"), 0);
    mend(fixture);
    retry(fixture, "k");
    run_until_idle(consumer);
    expect_effects(fixture, 1, 1);
    free_consumer(consumer);
    reset_kafka_offset(fixture, 0, 0);
    consumer = GIVEN_CONSUMER(fixture, .handler = poisoned); /* without marks */
    run_until_idle(consumer);
    expect_effects(fixture, 1, 1);
    ck_assert_int_eq(db_int(fixture->conn, "SELECT count(*) FROM idempotency.quarantine"), 1);
}
END_TEST

/* --- participants ------------------------------------------------------------------- */

static bool broken_step = true;

static int
maybe_later(struct saga_ctx *ctx, void *user)
{
    (void)user;
    return broken_step ? SAGA_RETRY : saga_set(ctx, "shelf", "7");
}

static const struct saga_step steps[] = {
    { .name = "reserve", .run = maybe_later, .compensate = maybe_later },
};
static const struct saga_definition commands = { SAGA_DEFINITION("order", steps) };

/* Duplicates of it do not get another answer than it, before or after. trap: I18 */
START_TEST(test_parked_command_is_answered_when_it_is_retried_i18_i23)
{
    struct fixture fixture = { .group = unique_name("inventory"), .topic = GIVEN_TOPIC(1) };
    const struct record command = { .key = id_of(50),
                                    .value = "{}",
                                    HEADERS({ "message-id", id_of(1) }, { "saga-id", id_of(50) },
                                            { "saga-definition", "order" },
                                            { "saga-step", "reserve" }, { "saga-action", "run" },
                                            { "saga-attempt", "1" },
                                            { "saga-reply-to", "order.replies" }) };
    struct saga_consumer *consumer;

    fixture.conninfo = given_inventory(&fixture.conn);
    consumer =
        GIVEN_CONSUMER(&fixture, .redis = redis_address(), .unsubscribed = true, .attempts_max = 2);
    ck_assert_int_eq(saga_consumer_participate(consumer, fixture.topic, &commands, NULL, NULL), 0);
    produce(fixture.topic, &command);
    produce(fixture.topic, &command);
    run_until_idle(consumer);
    produce(fixture.topic, &command);
    run_until_idle(consumer);
    ck_assert_int_eq(reply_count(fixture.conn), 0);
    ck_assert_int_eq(db_int(fixture.conn, "SELECT count(*) FROM idempotency.parked"), 1);
    ck_assert_int_eq(stats_of(consumer).quarantined, 0);

    broken_step = false;
    retry(&fixture, id_of(50));
    run_until_idle(consumer);
    ck_assert_int_eq(reply_count(fixture.conn), 1);
    expect_reply(fixture.conn, 0, "run", "done", NULL);
    produce(fixture.topic, &command);
    run_until_idle(consumer);
    ck_assert_int_eq(reply_count(fixture.conn), 2);
    ck_assert_str_eq(reply_payload(fixture.conn, 1), reply_payload(fixture.conn, 0));
    ck_assert_int_eq(stats_of(consumer).quarantined, 0);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "idempotency_parked",
        .tests = TESTS(test_poison_parks_its_key_and_others_flow_i23,
                       test_poison_is_parked_when_its_attempts_are_used_up_i23,
                       test_message_that_comes_during_a_retry_waits_for_it_i23,
                       test_message_that_comes_during_a_retry_that_fails_is_parked_behind_i23,
                       test_poison_that_fails_again_stays_parked_until_discarded_i23,
                       test_poison_without_a_key_parks_alone_i23,
                       test_many_keys_of_several_partitions_are_retried_at_once_and_in_order_i23,
                       test_parked_message_is_retried_below_the_horizon_i29,
                       test_parked_command_is_answered_when_it_is_retried_i18_i23),
        .timeout_s = 60,
    });
}
