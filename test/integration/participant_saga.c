/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An orchestrator and a participant, and a postman in between who loses, doubles and
 * delays: steps of unknown outcome, stale replies, and a pivot without an answer.
 */
#include "test/support/orchestrator.h"
#include "test/support/run.h"
#include "test/support/wait.h"

#include <string.h>

START_TEST(test_saga_of_commands_completes_and_passes_values_on)
{
    struct saga_record command;

    replied(carried_out(command_for("reserve", "run", 1)));
    /* The reply and the next command are one transaction: no worker in between. */
    ck_assert(post_take(&commands, &command));
    ck_assert_str_eq(record_text(&command, "saga-step"), "charge");
    ck_assert_str_eq(record_text(&command, "traceparent"), "00-0af7-b7ad-01");
    ck_assert_str_eq(command.payload.data, "{\"sku\": \"lamp\", \"shelf\": \"B7\"}");
    ck_assert_str_eq(order_state(), "running");
    replied(carried_out(command));
    ck_assert_str_eq(order_state(), "completed");
    expect_step_effects(inventory_db, order_id, "reserve", 1, 0);
    expect_step_effects(inventory_db, order_id, "charge", 1, 0);
    ck_assert_int_eq(db_int(orders, "SELECT count(*) FROM saga.history WHERE event = 'done'"), 2);
}
END_TEST

START_TEST(test_saga_refused_by_participant_is_compensated_without_that_step)
{
    db_exec(inventory_db, "UPDATE stock SET free = 0");
    replied(carried_out(command_for("reserve", "run", 1)));
    work();
    ck_assert_str_eq(order_state(), "compensated");
    ck_assert_str_eq(db_text(orders, "SELECT reason FROM saga.instance"), "out of stock");
    expect_step_effects(inventory_db, order_id, "reserve", 0, 0);
}
END_TEST

/* trap: S1 */
START_TEST(test_saga_s1_timed_out_but_carried_out_is_compensated)
{
    carried_out(command_for("reserve", "run", 1)); /* and the reply is lost */
    command_for("reserve", "run", 2);
    replied(carried_out(command_for("reserve", "compensate", 1)));
    work();
    ck_assert_str_eq(order_state(), "compensated");
    expect_step_effects(inventory_db, order_id, "reserve", 1, 1);
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
    ck_assert_str_eq(order_state(), "compensated");
    expect_stale(carried_out(late));
    expect_step_effects(inventory_db, order_id, "reserve", 0, 0);
    ck_assert_int_eq(db_int(inventory_db, "SELECT free FROM stock"), 2);
}
END_TEST

/* trap: S2 */
START_TEST(test_saga_s2_reply_of_first_attempt_behind_that_of_second_changes_nothing)
{
    struct saga_record first = carried_out(command_for("reserve", "run", 1));

    replied(carried_out(command_for("reserve", "run", 2)));
    expect_stale(first);
    ck_assert_str_eq(order_state(), "running");
    expect_step_effects(inventory_db, order_id, "reserve", 1, 0);
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
    ck_assert_str_eq(order_state(), "completed");
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
    ck_assert_str_eq(order_state(), "compensating");
    replied(carried_out(undo));
    ck_assert_str_eq(order_state(), "compensated");
}
END_TEST

/* trap: S17 */
START_TEST(test_saga_s17_pivot_without_answer_is_asked_again)
{
    replied(carried_out(command_for("reserve", "run", 1)));
    carried_out(command_for("charge", "run", 1)); /* and the reply is lost */
    replied(carried_out(command_for("charge", "run", 2)));
    ck_assert_str_eq(order_state(), "completed");
    expect_step_effects(inventory_db, order_id, "charge", 1, 0);
    expect_step_effects(inventory_db, order_id, "reserve", 1, 0);
}
END_TEST

/* Parked with a reason, asked again by a person, and answered as the first
 * time. trap: S17 */
START_TEST(test_saga_s17_pivot_never_answered_is_parked_then_goes_on)
{
    replied(carried_out(command_for("reserve", "run", 1)));
    carried_out(command_for("charge", "run", 1));
    carried_out(command_for("charge", "run", 2));
    WAIT_UNTIL(work() && strcmp(order_state(), "parked") == 0, 5000);
    ck_assert_ptr_nonnull(strstr(db_text(orders, "SELECT reason FROM saga.instance"), "charge"));
    db_exec(orders, "SELECT saga.retry('%s', 'the broker is back')", order_id);
    replied(carried_out(command_for("charge", "run", 1)));
    ck_assert_str_eq(order_state(), "completed");
    expect_step_effects(inventory_db, order_id, "charge", 1, 0);
}
END_TEST

/* Nobody has to do anything: the answer was all that it lacked. trap: S17 */
START_TEST(test_saga_s17_parked_pivot_goes_on_when_its_answer_comes_late)
{
    struct saga_record late;

    replied(carried_out(command_for("reserve", "run", 1)));
    late = carried_out(command_for("charge", "run", 1));
    command_for("charge", "run", 2);
    WAIT_UNTIL(work() && strcmp(order_state(), "parked") == 0, 5000);
    replied(late);
    ck_assert_str_eq(order_state(), "completed");
    expect_step_effects(inventory_db, order_id, "charge", 1, 0);
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
    ck_assert_str_eq(order_state(), "parked");
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
    db_exec(orders, "SELECT saga.cancel('%s', 'the customer rang')", order_id);
    db_exec(orders, "UPDATE saga.instance SET deadline_at = clock_timestamp()");
    WAIT_UNTIL(work() && db_int(orders, "SELECT alarms FROM saga.instance") >= 2, 5000);
    ck_assert_str_eq(order_state(), "running");
    replied(carried_out(charge));
    ck_assert_str_eq(order_state(), "completed");
    expect_step_effects(inventory_db, order_id, "reserve", 1, 0);
}
END_TEST

/* --- replies that are none ------------------------------------------------------------ */

START_TEST(test_reply_malformed_is_named_and_leaves_nothing)
{
    struct saga_record reply = carried_out(command_for("reserve", "run", 1));
    const char *before = order_rows();
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
    struct saga_error err;
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
    ck_assert_str_eq(order_rows(), before);
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
    ck_assert_str_eq(order_state(), "running");
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "participant/saga",
        .setup = given_orchestrator,
        .teardown = end_orchestrator,
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
                       test_reply_malformed_is_named_and_leaves_nothing,
                       test_reply_too_large_is_refused) });
}
