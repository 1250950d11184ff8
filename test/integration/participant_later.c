/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An orchestrator and a participant who takes commands in hand and answers them
 * later: in time, too late, and when the saga has turned round.
 */
#include "test/support/orchestrator.h"
#include "test/support/run.h"
#include "test/support/wait.h"

#include <string.h>

static char token[SAGA_TOKEN_MAX + 1];
static struct saga_error err;

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
    expect_step_effects(inventory_db, order_id, "slow", 2, 0);
    ck_assert_int_eq(
        db_int(inventory_db, "SELECT count(*) FROM effect WHERE saga_id = '%s'", order_id), 2);
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
    ck_assert_str_eq(order_state(), "compensated");
    expect_step_effects(inventory_db, order_id, "slow", 1, 1);
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
    ck_assert_str_eq(order_state(), "compensated");
    expect_step_effects(inventory_db, order_id, "slow", 1, 1);
}
END_TEST

/* trap: S17 */
START_TEST(test_saga_s17_parked_pivot_goes_on_when_it_is_answered_later)
{
    replied(carried_out(command_for("reserve", "run", 1)));
    taken_in_hand(command_for("charge", "run", 1));
    taken_in_hand(command_for("charge", "run", 2));
    WAIT_UNTIL(work() && strcmp(order_state(), "parked") == 0, 5000);
    replied(answered_later(SAGA_DONE, NULL));
    ck_assert_str_eq(order_state(), "completed");
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "participant/later",
        .setup = given_orchestrator,
        .teardown = end_orchestrator,
        .tests = TESTS(test_saga_waits_for_an_answer_that_comes_later,
                       test_saga_s1_that_has_not_waited_so_long_undoes_what_is_in_hand,
                       test_saga_s2_that_has_turned_round_takes_no_later_answer,
                       test_saga_s17_parked_pivot_goes_on_when_it_is_answered_later) });
}
