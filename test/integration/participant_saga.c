/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An orchestrator and a participant, each with its database, and a postman in
 * between who loses, doubles and delays: steps of unknown outcome, stale
 * replies, and a pivot without an answer.
 */
#include "test/support/db.h"
#include "test/support/participant.h"
#include "test/support/post.h"
#include "test/support/run.h"
#include "test/support/wait.h"

#include <inttypes.h>
#include <string.h>

#define STEP(text)                                                                                 \
    .name = (text), .command_topic = "inventory.commands", .attempts_max = 2, .timeout_ms = 150

/* Its participant is the inventory of test/support. */
static const struct saga_step order_steps[] = {
    { STEP("reserve") },
    { STEP("charge"), .kind = SAGA_PIVOT },
};
static const struct saga_definition order = { SAGA_DEFINITION("order", order_steps),
                                              .reply_topic = "order.replies" };

static PGconn *orders, *inventory_db;
static struct post commands, replies;
static struct saga_worker *worker;
static struct saga_uuid id;
static char saga[37];
static struct saga_error err;

static void
given_orchestrator(void)
{
    const char *conninfo = given_database();
    const struct saga_worker_options options = { SAGA_WORKER_OPTIONS, .conninfo = conninfo };

    orders = db_connect(conninfo);
    commands.from = orders;
    ck_assert_msg(saga_worker_new(&worker, &options, &err) == 0, "%s", err.message);
    ck_assert_msg(saga_worker_add(worker, &order, NULL, &err) == 0, "%s", err.message);
}

static void
given_started(void)
{
    ck_assert_int_eq(saga_begin(orders, &err), 0);
    ck_assert_msg(saga_start(orders, &order, "order-42",
                             SAGA_PAIRS({ "sku", "lamp" }, { "traceparent", "00-0af7-b7ad-01" }),
                             &id, &err) == 0,
                  "%s", err.message);
    ck_assert_int_eq(saga_commit(orders, &err), 0);
    saga_uuid_text(&id, saga);
}

static void
setup(void)
{
    given_inventory(&inventory_db);
    replies.from = inventory_db;
    given_orchestrator();
    given_started();
}

static void
teardown(void)
{
    saga_worker_free(worker);
    PQfinish(orders);
}

/* --- what the two sides do ---------------------------------------------------- */

static bool
work(void)
{
    ck_assert_msg(saga_worker_run(worker, SAGA_RUN_UNTIL_IDLE, &err) == 0, "%s", err.message);
    return true;
}

/* The worker runs until a command goes out. */
static struct saga_record
command_for(const char *step, const char *action, int attempt)
{
    struct saga_record record;

    WAIT_UNTIL(work() && post_take(&commands, &record), 5000);
    ck_assert_str_eq(text_of("%s %s %s", record_text(&record, "saga-step"),
                             record_text(&record, "saga-action"),
                             record_text(&record, "saga-attempt")),
                     text_of("%s %s %d", step, action, attempt));
    return record;
}

static struct saga_record
carried_out(struct saga_record command)
{
    struct saga_record reply;

    ck_assert_msg(deliver(inventory_db, &command, NULL) == 0, "%s", deliver_error.message);
    ck_assert(post_take(&replies, &reply));
    return reply;
}

static int
apply_reply(const struct saga_record *reply)
{
    int32_t verdict;
    int rc;

    ck_assert_int_eq(saga_begin(orders, &err), 0);
    ck_assert_int_eq(saga_inbox_enter(orders, "order", reply, &verdict, &err), 0);
    rc = verdict == SAGA_INBOX_NEW ? saga_reply_handle(orders, &order, reply, &err) : 0;
    if (rc == 0)
        ck_assert_msg(saga_commit(orders, NULL) == 0, "not committed");
    else
        saga_rollback(orders);
    return rc;
}

static void
replied(struct saga_record reply)
{
    ck_assert_msg(apply_reply(&reply) == 0, "%s", err.message);
}

static const char *
state(void)
{
    return db_text(orders, "SELECT state FROM saga.instance WHERE id = '%s'", saga);
}

static const char *
everything(void)
{
    return db_text(orders,
                   "SELECT concat_ws(' / ', i::text, (SELECT count(*) FROM saga.history),"
                   " (SELECT count(*) FROM outbox.message)) FROM saga.instance i"
                   " WHERE id = '%s'",
                   saga);
}

/* Applied without an error, and nothing is different. */
static void
expect_stale(struct saga_record reply)
{
    const char *before = everything();

    replied(reply);
    ck_assert_str_eq(everything(), before);
}

/* --- tests ------------------------------------------------------------------------ */

START_TEST(test_saga_of_commands_completes_and_passes_values_on)
{
    struct saga_record command;

    replied(carried_out(command_for("reserve", "run", 1)));
    /* The reply and the next command are one transaction: no worker in between. */
    ck_assert(post_take(&commands, &command));
    ck_assert_str_eq(record_text(&command, "saga-step"), "charge");
    ck_assert_str_eq(record_text(&command, "traceparent"), "00-0af7-b7ad-01");
    ck_assert_str_eq(command.payload.data, "{\"sku\": \"lamp\", \"shelf\": \"B7\"}");
    ck_assert_str_eq(state(), "running");
    replied(carried_out(command));
    ck_assert_str_eq(state(), "completed");
    expect_step_effects(inventory_db, saga, "reserve", 1, 0);
    expect_step_effects(inventory_db, saga, "charge", 1, 0);
    ck_assert_int_eq(db_int(orders, "SELECT count(*) FROM saga.history WHERE event = 'done'"), 2);
}
END_TEST

START_TEST(test_saga_refused_by_participant_is_compensated_without_that_step)
{
    db_exec(inventory_db, "UPDATE stock SET free = 0");
    replied(carried_out(command_for("reserve", "run", 1)));
    work();
    ck_assert_str_eq(state(), "compensated");
    ck_assert_str_eq(db_text(orders, "SELECT reason FROM saga.instance"), "out of stock");
    expect_step_effects(inventory_db, saga, "reserve", 0, 0);
}
END_TEST

/* trap: S1 */
START_TEST(test_saga_s1_timed_out_but_carried_out_is_compensated)
{
    carried_out(command_for("reserve", "run", 1)); /* and the reply is lost */
    command_for("reserve", "run", 2);
    replied(carried_out(command_for("reserve", "compensate", 1)));
    work();
    ck_assert_str_eq(state(), "compensated");
    expect_step_effects(inventory_db, saga, "reserve", 1, 1);
    ck_assert_int_eq(db_int(inventory_db, "SELECT free FROM stock"), 2);
}
END_TEST

/* trap: S1 */
START_TEST(test_saga_s1_timed_out_and_not_carried_out_is_compensated_by_nothing)
{
    struct saga_record late = command_for("reserve", "run", 1);

    command_for("reserve", "run", 2);
    replied(carried_out(command_for("reserve", "compensate", 1)));
    work();
    ck_assert_str_eq(state(), "compensated");
    expect_stale(carried_out(late));
    expect_step_effects(inventory_db, saga, "reserve", 0, 0);
    ck_assert_int_eq(db_int(inventory_db, "SELECT free FROM stock"), 2);
}
END_TEST

/* trap: S2 */
START_TEST(test_saga_s2_reply_of_first_attempt_behind_that_of_second_changes_nothing)
{
    struct saga_record first = carried_out(command_for("reserve", "run", 1));

    replied(carried_out(command_for("reserve", "run", 2)));
    expect_stale(first);
    ck_assert_str_eq(state(), "running");
    expect_step_effects(inventory_db, saga, "reserve", 1, 0);
}
END_TEST

/* Whichever attempt is answered first, it is the step's answer. */
START_TEST(test_saga_reply_of_first_attempt_counts_when_it_comes_late)
{
    struct saga_record first = carried_out(command_for("reserve", "run", 1));

    command_for("reserve", "run", 2);
    replied(first);
    command_for("charge", "run", 1);
}
END_TEST

/* The same record, and the same answer in a new one. trap: S2 */
START_TEST(test_saga_s2_doubled_reply_changes_nothing)
{
    struct saga_record command = command_for("reserve", "run", 1);
    struct saga_record reply = carried_out(command);

    replied(reply);
    expect_stale(reply);
    expect_stale(carried_out(command));
    expect_stale(carried_out(with_new_id(command)));
}
END_TEST

/* trap: S2 */
START_TEST(test_saga_s2_reply_for_finished_saga_changes_nothing)
{
    struct saga_record reserve = command_for("reserve", "run", 1), charge;

    replied(carried_out(reserve));
    charge = command_for("charge", "run", 1);
    replied(carried_out(charge));
    ck_assert_str_eq(state(), "completed");
    expect_stale(carried_out(reserve));
    expect_stale(carried_out(charge));
}
END_TEST

/* The step's own answer, when its undoing has been asked for. trap: S2 */
START_TEST(test_saga_s2_reply_of_run_while_compensating_changes_nothing)
{
    struct saga_record first = carried_out(command_for("reserve", "run", 1)), undo;

    command_for("reserve", "run", 2);
    undo = command_for("reserve", "compensate", 1);
    expect_stale(first);
    ck_assert_str_eq(state(), "compensating");
    replied(carried_out(undo));
    ck_assert_str_eq(state(), "compensated");
}
END_TEST

/* trap: S17 */
START_TEST(test_saga_s17_pivot_without_answer_is_asked_again)
{
    replied(carried_out(command_for("reserve", "run", 1)));
    carried_out(command_for("charge", "run", 1)); /* and the reply is lost */
    replied(carried_out(command_for("charge", "run", 2)));
    ck_assert_str_eq(state(), "completed");
    expect_step_effects(inventory_db, saga, "charge", 1, 0);
    expect_step_effects(inventory_db, saga, "reserve", 1, 0);
}
END_TEST

/* Parked with a reason, asked again by a person, and answered as the first
 * time. trap: S17 */
START_TEST(test_saga_s17_pivot_never_answered_is_parked_then_goes_on)
{
    replied(carried_out(command_for("reserve", "run", 1)));
    carried_out(command_for("charge", "run", 1));
    carried_out(command_for("charge", "run", 2));
    WAIT_UNTIL(work() && strcmp(state(), "parked") == 0, 5000);
    ck_assert_ptr_nonnull(strstr(db_text(orders, "SELECT reason FROM saga.instance"), "charge"));
    db_exec(orders, "SELECT saga.retry('%s', 'the broker is back')", saga);
    replied(carried_out(command_for("charge", "run", 1)));
    ck_assert_str_eq(state(), "completed");
    expect_step_effects(inventory_db, saga, "charge", 1, 0);
}
END_TEST

/* Nobody has to do anything: the answer was all that it lacked. trap: S17 */
START_TEST(test_saga_s17_parked_pivot_goes_on_when_its_answer_comes_late)
{
    struct saga_record late;

    replied(carried_out(command_for("reserve", "run", 1)));
    late = carried_out(command_for("charge", "run", 1));
    command_for("charge", "run", 2);
    WAIT_UNTIL(work() && strcmp(state(), "parked") == 0, 5000);
    replied(late);
    ck_assert_str_eq(state(), "completed");
    expect_step_effects(inventory_db, saga, "charge", 1, 0);
}
END_TEST

/* The orchestrator was deployed with other steps while the command was away. */
START_TEST(test_saga_of_other_steps_is_parked_by_its_reply)
{
    struct saga_record reply = carried_out(command_for("reserve", "run", 1));

    db_exec(orders, "INSERT INTO saga.definition (name, digest, steps) VALUES ('order', 'older',"
                    " '[{\"name\": \"reserve\", \"kind\": \"compensatable\", "
                    "   \"topic\": \"t\"}, {\"name\": \"gift-wrap\", \"kind\": \"pivot\"}]')");
    db_exec(orders, "UPDATE saga.instance SET digest = 'older'");
    replied(reply);
    ck_assert_str_eq(state(), "parked");
    ck_assert_ptr_nonnull(strstr(db_text(orders, "SELECT reason FROM saga.instance"), "gift-wrap"));
    ck_assert(!post_take(&commands, &reply));
}
END_TEST

/* trap: S17 */
START_TEST(test_saga_s17_cancel_and_deadline_behind_the_pivot_only_alarm)
{
    struct saga_record charge;

    replied(carried_out(command_for("reserve", "run", 1)));
    charge = command_for("charge", "run", 1);
    db_exec(orders, "SELECT saga.cancel('%s', 'the customer rang')", saga);
    db_exec(orders, "UPDATE saga.instance SET deadline_at = clock_timestamp()");
    WAIT_UNTIL(work() && db_int(orders, "SELECT alarms FROM saga.instance") >= 2, 5000);
    ck_assert_str_eq(state(), "running");
    replied(carried_out(charge));
    ck_assert_str_eq(state(), "completed");
    expect_step_effects(inventory_db, saga, "reserve", 1, 0);
}
END_TEST

/* --- answers that come later --------------------------------------------------------- */

static char token[SAGA_TOKEN_MAX + 1];

static int
take_in_hand(struct saga_ctx *ctx, void *user)
{
    (void)user;
    strcpy(token, saga_token(ctx));
    return saga_exec(ctx, NULL, "INSERT INTO effect VALUES ($1::uuid, 'slow', 'run')",
                     SAGA_TEXTS(saga_id(ctx))) == 0
               ? SAGA_WAIT
               : SAGA_RETRY;
}

static int
call_back(struct saga_ctx *ctx, void *user)
{
    (void)user;
    return saga_exec(ctx, NULL, "INSERT INTO effect VALUES ($1::uuid, 'slow', 'compensate')",
                     SAGA_TEXTS(saga_id(ctx)));
}

static const struct saga_step slow_steps[] = {
    { .name = "reserve", .run = take_in_hand, .compensate = call_back },
    { .name = "charge", .kind = SAGA_PIVOT, .run = take_in_hand },
};
static const struct saga_definition slow = { SAGA_DEFINITION("slow", slow_steps) };

/* Whether the participant replies at once. */
static bool
slowly_handled(struct saga_record command, struct saga_record *reply)
{
    ck_assert_int_eq(saga_begin(inventory_db, &err), 0);
    ck_assert_msg(saga_command_handle(inventory_db, GROUP, &slow, &command, 0, NULL, &err) == 0,
                  "%s", err.message);
    ck_assert_int_eq(saga_commit(inventory_db, &err), 0);
    return post_take(&replies, reply);
}

static void
taken_in_hand(struct saga_record command)
{
    struct saga_record reply;

    ck_assert(!slowly_handled(command, &reply));
}

static int
answer_later(int outcome, const char *reason)
{
    int rc;

    ck_assert_int_eq(saga_begin(inventory_db, NULL), 0);
    rc = saga_reply(inventory_db, token, outcome, reason, NULL, &err);
    if (rc == 0)
        ck_assert_int_eq(saga_commit(inventory_db, NULL), 0);
    else
        saga_rollback(inventory_db);
    return rc;
}

static struct saga_record
answered_later(int outcome, const char *reason)
{
    struct saga_record reply;

    ck_assert_msg(answer_later(outcome, reason) == 0, "%s", err.message);
    ck_assert(post_take(&replies, &reply));
    return reply;
}

/* The orchestrator does not know that it is in hand, and asks again. */
START_TEST(test_saga_waits_for_an_answer_that_comes_later)
{
    taken_in_hand(command_for("reserve", "run", 1));
    taken_in_hand(command_for("reserve", "run", 2));
    replied(answered_later(SAGA_DONE, NULL));
    taken_in_hand(command_for("charge", "run", 1));
    replied(answered_later(SAGA_REFUSED, "the bank says no"));
    work();
    ck_assert_str_eq(db_text(orders, "SELECT reason FROM saga.instance"), "the bank says no");
    expect_step_effects(inventory_db, saga, "slow", 2, 0);
    ck_assert_int_eq(db_int(inventory_db, "SELECT count(*) FROM effect WHERE saga_id = '%s'", saga),
                     2);
}
END_TEST

/* trap: S1 */
START_TEST(test_saga_s1_that_has_not_waited_so_long_undoes_what_is_in_hand)
{
    struct saga_record undo;

    taken_in_hand(command_for("reserve", "run", 1));
    taken_in_hand(command_for("reserve", "run", 2));
    undo = command_for("reserve", "compensate", 1);
    ck_assert(slowly_handled(undo, &undo));
    ck_assert_int_eq(answer_later(SAGA_DONE, NULL), SAGA_EFENCED);
    replied(undo);
    ck_assert_str_eq(state(), "compensated");
    expect_step_effects(inventory_db, saga, "slow", 1, 1);
}
END_TEST

/* The answer was quicker than the compensation, but not than the orchestrator. trap: S2 */
START_TEST(test_saga_s2_that_has_turned_round_takes_no_later_answer)
{
    struct saga_record undo;

    taken_in_hand(command_for("reserve", "run", 1));
    command_for("reserve", "run", 2);
    undo = command_for("reserve", "compensate", 1);
    expect_stale(answered_later(SAGA_DONE, NULL));
    ck_assert(slowly_handled(undo, &undo));
    replied(undo);
    ck_assert_str_eq(state(), "compensated");
    expect_step_effects(inventory_db, saga, "slow", 1, 1);
}
END_TEST

/* trap: S17 */
START_TEST(test_saga_s17_parked_pivot_goes_on_when_it_is_answered_later)
{
    replied(carried_out(command_for("reserve", "run", 1)));
    taken_in_hand(command_for("charge", "run", 1));
    taken_in_hand(command_for("charge", "run", 2));
    WAIT_UNTIL(work() && strcmp(state(), "parked") == 0, 5000);
    replied(answered_later(SAGA_DONE, NULL));
    ck_assert_str_eq(state(), "completed");
}
END_TEST

START_TEST(test_reply_malformed_is_named_and_leaves_nothing)
{
    struct saga_record reply = carried_out(command_for("reserve", "run", 1));
    const char *before = everything();
    const struct {
        struct saga_record reply;
        int code;
    } wrong[] = {
        { with_header(reply, "saga-id", SAGA_1), SAGA_ENOTFOUND },
        { with_header(reply, "saga-id", "42"), SAGA_EINVAL },
        { with_header(reply, "saga-step", "paint"), SAGA_EINVAL },
        { with_header(reply, "saga-outcome", "perhaps"), SAGA_EINVAL },
    };
    struct saga_record damaged = reply;
    char deep[SAGA_VALUES_MAX];

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        ck_assert_int_eq(apply_reply(&wrong[i].reply), wrong[i].code);
    damaged.payload = (struct saga_bytes){ "[1, 2]", 6 };
    ck_assert_int_eq(apply_reply(&damaged), SAGA_EINVAL);
    damaged.payload = (struct saga_bytes){ "\xFF", 1 };
    ck_assert_int_eq(apply_reply(&damaged), SAGA_EINVAL);
    memset(deep, '[', sizeof deep);
    damaged.payload = (struct saga_bytes){ deep, sizeof deep };
    ck_assert_int_eq(apply_reply(&damaged), SAGA_EINVAL);
    ck_assert_str_eq(everything(), before);
    ck_assert_int_eq(saga_reply_handle(orders, &order, &reply, &err), SAGA_ENOTX);
    replied(reply);
}
END_TEST

/* Values that the saga has no room for. */
START_TEST(test_reply_too_large_is_refused)
{
    struct saga_record reply = carried_out(command_for("reserve", "run", 1));
    char payload[60000];

    memset(payload, 'x', sizeof payload);
    memcpy(payload, "{\"a\": \"", 7);
    memcpy(payload + sizeof payload - 2, "\"}", 2);
    reply.payload = (struct saga_bytes){ payload, sizeof payload };
    db_exec(orders, "UPDATE saga.instance SET data = jsonb_build_object('b', repeat('y', 50000))");
    ck_assert_int_eq(apply_reply(&reply), SAGA_EINVAL);
    ck_assert_str_eq(state(), "running");
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "participant/saga",
        .setup = setup,
        .teardown = teardown,
        .tests = TESTS(test_saga_of_commands_completes_and_passes_values_on,
                       test_saga_refused_by_participant_is_compensated_without_that_step,
                       test_saga_s1_timed_out_but_carried_out_is_compensated,
                       test_saga_s1_timed_out_and_not_carried_out_is_compensated_by_nothing,
                       test_saga_s2_reply_of_first_attempt_behind_that_of_second_changes_nothing,
                       test_saga_reply_of_first_attempt_counts_when_it_comes_late,
                       test_saga_s2_doubled_reply_changes_nothing,
                       test_saga_s2_reply_for_finished_saga_changes_nothing,
                       test_saga_s2_reply_of_run_while_compensating_changes_nothing,
                       test_saga_s17_pivot_without_answer_is_asked_again,
                       test_saga_s17_pivot_never_answered_is_parked_then_goes_on,
                       test_saga_s17_parked_pivot_goes_on_when_its_answer_comes_late,
                       test_saga_of_other_steps_is_parked_by_its_reply,
                       test_saga_s17_cancel_and_deadline_behind_the_pivot_only_alarm,
                       test_saga_waits_for_an_answer_that_comes_later,
                       test_saga_s1_that_has_not_waited_so_long_undoes_what_is_in_hand,
                       test_saga_s2_that_has_turned_round_takes_no_later_answer,
                       test_saga_s17_parked_pivot_goes_on_when_it_is_answered_later,
                       test_reply_malformed_is_named_and_leaves_nothing,
                       test_reply_too_large_is_refused) });
}
