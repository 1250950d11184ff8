/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands that a participant takes in hand and answers later: who may answer
 * what and when, and what becomes of a compensation that is quicker.
 */
#include "test/support/db.h"
#include "test/support/participant.h"
#include "test/support/run.h"
#include "test/support/wait.h"

#include <pthread.h>
#include <string.h>

#define VALUES SAGA_PAIRS({ "shelf", "B7" })

static PGconn *conn, *other;
static struct saga_error err;
static char token[SAGA_TOKEN_MAX + 1];

static void
finish(void *connection)
{
    PQfinish(connection);
}

static void
setup(void)
{
    other = db_connect(given_inventory(&conn));
    at_test_end(finish, other);
}

/* --- the two halves ------------------------------------------------------------- */

static int
take_in_hand(struct saga_ctx *ctx, void *arg)
{
    (void)arg;
    strcpy(token, saga_token(ctx));
    return saga_set(ctx, "ticket", "T1") != 0 ? SAGA_RETRY : SAGA_WAIT;
}

static int
take_and_stumble(struct saga_ctx *ctx, void *arg)
{
    (void)arg;
    strcpy(token, saga_token(ctx));
    return SAGA_RETRY;
}

static struct script takes = { .then = take_in_hand };
static struct script plain = { 0 };

static struct saga_record
a_run(void)
{
    return a_command(SAGA_1, "scripted", "run", "{}");
}

static struct saga_record
an_undo(void)
{
    return a_command(SAGA_1, "scripted", "compensate", "{}");
}

static void
delivered(struct saga_record record, struct script *script)
{
    ck_assert_msg(deliver(conn, &record, script) == 0, "%s", deliver_error.message);
}

static struct saga_record
given_accepted(void)
{
    struct saga_record command = with_header(a_run(), "traceparent", "00-0af7-b7ad-01");

    delivered(command, &takes);
    return command;
}

/* In a transaction of its own, which is committed if the answer is taken. */
static int
answer_with(const char *with, int outcome, const char *reason, const struct saga_pair *values)
{
    int rc;

    ck_assert_int_eq(saga_begin(other, NULL), 0);
    rc = saga_reply(other, with, outcome, reason, values, &err);
    if (rc == 0)
        ck_assert_int_eq(saga_commit(other, NULL), 0);
    else
        saga_rollback(other);
    return rc;
}

static void
answered(int outcome, const char *reason, const struct saga_pair *values)
{
    ck_assert_msg(answer_with(token, outcome, reason, values) == 0, "%s", err.message);
}

static const char *
outcome_of(const char *action)
{
    return db_text(conn, "SELECT outcome FROM idempotency.barrier WHERE action = '%s'", action);
}

/* --- in hand, and answered ---------------------------------------------------------- */

START_TEST(test_accepted_command_keeps_its_rows_and_is_not_answered)
{
    given_accepted();
    expect_step_effects(conn, SAGA_1, "scripted", 1, 0);
    ck_assert_str_eq(outcome_of("run"), "waiting");
    ck_assert_int_eq(reply_count(conn), 0);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM idempotency.inbox"), 1);
}
END_TEST

START_TEST(test_reply_later_is_sent_with_all_values_and_the_trace)
{
    given_accepted();
    answered(SAGA_DONE, NULL, VALUES);
    expect_reply(conn, 0, "run", "done", NULL);
    ck_assert_str_eq(reply_header(conn, 0, "saga-step"), "scripted");
    ck_assert_str_eq(reply_header(conn, 0, "traceparent"), "00-0af7-b7ad-01");
    ck_assert_str_eq(reply_payload(conn, 0), "{\"shelf\": \"B7\", \"ticket\": \"T1\"}");
}
END_TEST

/* The same record, and the orchestrator's next attempt. trap: I18 */
START_TEST(test_reply_later_i18_command_again_is_not_run_and_then_gets_the_answer)
{
    struct saga_record command = given_accepted();

    takes.calls = 0;
    delivered(command, &takes);
    delivered(with_header(with_new_id(command), "saga-attempt", "2"), &takes);
    ck_assert_int_eq(takes.calls, 0);
    ck_assert_int_eq(reply_count(conn), 0);

    answered(SAGA_DONE, NULL, VALUES);
    delivered(command, &takes);
    delivered(with_new_id(command), &takes);
    ck_assert_int_eq(takes.calls, 0);
    for (int n = 0; n < 3; n++) {
        expect_reply(conn, n, "run", "done", NULL);
        ck_assert_str_eq(reply_payload(conn, n), reply_payload(conn, 0));
    }
    ck_assert_int_eq(reply_count(conn), 3);
}
END_TEST

START_TEST(test_reply_later_refused_leaves_nothing_to_undo)
{
    given_accepted();
    answered(SAGA_REFUSED, "the bank says no", NULL);
    expect_reply(conn, 0, "run", "refused", "the bank says no");
    ck_assert_str_eq(reply_payload(conn, 0), "{}");
    delivered(an_undo(), &plain);
    expect_reply(conn, 1, "compensate", "done", "nothing to undo");
    expect_step_effects(conn, SAGA_1, "scripted", 1, 0);
}
END_TEST

START_TEST(test_reply_later_rolled_back_leaves_it_waiting)
{
    given_accepted();
    ck_assert_int_eq(saga_begin(other, NULL), 0);
    ck_assert_int_eq(saga_reply(other, token, SAGA_DONE, NULL, VALUES, &err), 0);
    saga_rollback(other);
    ck_assert_str_eq(outcome_of("run"), "waiting");
    ck_assert_int_eq(reply_count(conn), 0);
    answered(SAGA_DONE, NULL, VALUES);
    ck_assert_int_eq(reply_count(conn), 1);
}
END_TEST

START_TEST(test_reply_later_again_is_nothing_and_another_is_refused)
{
    given_accepted();
    answered(SAGA_DONE, "by hand", VALUES);
    answered(SAGA_DONE, "by hand", VALUES);
    ck_assert_int_eq(answer_with(token, SAGA_DONE, NULL, VALUES), SAGA_EMISMATCH);
    ck_assert_int_eq(answer_with(token, SAGA_DONE, "by hand", NULL), SAGA_EMISMATCH);
    ck_assert_int_eq(answer_with(token, SAGA_REFUSED, "no", NULL), SAGA_EMISMATCH);
    ck_assert_ptr_nonnull(strstr(err.message, "done, by hand"));
    ck_assert(err.flags & SAGA_ERR_TX_ABORTED);
    ck_assert_int_eq(reply_count(conn), 1);
    ck_assert_str_eq(reply_payload(conn, 0), "{\"shelf\": \"B7\", \"ticket\": \"T1\"}");
}
END_TEST

/* --- who may not answer ------------------------------------------------------------- */

static int
answer_before_commit(struct saga_ctx *ctx, void *arg)
{
    int rc = answer_with(saga_token(ctx), SAGA_DONE, NULL, NULL);

    *(int *)arg = rc;
    return SAGA_WAIT;
}

static int
answer_in_the_function(struct saga_ctx *ctx, void *arg)
{
    *(int *)arg = saga_reply(saga_tx(ctx), saga_token(ctx), SAGA_DONE, NULL, NULL, &err);
    return SAGA_WAIT;
}

START_TEST(test_reply_before_the_command_is_accepted_is_an_error)
{
    int rc = 0;
    struct script before = { .then = answer_before_commit, .arg = &rc };
    struct script inside = { .then = answer_in_the_function, .arg = &rc };
    struct saga_record command = a_run();

    ck_assert_int_ne(deliver(conn, &command, &inside), 0);
    ck_assert_int_eq(rc, SAGA_ENOTFOUND);
    delivered(command, &before);
    ck_assert_int_eq(rc, SAGA_ENOTFOUND);
    ck_assert_ptr_nonnull(strstr(err.message, "scripted"));
    ck_assert_str_eq(outcome_of("run"), "waiting");
    ck_assert_int_eq(reply_count(conn), 0);
}
END_TEST

/* What was handed out by an attempt that was rolled back. trap: S2 */
START_TEST(test_reply_s2_with_the_token_of_a_rolled_back_attempt_changes_nothing)
{
    struct script stumbles = { .then = take_and_stumble };
    struct saga_record command = a_run();
    char first[sizeof token];

    ck_assert_int_ne(deliver(conn, &command, &stumbles), 0);
    strcpy(first, token);
    ck_assert_int_ne(deliver(conn, &command, &stumbles), 0);
    ck_assert_str_eq(token, first);
    delivered(with_header(with_new_id(command), "saga-attempt", "2"), &takes);
    ck_assert_str_ne(token, first);
    ck_assert_int_eq(answer_with(first, SAGA_DONE, NULL, NULL), SAGA_ENOTFOUND);
    ck_assert_str_eq(outcome_of("run"), "waiting");
    answered(SAGA_DONE, NULL, NULL);
}
END_TEST

static int
take_and_finish(struct saga_ctx *ctx, void *arg)
{
    (void)arg;
    strcpy(token, saga_token(ctx));
    return SAGA_DONE;
}

START_TEST(test_reply_to_a_command_that_was_answered_at_once_is_an_error)
{
    struct script finishes = { .then = take_and_finish };

    delivered(a_run(), &finishes);
    ck_assert_int_eq(answer_with(token, SAGA_DONE, NULL, NULL), SAGA_ENOTFOUND);
    ck_assert_int_eq(reply_count(conn), 1);
}
END_TEST

START_TEST(test_reply_with_a_wrong_token_or_answer_is_named)
{
    const char *saga = SAGA_1;
    const struct {
        const char *token;
        int outcome, rc;
        const char *reason;
        const struct saga_pair *values;
    } wrong[] = {
        { "", SAGA_DONE, SAGA_EINVAL, NULL, NULL },
        { "42", SAGA_DONE, SAGA_EINVAL, NULL, NULL },
        { "\xFF", SAGA_DONE, SAGA_EINVAL, NULL, NULL },
        { saga, SAGA_DONE, SAGA_EINVAL, NULL, NULL },
        { text_of("%s/%s/paint/scripted/" GROUP, saga, saga), SAGA_DONE, SAGA_EINVAL, NULL, NULL },
        { text_of("%s/%s/run/scripted/" GROUP, saga, saga), SAGA_DONE, SAGA_ENOTFOUND, NULL, NULL },
        { text_of("%sx", token), SAGA_DONE, SAGA_ENOTFOUND, NULL, NULL },
        { token, SAGA_WAIT, SAGA_EINVAL, NULL, NULL },
        { token, SAGA_REFUSED, SAGA_EINVAL, "no", VALUES },
        { token, SAGA_REFUSED, SAGA_EINVAL, NULL, NULL },
        { token, SAGA_REFUSED, SAGA_EINVAL, "", NULL },
        { token, SAGA_DONE, SAGA_EINVAL, NULL, SAGA_PAIRS({ "no name", "x" }) },
        { token, SAGA_DONE, SAGA_EINVAL, NULL, SAGA_PAIRS({ "a", "\xFF" }) },
        { NULL, SAGA_DONE, SAGA_EINVAL, NULL, NULL },
    };

    given_accepted();
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const char *with = i == 6 ? text_of("%sx", token) : wrong[i].token;
        int rc = answer_with(with, wrong[i].outcome, wrong[i].reason, wrong[i].values);

        ck_assert_msg(rc == wrong[i].rc && err.message[0] != '\0', "%zu: %d, %s", i, rc,
                      err.message);
    }
    ck_assert_int_eq(saga_reply(other, token, SAGA_DONE, NULL, NULL, &err), SAGA_ENOTX);
    ck_assert_int_eq(saga_reply(NULL, token, SAGA_DONE, NULL, NULL, &err), SAGA_EINVAL);
    ck_assert_str_eq(outcome_of("run"), "waiting");
    ck_assert_int_eq(reply_count(conn), 0);
}
END_TEST

/* --- and its compensation ------------------------------------------------------------- */

/* trap: I19 */
START_TEST(test_compensation_i19_of_a_waiting_step_undoes_it_and_its_answer_is_too_late)
{
    struct saga_record command = given_accepted();

    delivered(an_undo(), &plain);
    expect_step_effects(conn, SAGA_1, "scripted", 1, 1);
    expect_reply(conn, 0, "compensate", "done", NULL);

    ck_assert_int_eq(answer_with(token, SAGA_DONE, NULL, VALUES), SAGA_EFENCED);
    ck_assert_int_eq(answer_with(token, SAGA_REFUSED, "no", NULL), SAGA_EFENCED);
    ck_assert_int_eq(answer_with(token, SAGA_REFUSED, "compensated before it was answered", NULL),
                     SAGA_EFENCED);
    ck_assert_int_eq(reply_count(conn), 1);
    takes.calls = 0;
    delivered(with_new_id(command), &takes);
    ck_assert_int_eq(takes.calls, 0);
    expect_reply(conn, 1, "run", "refused", "compensated before it was answered");
    delivered(an_undo(), &plain);
    expect_step_effects(conn, SAGA_1, "scripted", 1, 1);
    expect_reply(conn, 2, "compensate", "done", NULL);
}
END_TEST

static int
later(struct saga_ctx *ctx, void *arg)
{
    (void)arg;
    return saga_retry_after(ctx, 0, "not now");
}

/* It has not overtaken the answer while it has not worked. trap: I19 */
START_TEST(test_compensation_i19_that_fails_leaves_the_step_waiting)
{
    struct script fails = { .then = later };
    struct saga_record undo = an_undo();

    given_accepted();
    ck_assert_int_ne(deliver(conn, &undo, &fails), 0);
    ck_assert_str_eq(outcome_of("run"), "waiting");
    answered(SAGA_DONE, NULL, VALUES);
    delivered(undo, &plain);
    expect_step_effects(conn, SAGA_1, "scripted", 1, 1);
    expect_reply(conn, 0, "run", "done", NULL);
    expect_reply(conn, 1, "compensate", "done", NULL);
    answered(SAGA_DONE, NULL, VALUES); /* it was not too late */
}
END_TEST

/* So old that nobody says whether it was compensated: then it was not. */
static void
forget_sagas(void)
{
    db_exec(conn, "SELECT setval('idempotency.barrier_mark', 30000)");
}

START_TEST(test_compensation_i28_of_a_forgotten_saga_leaves_the_step_waiting)
{
    given_accepted();
    forget_sagas();
    delivered(an_undo(), &plain);
    ck_assert_str_eq(outcome_of("compensate"), "unknown");
    ck_assert_str_eq(outcome_of("run"), "waiting");
    answered(SAGA_DONE, NULL, NULL);
}
END_TEST

START_TEST(test_compensation_may_wait_and_cannot_be_refused)
{
    struct saga_record undo = an_undo();

    delivered(a_run(), &plain);
    delivered(undo, &takes);
    ck_assert_int_eq(reply_count(conn), 1);
    ck_assert_ptr_nonnull(strstr(token, "/compensate/"));
    takes.calls = 0;
    delivered(with_new_id(undo), &takes);
    ck_assert_int_eq(takes.calls, 0);
    ck_assert_int_eq(reply_count(conn), 1);
    ck_assert_int_eq(answer_with(token, SAGA_REFUSED, "no", NULL), SAGA_EINVAL);
    answered(SAGA_DONE, NULL, NULL);
    expect_reply(conn, 1, "compensate", "done", NULL);
    delivered(undo, &takes);
    expect_reply(conn, 2, "compensate", "done", NULL);
    expect_step_effects(conn, SAGA_1, "scripted", 1, 1);
}
END_TEST

/* --- at the same time ------------------------------------------------------------------ */

struct rival {
    pthread_t thread;
    PGconn *conn;
    bool undoes;
    struct saga_record undo;
    int rc;
};

static void *
rival(void *arg)
{
    struct rival *self = arg;
    int32_t verdict;

    self->rc = saga_begin(self->conn, NULL);
    if (self->rc == 0 && self->undoes)
        self->rc = saga_inbox_enter(self->conn, GROUP, &self->undo, &verdict, NULL);
    if (self->rc == 0)
        self->rc = self->undoes ? saga_command_handle(self->conn, GROUP, &inventory, &self->undo, 0,
                                                      &plain, NULL)
                                : saga_reply(self->conn, token, SAGA_REFUSED, "no", NULL, NULL);
    if (self->rc == 0)
        self->rc = saga_commit(self->conn, NULL);
    else
        saga_rollback(self->conn);
    return NULL;
}

/* Comes while somebody else holds the row, and must wait for him. */
static struct rival *
given_rival(const char *conninfo, bool undoes)
{
    static struct rival self;

    self = (struct rival){ .conn = db_connect(conninfo), .undoes = undoes, .undo = an_undo() };
    at_test_end(finish, self.conn);
    ck_assert_int_eq(pthread_create(&self.thread, NULL, rival, &self), 0);
    WAIT_UNTIL(db_int(conn, "SELECT cardinality(pg_blocking_pids(%d))", PQbackendPID(self.conn)) >
                   0,
               5000);
    return &self;
}

static int
result_of(struct rival *self)
{
    pthread_join(self->thread, NULL);
    return self->rc;
}

static const char *
conninfo_of(PGconn *of)
{
    return text_of("host=%s port=%s dbname=%s user=%s", PQhost(of), PQport(of), PQdb(of),
                   PQuser(of));
}

static void
begin_answer(void)
{
    ck_assert_int_eq(saga_begin(other, NULL), 0);
    ck_assert_int_eq(saga_reply(other, token, SAGA_DONE, NULL, VALUES, &err), 0);
}

START_TEST(test_reply_of_two_at_once_is_that_of_the_first_to_commit)
{
    struct rival *second;

    given_accepted();
    begin_answer();
    second = given_rival(conninfo_of(conn), false);
    ck_assert_int_eq(saga_commit(other, NULL), 0);
    ck_assert_int_eq(result_of(second), SAGA_EMISMATCH);
    ck_assert_int_eq(reply_count(conn), 1);
    expect_reply(conn, 0, "run", "done", NULL);
}
END_TEST

START_TEST(test_reply_of_two_at_once_is_that_of_the_second_if_the_first_rolls_back)
{
    struct rival *second;

    given_accepted();
    begin_answer();
    second = given_rival(conninfo_of(conn), false);
    saga_rollback(other);
    ck_assert_int_eq(result_of(second), 0);
    ck_assert_int_eq(reply_count(conn), 1);
    expect_reply(conn, 0, "run", "refused", "no");
}
END_TEST

/* A compensation that comes while the answer is being given counts what that
 * leaves: done, and it undoes; refused, and there is nothing. trap: I19, I27 */
START_TEST(test_compensation_i19_i27_waits_for_an_answer_that_is_being_given)
{
    for (int refused = 0; refused <= 1; refused++) {
        struct rival *undo;

        db_exec(conn, "TRUNCATE effect, idempotency.barrier; DELETE FROM outbox.message");
        given_accepted();
        ck_assert_int_eq(saga_begin(other, NULL), 0);
        ck_assert_int_eq(saga_reply(other, token, refused ? SAGA_REFUSED : SAGA_DONE,
                                    refused ? "no" : NULL, NULL, &err),
                         0);
        undo = given_rival(conninfo_of(conn), true);
        ck_assert_int_eq(saga_commit(other, NULL), 0);
        ck_assert_int_eq(result_of(undo), 0);
        expect_reply(conn, 1, "compensate", "done", refused ? "nothing to undo" : NULL);
        expect_step_effects(conn, SAGA_1, "scripted", 1, refused ? 0 : 1);
    }
}
END_TEST

START_TEST(test_compensation_i19_overtakes_an_answer_that_is_rolled_back)
{
    struct rival *undo;

    given_accepted();
    begin_answer();
    undo = given_rival(conninfo_of(conn), true);
    saga_rollback(other);
    ck_assert_int_eq(result_of(undo), 0);
    expect_step_effects(conn, SAGA_1, "scripted", 1, 1);
    ck_assert_int_eq(answer_with(token, SAGA_DONE, NULL, VALUES), SAGA_EFENCED);
}
END_TEST

/* The other way round: the compensation is at it, and its end decides. trap: I19 */
START_TEST(test_reply_i19_waits_for_a_compensation_that_is_at_work)
{
    for (int commits = 0; commits <= 1; commits++) {
        struct saga_record undo = an_undo();
        struct rival *late;
        int32_t verdict;

        db_exec(conn, "TRUNCATE effect, idempotency.barrier; DELETE FROM outbox.message");
        given_accepted();
        ck_assert_int_eq(saga_begin(other, NULL), 0);
        ck_assert_int_eq(saga_inbox_enter(other, GROUP, &undo, &verdict, NULL), 0);
        ck_assert_int_eq(saga_command_handle(other, GROUP, &inventory, &undo, 0, &plain, NULL), 0);
        late = given_rival(conninfo_of(conn), false);
        if (commits)
            ck_assert_int_eq(saga_commit(other, NULL), 0);
        else
            saga_rollback(other);
        ck_assert_int_eq(result_of(late), commits ? SAGA_EFENCED : 0);
        expect_step_effects(conn, SAGA_1, "scripted", 1, commits);
    }
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "participant/reply",
        .setup = setup,
        .tests = TESTS(test_accepted_command_keeps_its_rows_and_is_not_answered,
                       test_reply_later_is_sent_with_all_values_and_the_trace,
                       test_reply_later_i18_command_again_is_not_run_and_then_gets_the_answer,
                       test_reply_later_refused_leaves_nothing_to_undo,
                       test_reply_later_rolled_back_leaves_it_waiting,
                       test_reply_later_again_is_nothing_and_another_is_refused,
                       test_reply_before_the_command_is_accepted_is_an_error,
                       test_reply_s2_with_the_token_of_a_rolled_back_attempt_changes_nothing,
                       test_reply_to_a_command_that_was_answered_at_once_is_an_error,
                       test_reply_with_a_wrong_token_or_answer_is_named,
                       test_compensation_i19_of_a_waiting_step_undoes_it_and_its_answer_is_too_late,
                       test_compensation_i19_that_fails_leaves_the_step_waiting,
                       test_compensation_i28_of_a_forgotten_saga_leaves_the_step_waiting,
                       test_compensation_may_wait_and_cannot_be_refused,
                       test_reply_of_two_at_once_is_that_of_the_first_to_commit,
                       test_reply_of_two_at_once_is_that_of_the_second_if_the_first_rolls_back,
                       test_compensation_i19_i27_waits_for_an_answer_that_is_being_given,
                       test_compensation_i19_overtakes_an_answer_that_is_rolled_back,
                       test_reply_i19_waits_for_a_compensation_that_is_at_work) });
}
