/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Local steps and one worker: what each answer of a step function keeps and
 * undoes, retries, compensation, deadlines, operators.
 */
#include "test/support/db.h"
#include "test/support/run.h"
#include "test/support/steps.h"
#include "test/support/wait.h"

#include <string.h>

static const char *conninfo;
static PGconn *conn;
static struct saga_worker *worker;

static void
setup(void)
{
    conninfo = given_effects_database(&conn);
    worker = given_worker(conninfo, &scripted);
}

#define expect_text(got, wanted) ck_assert_str_eq((got), (wanted))

START_TEST(test_saga_runs_to_its_end)
{
    const char *id = given_saga(conn, &scripted, "k", NULL);

    run_idle(worker);
    expect_text(state_of(conn, id), "completed");
    expect_text(effects_of(conn, id), "a.run b.run c.run d.run");
    expect_text(history_of(conn, id), "done:a done:b done:c done:d");
    ck_assert_ptr_null(db_text(conn, "SELECT due_at FROM saga.instance"));
    expect_effects_once(conn);
}
END_TEST

/* --- trap: S19. Each answer, after rows were written and a value was set ---------- */

static const struct {
    const char *answer; /* of b's first attempts; then it is done */
    const char *effects, *history, *state;
} answers[] = {
    { "done", "a.run b.run c.run d.run", "done:a done:b done:c done:d", "completed" },
    /* Kept: it waits, is asked again, and its first rows are still there. */
    { "wait done", "a.run b.run b.run c.run d.run", "done:a wait:b done:b done:c done:d",
      "completed" },
    { "retry done", "a.run b.run c.run d.run", "done:a retry:b done:b done:c done:d", "completed" },
    { "error done", "a.run b.run c.run d.run", "done:a error:b done:b done:c done:d", "completed" },
    { "sql done", "a.run b.run c.run d.run", "done:a error:b done:b done:c done:d", "completed" },
    { "refused", "a.run a.compensate", "done:a refused:b done:a", "compensated" },
};

static void
check_answer(size_t i)
{
    const char *id = given_saga(conn, &scripted, "k", SAGA_PAIRS({ "b.run", answers[i].answer }));

    run_until(worker, conn, id, answers[i].state);
    expect_text(effects_of(conn, id), answers[i].effects);
    expect_text(history_of(conn, id), answers[i].history);
}

START_TEST(test_answer_done_keeps_its_rows_s19)
{
    check_answer(0);
}
END_TEST

START_TEST(test_answer_wait_keeps_its_rows_s19)
{
    check_answer(1);
}
END_TEST

START_TEST(test_answer_retry_undoes_its_rows_s19)
{
    check_answer(2);
}
END_TEST

START_TEST(test_answer_error_undoes_its_rows_s19)
{
    check_answer(3);
    db_exec(conn, "TRUNCATE saga.instance, saga.business_key");
    check_answer(4);
}
END_TEST

START_TEST(test_answer_refused_undoes_its_rows_s19)
{
    check_answer(5);
}
END_TEST

/* The value that a step has set goes with its rows. */
START_TEST(test_answer_refused_forgets_values_s19)
{
    const char *id = given_saga(conn, &scripted, "k", SAGA_PAIRS({ "b.run", "refused" }));

    run_until(worker, conn, id, "compensated");
    /* Set last by the compensation of a, whose answer is "done". */
    expect_text(db_text(conn, "SELECT data ->> 'seen' FROM saga.instance"), "done");
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM saga.history WHERE reason ="
                                  " 'asked to refuse' AND event = 'refused'"),
                     1);
}
END_TEST

/* A compensation that refuses or fails leaves no rows either. */
START_TEST(test_answer_of_a_compensation_keeps_or_undoes_its_rows_s19)
{
    const char *id = given_saga(
        conn, &scripted, "k",
        SAGA_PAIRS({ "c.run", "refused" }, { "b.compensate", "refused error sql retry done" }));

    run_until(worker, conn, id, "compensated");
    expect_text(effects_of(conn, id), "a.run b.run b.compensate a.compensate");
}
END_TEST

START_TEST(test_step_that_ends_the_transaction_has_failed)
{
    const char *id = given_saga(conn, &scripted, "k", SAGA_PAIRS({ "b.run", "commit" }));

    run_until(worker, conn, id, "compensated");
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM saga.history WHERE reason LIKE"
                                  " '%%has ended the transaction%%'"),
                     3);
}
END_TEST

/* The statement is refused only when the transaction commits. */
START_TEST(test_deferred_constraint_fails_the_attempt_and_not_the_worker)
{
    const char *id, *other;

    db_exec(conn, "CREATE TABLE test.allowed (step text PRIMARY KEY);"
                  "INSERT INTO test.allowed VALUES ('a'), ('c'), ('d');"
                  "ALTER TABLE test.effect ADD FOREIGN KEY (step) REFERENCES test.allowed"
                  " DEFERRABLE INITIALLY DEFERRED");
    id = given_saga(conn, &scripted, "k", NULL);
    run_until(worker, conn, id, "compensated");
    expect_text(effects_of(conn, id), "a.run a.compensate");
    db_exec(conn, "INSERT INTO test.allowed VALUES ('b')");
    other = given_saga(conn, &scripted, "l", NULL);
    run_until(worker, conn, other, "completed");
}
END_TEST

/* --- compensation ------------------------------------------------------------------ */

/* trap: S4 */
START_TEST(test_compensation_is_in_reverse_order_s4)
{
    const char *id = given_saga(conn, &scripted, "k", SAGA_PAIRS({ "c.run", "refused" }));

    run_idle(worker);
    expect_text(state_of(conn, id), "compensated");
    expect_text(effects_of(conn, id), "a.run b.run b.compensate a.compensate");
    expect_effects_once(conn);
}
END_TEST

/* trap: S3 */
START_TEST(test_compensation_that_fails_at_first_is_tried_again_s3)
{
    const char *id =
        given_saga(conn, &scripted, "k",
                   SAGA_PAIRS({ "c.run", "refused" }, { "a.compensate", "error sql error done" }));

    run_until(worker, conn, id, "compensated");
    expect_text(effects_of(conn, id), "a.run b.run b.compensate a.compensate");
    ck_assert_int_eq(db_int(conn, "SELECT alarms FROM saga.instance"), 0);
}
END_TEST

/* Its compensation is given up soon; a is never undone. */
static const char *
given_parked_compensation(void)
{
    static struct saga_definition brief;
    struct saga_error err;
    const char *id;

    brief = scripted;
    brief.name = "brief";
    brief.compensation_ms = 100;
    ck_assert_msg(saga_worker_add(worker, &brief, NULL, &err) == 0, "%s", err.message);
    id = given_saga(conn, &brief, "k",
                    SAGA_PAIRS({ "c.run", "refused" }, { "a.compensate", "error" }));
    run_until(worker, conn, id, "parked");
    return id;
}

/* trap: S3 */
START_TEST(test_compensation_that_always_fails_is_parked_within_its_budget_s3)
{
    int64_t began = monotonic_us();
    const char *id = given_parked_compensation();

    ck_assert_int_lt(monotonic_us() - began, 4000000);
    ck_assert_int_eq(db_int(conn, "SELECT alarms FROM saga.instance"), 1);
    ck_assert_ptr_nonnull(
        strstr(db_text(conn, "SELECT reason FROM saga.instance"), "compensation of step a"));
    ck_assert_ptr_null(db_text(conn, "SELECT due_at FROM saga.instance"));
    expect_text(effects_of(conn, id), "a.run b.run b.compensate");
}
END_TEST

START_TEST(test_parked_compensation_goes_on_after_retry)
{
    const char *id = given_parked_compensation();

    db_exec(conn, "UPDATE saga.instance SET data = data - 'a.compensate'");
    db_exec(conn, "SELECT saga.retry('%s', 'mended')", id);
    run_until(worker, conn, id, "compensated");
    expect_effects_once(conn);
    expect_text(db_text(conn, "SELECT verb || ' ' || reason || ' ' || (who = session_user)"
                              " FROM saga.audit"),
                "retry mended true");
    ck_assert_ptr_null(db_text(conn, "SELECT request FROM saga.instance"));
}
END_TEST

START_TEST(test_attempts_that_are_used_up_turn_the_saga_round)
{
    const char *id = given_saga(conn, &scripted, "k", SAGA_PAIRS({ "b.run", "error" }));

    run_until(worker, conn, id, "compensated");
    expect_text(history_of(conn, id), "done:a error:b error:b error:b done:a");
    expect_text(effects_of(conn, id), "a.run a.compensate");
}
END_TEST

START_TEST(test_retriable_step_that_never_works_is_parked_and_goes_on_after_retry)
{
    const char *id = given_saga(conn, &scripted, "k", SAGA_PAIRS({ "d.run", "refused" }));

    run_until(worker, conn, id, "parked");
    db_exec(conn, "UPDATE saga.instance SET data = data - 'd.run'");
    db_exec(conn, "SELECT saga.retry('%s', 'van repaired')", id);
    run_until(worker, conn, id, "completed");
    expect_effects_once(conn);
}
END_TEST

/* --- deadline and cancel ------------------------------------------------------------- */

START_TEST(test_deadline_turns_round_before_the_pivot_s12)
{
    static struct saga_step patient[4];
    static struct saga_definition hasty;
    struct saga_worker *other;
    const char *id;

    hasty = scripted;
    hasty.name = "hasty";
    hasty.deadline_ms = 400;
    hasty.steps = patient;
    for (size_t i = 0; i < hasty.n_steps; i++) {
        patient[i] = scripted.steps[i];
        patient[i].timeout_ms = 60000; /* b does not ask twice before */
    }
    other = given_worker(conninfo, &hasty);
    id = given_saga(conn, &hasty, "k", SAGA_PAIRS({ "b.run", "wait" }));
    run_until(other, conn, id, "compensated");
    expect_text(effects_of(conn, id), "a.run b.run b.compensate a.compensate");
}
END_TEST

/* trap: S11 */
START_TEST(test_cancel_before_the_pivot_undoes_s11)
{
    const char *id = given_saga(conn, &scripted, "k", SAGA_PAIRS({ "b.run", "wait" }));

    run_idle(worker);
    db_exec(conn, "SELECT saga.cancel('%s', 'not wanted')", id);
    run_idle(worker);
    expect_text(state_of(conn, id), "compensated");
    expect_text(effects_of(conn, id), "a.run b.run b.compensate a.compensate");
    expect_text(db_text(conn, "SELECT reason FROM saga.instance"), "not wanted");
    expect_text(db_refusal(conn, "SELECT saga.cancel('%s', 'again')", id), "55000");
    expect_text(db_refusal(conn, "SELECT saga.retry('%s', 'again')", id), "55000");
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM saga.audit"), 1);
}
END_TEST

/* trap: S17 */
START_TEST(test_cancel_behind_the_pivot_only_raises_the_alarm_s17)
{
    const char *id = given_saga(conn, &scripted, "k", SAGA_PAIRS({ "c.run", "wait wait done" }));

    run_idle(worker);
    db_exec(conn, "SELECT saga.cancel('%s', 'too late')", id);
    run_until(worker, conn, id, "completed");
    ck_assert_int_eq(db_int(conn, "SELECT alarms FROM saga.instance"), 1);
    ck_assert_int_eq(
        db_int(conn, "SELECT count(*) FROM saga.history WHERE event = 'cancel_refused'"), 1);
}
END_TEST

/* Who wants it undone is not overruled by who wants it to go on. */
START_TEST(test_cancel_is_not_lost_to_a_retry_s11)
{
    const char *id = given_saga(conn, &scripted, "k", NULL);

    db_exec(conn, "UPDATE saga.instance SET state = 'parked', due_at = NULL, reason = 'r'");
    db_exec(conn, "SELECT saga.retry('%s', 'go on')", id);
    db_exec(conn, "SELECT saga.cancel('%s', 'not wanted')", id);
    expect_text(db_refusal(conn, "SELECT saga.retry('%s', 'go on')", id), "55000");
    run_idle(worker);
    expect_text(state_of(conn, id), "compensated");
}
END_TEST

START_TEST(test_cancel_of_a_parked_compensation_is_refused)
{
    const char *id = given_saga(conn, &scripted, "k",
                                SAGA_PAIRS({ "c.run", "refused" }, { "b.compensate", "wait" }));

    run_idle(worker);
    db_exec(conn, "UPDATE saga.instance SET state = 'parked', due_at = NULL, reason = 'r'");
    expect_text(db_refusal(conn, "SELECT saga.cancel('%s', 'not wanted')", id), "55000");
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM saga.audit"), 0);
}
END_TEST

START_TEST(test_verbs_refuse_what_is_not_there_or_has_no_reason)
{
    const char *id = given_saga(conn, &scripted, "k", NULL);

    expect_text(db_refusal(conn, "SELECT saga.cancel(gen_random_uuid(), 'x')"), "P0002");
    expect_text(db_refusal(conn, "SELECT saga.retry(gen_random_uuid(), 'x')"), "P0002");
    expect_text(db_refusal(conn, "SELECT saga.cancel('%s', ' ')", id), "22023");
    expect_text(db_refusal(conn, "SELECT saga.retry('%s', 'it runs')", id), "55000");
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM saga.audit"), 0);
}
END_TEST

/* --- values ------------------------------------------------------------------------------ */

static int
set_awkward(struct saga_ctx *ctx, void *user)
{
    (void)user;
    ck_assert_str_eq(saga_get(ctx, "number"), "7");
    ck_assert_ptr_null(saga_get(ctx, "nothing"));
    ck_assert_str_eq(saga_get(ctx, "truth"), "true");
    return saga_set(ctx, "awkward", "a\"b\\c\n\t\x01 \xC3\xA9 {}");
}

static int
get_awkward(struct saga_ctx *ctx, void *user)
{
    (void)user;
    return strcmp(saga_get(ctx, "awkward"), "a\"b\\c\n\t\x01 \xC3\xA9 {}") == 0
               ? saga_set(ctx, "awkward", "")
               : saga_refuse(ctx, "the value has changed on its way");
}

START_TEST(test_values_pass_from_step_to_step_unchanged)
{
    static const struct saga_step steps[] = { { "set", SAGA_PIVOT, .run = set_awkward },
                                              { "get", SAGA_RETRIABLE, .run = get_awkward } };
    static const struct saga_definition values = { SAGA_DEFINITION("values", steps) };
    struct saga_error err;
    const char *id;

    ck_assert_msg(saga_worker_add(worker, &values, NULL, &err) == 0, "%s", err.message);
    id = db_text(conn, "SELECT saga.start('values', 'k', '{\"number\": 7, \"truth\": true}')");
    run_idle(worker);
    expect_text(state_of(conn, id), "completed");
    expect_text(db_text(conn, "SELECT data ->> 'awkward' FROM saga.instance"), "");
}
END_TEST

/* trap: S8 */
START_TEST(test_saga_of_another_definition_is_parked_with_the_difference_s8)
{
    static const struct saga_step steps[] = { { "a", SAGA_PIVOT, .run = get_awkward },
                                              { "x", SAGA_RETRIABLE, .run = get_awkward } };
    static const struct saga_definition other = { SAGA_DEFINITION("scripted", steps) };
    const char *id = given_saga(conn, &scripted, "k", NULL);
    struct saga_worker *newer = given_worker(conninfo, &other);

    run_idle(newer);
    expect_text(state_of(conn, id), "parked");
    expect_text(db_text(conn, "SELECT reason FROM saga.instance"),
                "started with another definition of 4 steps, here 2; "
                "step 1 was a (compensatable), is a (pivot)");
    db_exec(conn, "SELECT saga.retry('%s', 'rolled back')", id);
    run_idle(worker);
    expect_text(state_of(conn, id), "completed");
}
END_TEST

/* trap: S8. A worker that cannot carry out what an operator asked for leaves it
 * to one that can. */
START_TEST(test_request_waits_for_a_worker_of_the_same_definition_s8)
{
    static const struct saga_step steps[] = { { "a", SAGA_PIVOT, .run = get_awkward },
                                              { "x", SAGA_RETRIABLE, .run = get_awkward } };
    static const struct saga_definition other = { SAGA_DEFINITION("scripted", steps) };
    const char *id = given_saga(conn, &scripted, "k", NULL);
    const char *cancelled = given_saga(conn, &scripted, "l", NULL);
    struct saga_worker *newer = given_worker(conninfo, &other);

    db_exec(conn, "SELECT saga.cancel('%s', 'not wanted')", cancelled);
    run_idle(newer);
    expect_text(state_of(conn, id), "parked");
    expect_text(state_of(conn, cancelled), "parked");
    db_exec(conn, "SELECT saga.retry('%s', 'rolled back')", id);
    run_idle(newer);
    expect_text(state_of(conn, id), "parked");
    run_idle(worker);
    expect_text(state_of(conn, id), "completed");
    expect_text(state_of(conn, cancelled), "compensated");
}
END_TEST

static int
sleep_long(struct saga_ctx *ctx, void *user)
{
    int rc = saga_exec(ctx, NULL, "SELECT pg_sleep(600)", NULL, 0);

    (void)user;
    return rc;
}

static int
nothing(struct saga_ctx *ctx, void *user)
{
    (void)ctx;
    (void)user;
    return SAGA_DONE;
}

/* Each time again: it must not go on for ever. */
START_TEST(test_statement_that_takes_too_long_is_a_failed_attempt)
{
    static const struct saga_step steps[] = { { .name = "slow",
                                                .run = sleep_long,
                                                .compensate = nothing,
                                                .attempts_max = 2,
                                                .first_delay_ms = 1 } };
    static const struct saga_definition slow = { SAGA_DEFINITION("slow", steps) };
    struct saga_worker *hasty =
        given_worker_with((struct saga_worker_options){ SAGA_WORKER_OPTIONS, .conninfo = conninfo,
                                                        .statement_ms = 200 },
                          &slow);
    const char *id = given_saga(conn, &slow, "k", NULL);

    run_until(hasty, conn, id, "compensated");
    expect_text(history_of(conn, id), "error:slow error:slow");
    expect_text(db_text(conn, "SELECT reason FROM saga.instance"),
                "step slow: its attempts are used up: no answer from PostgreSQL within 200 ms");
}
END_TEST

static int
oversleep(struct saga_ctx *ctx, void *user)
{
    int pid = PQbackendPID(saga_tx(ctx));

    (void)user;
    WAIT_UNTIL(db_int(conn, "SELECT count(*) FROM pg_stat_activity WHERE pid = %d", pid) == 0,
               8000);
    return saga_get(ctx, "then") == NULL ? SAGA_DONE : saga_exec(ctx, NULL, "SELECT 1", NULL, 0);
}

START_TEST(test_step_that_thinks_longer_than_its_lease_is_a_failed_attempt)
{
    static const struct saga_step steps[] = { { .name = "slow",
                                                .run = oversleep,
                                                .compensate = nothing,
                                                .attempts_max = 2,
                                                .first_delay_ms = 1 } };
    static const struct saga_definition slow = { SAGA_DEFINITION("slow", steps) };
    struct saga_worker *hasty = given_worker_with(
        (struct saga_worker_options){ SAGA_WORKER_OPTIONS, .conninfo = conninfo, .lease_ms = 100 },
        &slow);
    const char *id = given_saga(conn, &slow, "k", NULL);

    run_until(hasty, conn, id, "compensated");
    expect_text(history_of(conn, id), "error:slow error:slow");
    id = given_saga(conn, &slow, "l", SAGA_PAIRS({ "then", "write" }));
    run_until(hasty, conn, id, "compensated");
    expect_text(history_of(conn, id), "error:slow error:slow");
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "saga/local",
        .setup = setup,
        .tests = TESTS(
            test_step_that_thinks_longer_than_its_lease_is_a_failed_attempt,
            test_request_waits_for_a_worker_of_the_same_definition_s8,
            test_statement_that_takes_too_long_is_a_failed_attempt,
            test_cancel_is_not_lost_to_a_retry_s11, test_cancel_of_a_parked_compensation_is_refused,
            test_saga_runs_to_its_end, test_answer_done_keeps_its_rows_s19,
            test_answer_wait_keeps_its_rows_s19, test_answer_retry_undoes_its_rows_s19,
            test_answer_error_undoes_its_rows_s19, test_answer_refused_undoes_its_rows_s19,
            test_answer_refused_forgets_values_s19,
            test_answer_of_a_compensation_keeps_or_undoes_its_rows_s19,
            test_step_that_ends_the_transaction_has_failed,
            test_deferred_constraint_fails_the_attempt_and_not_the_worker,
            test_compensation_is_in_reverse_order_s4,
            test_compensation_that_fails_at_first_is_tried_again_s3,
            test_compensation_that_always_fails_is_parked_within_its_budget_s3,
            test_parked_compensation_goes_on_after_retry,
            test_attempts_that_are_used_up_turn_the_saga_round,
            test_retriable_step_that_never_works_is_parked_and_goes_on_after_retry,
            test_deadline_turns_round_before_the_pivot_s12, test_cancel_before_the_pivot_undoes_s11,
            test_cancel_behind_the_pivot_only_raises_the_alarm_s17,
            test_verbs_refuse_what_is_not_there_or_has_no_reason,
            test_values_pass_from_step_to_step_unchanged,
            test_saga_of_another_definition_is_parked_with_the_difference_s8) });
}
