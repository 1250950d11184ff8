/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Participants and orchestrators on consumers' loops: real Kafka, Redis and
 * PostgreSQL.
 */
#include "test/support/consumer.h"
#include "test/support/kafka.h"
#include "test/support/participant.h"
#include "test/support/redis.h"
#include "test/support/run.h"
#include "test/support/wait.h"

/* The barrier forgets sagas of long ago, as a consumer asks it to at once. */
#define OF_NOW_1 id_of(901)
#define OF_NOW_2 id_of(902)

static PGconn *conn;
static struct fixture service;
static struct saga_error err;

static void
given_participant(void)
{
    service.conninfo = given_inventory(&conn);
    service.topic = GIVEN_TOPIC(1);
    service.group = unique_name("inventory");
    service.conn = conn;
}

static struct saga_consumer *
new_participant(void)
{
    struct saga_consumer *consumer =
        GIVEN_CONSUMER(&service, .redis = redis_address(), .batch_rows = 10, .unsubscribed = true);

    ck_assert_msg(saga_consumer_participate(consumer, service.topic, &inventory, NULL, &err) == 0,
                  "%s", err.message);
    return consumer;
}

/* saga_id "" leaves the header out. */
static void
produce_command(const char *message_id, const char *saga_id, const char *step)
{
    produce(service.topic,
            &(struct record){ .key = OF_NOW_1,
                              .value = "{\"sku\": \"lamp\"}",
                              HEADERS({ "message-id", message_id }, { "saga-id", saga_id },
                                      { "saga-definition", "order" }, { "saga-step", step },
                                      { "saga-action", "run" }, { "saga-attempt", "1" },
                                      { "saga-reply-to", "order.replies" }) });
}

/* The topic is read again within the window of the Redis marks: somebody may
 * wait for any of the answers. trap: I30 */
START_TEST(test_participant_i30_replayed_commands_are_answered)
{
    struct saga_consumer *consumer;

    given_participant();
    consumer = new_participant();
    produce_command(id_of(1), OF_NOW_1, "reserve");
    produce_command(id_of(2), OF_NOW_2, "reserve");
    run_until_idle(consumer);
    ck_assert_int_eq(reply_count(conn), 2);

    produce_command(id_of(1), OF_NOW_1, "reserve");
    produce_command(id_of(2), OF_NOW_2, "reserve");
    run_until_idle(consumer);
    ck_assert_int_eq(reply_count(conn), 4);
    expect_step_effects(conn, OF_NOW_1, "reserve", 1, 0);
    expect_step_effects(conn, OF_NOW_2, "reserve", 1, 0);
    ck_assert_str_eq(reply_payload(conn, 2), reply_payload(conn, 0));
}
END_TEST

/* So many of them that a consumer of other messages would look into the inbox and leave them at
 * that. trap: I18, I30 */
START_TEST(test_participant_i18_i30_a_long_replay_is_answered_to_the_last_command)
{
    enum { COMMANDS = 110 };
    struct saga_consumer *consumer;

    given_participant();
    consumer = new_participant();
    for (int i = 0; i < COMMANDS; i++)
        produce_command(id_of(i), id_of(1000 + i), "reserve");
    run_until_idle(consumer);
    ck_assert_int_eq(reply_count(conn), COMMANDS);
    free_consumer(consumer);

    reset_kafka_offset(&service, 0, 0);
    consumer = new_participant();
    run_until_idle(consumer);
    ck_assert_int_eq(stats_of(consumer).duplicates_by_inbox, COMMANDS);
    ck_assert_int_eq(reply_count(conn), 2 * COMMANDS);
}
END_TEST

START_TEST(test_participant_puts_aside_what_it_cannot_handle_and_goes_on)
{
    struct saga_consumer *consumer;

    given_participant();
    produce_command(id_of(1), "", "reserve");
    produce_command(id_of(2), OF_NOW_1, "paint");
    produce_command(id_of(3), OF_NOW_2, "reserve");
    consumer = new_participant();
    run_until_idle(consumer);

    expect_step_effects(conn, OF_NOW_2, "reserve", 1, 0);
    ck_assert_int_eq(reply_count(conn), 1);
    ck_assert_int_eq(stats_of(consumer).quarantined, 2);
    ck_assert_str_eq(db_text(conn, "SELECT string_agg(message_id || ' ' || left(reason, 17), ', '"
                                   " ORDER BY id) FROM idempotency.quarantine"),
                     text_of("%s no header saga-id, %s no step 'paint' a", id_of(1), id_of(2)));
    /* Not applied, so not in the inbox: it can be handed in again. */
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM idempotency.inbox"), 1);
}
END_TEST

START_TEST(test_participant_table_is_checked_when_it_is_given)
{
    static const struct saga_step none[] = { { .name = "reserve" } };
    static const struct saga_definition empty = { SAGA_DEFINITION("inventory", none) };
    struct saga_consumer *consumer;

    given_participant();
    consumer = new_participant();
    ck_assert_int_eq(saga_consumer_participate(NULL, "t", &inventory, NULL, &err), SAGA_EINVAL);
    ck_assert_int_eq(saga_consumer_participate(consumer, "t", &empty, NULL, &err), SAGA_EINVAL);
    ck_assert_int_eq(saga_consumer_participate(consumer, service.topic, &inventory, NULL, &err),
                     SAGA_EINVAL);
    ck_assert_int_eq(saga_consumer_replies(consumer, &empty, &err), SAGA_EINVAL);
}
END_TEST

/* --- the whole way ------------------------------------------------------------- */

enum { ORDERS = 20, LAMPS = 12 };

static struct saga_step order_steps[] = {
    { .name = "reserve", .timeout_ms = 20000 },
    { .name = "charge", .kind = SAGA_PIVOT, .timeout_ms = 20000 },
};
static struct saga_definition order = { SAGA_DEFINITION("order", order_steps) };
static struct fixture orchestrator;
static struct saga_worker *worker;

static void
given_orchestrator(void)
{
    struct saga_worker_options options = { SAGA_WORKER_OPTIONS };

    orchestrator.conninfo = options.conninfo = given_database();
    orchestrator.group = unique_name("order");
    orchestrator.conn = db_connect(options.conninfo);
    for (size_t i = 0; i < order.n_steps; i++)
        order_steps[i].command_topic = service.topic;
    order.reply_topic = GIVEN_TOPIC(1);
    ck_assert_msg(saga_worker_new(&worker, &options, &err) == 0, "%s", err.message);
    ck_assert_msg(saga_worker_add(worker, &order, NULL, &err) == 0, "%s", err.message);
}

static struct saga_consumer *
new_reply_loop(void)
{
    struct saga_consumer *consumer =
        GIVEN_CONSUMER(&orchestrator, .redis = redis_address(), .unsubscribed = true);

    ck_assert_msg(saga_consumer_replies(consumer, &order, &err) == 0, "%s", err.message);
    return consumer;
}

static void
start_orders(void)
{
    ck_assert_int_eq(saga_begin(orchestrator.conn, &err), 0);
    for (int i = 0; i < ORDERS; i++)
        ck_assert_msg(saga_start(orchestrator.conn, &order, text_of("order-%d", i),
                                 SAGA_PAIRS({ "sku", "lamp" }), NULL, &err) == 0,
                      "%s", err.message);
    ck_assert_int_eq(saga_commit(orchestrator.conn, &err), 0);
}

static bool
all_ended(void)
{
    ck_assert_msg(saga_worker_run(worker, SAGA_RUN_UNTIL_IDLE, &err) == 0, "%s", err.message);
    return db_int(orchestrator.conn, "SELECT count(*) FROM saga.instance"
                                     " WHERE state IN ('running', 'compensating')") == 0;
}

static int
orders_in(const char *state)
{
    return (int)db_int(orchestrator.conn, "SELECT count(*) FROM saga.instance WHERE state = '%s'",
                       state);
}

START_TEST(test_order_saga_runs_over_kafka_from_end_to_end)
{
    given_participant();
    given_orchestrator();
    db_exec(conn, "UPDATE stock SET free = %d", LAMPS);
    start_process(ARGS("outbox-relay", "--database", service.conninfo, "--brokers", brokers()),
                  NULL);
    start_process(ARGS("outbox-relay", "--database", orchestrator.conninfo, "--brokers", brokers()),
                  NULL);
    start_running(new_participant());
    start_running(new_reply_loop());
    start_orders();
    WAIT_UNTIL(all_ended(), 30000);

    ck_assert_int_eq(orders_in("completed"), LAMPS);
    ck_assert_int_eq(orders_in("compensated"), ORDERS - LAMPS);
    /* No double, and no order half done. */
    ck_assert_int_eq(db_int(conn, "SELECT free FROM stock"), 0);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM effect WHERE step = 'reserve'"), LAMPS);
    ck_assert_int_eq(db_int(conn, "SELECT count(DISTINCT saga_id) FROM effect"
                                  " WHERE step = 'charge'"),
                     LAMPS);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM effect WHERE step = 'charge'"), LAMPS);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM idempotency.quarantine") +
                         db_int(orchestrator.conn, "SELECT count(*) FROM idempotency.quarantine"),
                     0);
    saga_worker_free(worker);
    PQfinish(orchestrator.conn);
}
END_TEST

START_TEST(test_reply_for_unknown_saga_is_put_aside)
{
    struct saga_consumer *consumer;

    given_participant();
    given_orchestrator();
    produce(order.reply_topic,
            &(struct record){ .key = SAGA_1,
                              .value = "{}",
                              HEADERS({ "message-id", id_of(1) }, { "saga-id", SAGA_1 },
                                      { "saga-step", "reserve" }, { "saga-action", "run" },
                                      { "saga-outcome", "done" }) });
    consumer = new_reply_loop();
    run_until_idle(consumer);
    ck_assert_int_eq(stats_of(consumer).quarantined, 1);
    ck_assert_str_eq(db_text(orchestrator.conn, "SELECT reason FROM idempotency.quarantine"),
                     "no saga " SAGA_1 " of definition order in this database");
    saga_worker_free(worker);
    PQfinish(orchestrator.conn);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "participant/kafka",
        .timeout_s = 60,
        .tests = TESTS(test_participant_i30_replayed_commands_are_answered,
                       test_participant_i18_i30_a_long_replay_is_answered_to_the_last_command,
                       test_participant_puts_aside_what_it_cannot_handle_and_goes_on,
                       test_participant_table_is_checked_when_it_is_given,
                       test_order_saga_runs_over_kafka_from_end_to_end,
                       test_reply_for_unknown_saga_is_put_aside) });
}
