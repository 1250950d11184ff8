/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A participant carries out commands that are handed to it directly: which
 * rows stay, what is answered, and that it is answered always and the same.
 */
#include "test/support/db.h"
#include "test/support/participant.h"
#include "test/support/run.h"

#include <stdlib.h>
#include <string.h>

#define LAMP "{\"sku\": \"lamp\", \"cents\": \"1999\"}"

static PGconn *conn;

static void
setup(void)
{
    given_inventory(&conn);
}

static void
expect_delivered(struct saga_record record, struct script *script)
{
    ck_assert_msg(deliver(conn, &record, script) == 0, "%s", deliver_error.message);
}

static int
stock(void)
{
    return (int)db_int(conn, "SELECT free FROM stock WHERE sku = 'lamp'");
}

static int
barrier_rows(void)
{
    return (int)db_int(conn, "SELECT count(*) FROM idempotency.barrier");
}

/* --- the answers, and what they leave (trap S19, for participants) ---------- */

START_TEST(test_command_done_keeps_rows_and_replies_with_values)
{
    struct saga_record command =
        with_header(a_command(SAGA_1, "reserve", "run", LAMP), "traceparent", "00-0af7-b7ad-01");

    expect_delivered(command, NULL);
    ck_assert_int_eq(stock(), 1);
    expect_step_effects(conn, SAGA_1, "reserve", 1, 0);
    expect_reply(conn, 0, "run", "done", NULL);
    ck_assert_str_eq(reply_header(conn, 0, "traceparent"), "00-0af7-b7ad-01");
    ck_assert_str_eq(reply_header(conn, 0, "saga-step"), "reserve");
    ck_assert_str_eq(reply_payload(conn, 0), "{\"shelf\": \"B7\"}");
    ck_assert_str_eq(db_text(conn, "SELECT saga_started_at AT TIME ZONE 'UTC' FROM"
                                   " idempotency.barrier"),
                     "2025-11-06 21:59:24.416");
}
END_TEST

/* trap: S19 */
START_TEST(test_command_refused_undoes_rows_and_replies)
{
    db_exec(conn, "UPDATE stock SET free = 0");
    expect_delivered(a_command(SAGA_1, "reserve", "run", LAMP), NULL);
    expect_step_effects(conn, SAGA_1, "reserve", 0, 0);
    expect_reply(conn, 0, "run", "refused", "out of stock");
    ck_assert_str_eq(reply_payload(conn, 0), "{}");
}
END_TEST

static int
answer_of(struct saga_ctx *ctx, void *arg)
{
    (void)ctx;
    return *(int *)arg;
}

static int
fail_in_sql(struct saga_ctx *ctx, void *arg)
{
    (void)arg;
    return saga_exec(ctx, NULL, "SELECT 1 / 0", NULL, 0);
}

static int
refuse_with_failed_transaction(struct saga_ctx *ctx, void *arg)
{
    (void)arg;
    PQclear(PQexec(saga_tx(ctx), "SELECT 1 / 0"));
    return saga_refuse(ctx, "the calculator is broken");
}

static int
commit_inside(struct saga_ctx *ctx, void *arg)
{
    PQclear(PQexec(saga_tx(ctx), "COMMIT"));
    if (arg != NULL)
        PQclear(PQexec(saga_tx(ctx), "BEGIN"));
    return SAGA_DONE;
}

static int
retry_later(struct saga_ctx *ctx, void *arg)
{
    (void)arg;
    return saga_retry_after(ctx, 5000, "the warehouse is closed");
}

static int
refuse_at_length(struct saga_ctx *ctx, void *arg)
{
    return saga_refuse(ctx, arg);
}

/* A reason that PostgreSQL does not take would be tried again for ever. */
START_TEST(test_command_refused_with_any_reason_is_answered)
{
    char umlauts[2 * SAGA_REASON_MAX + 2] = "x";
    const char *const reasons[] = { umlauts, "not \xFF UTF-8", "", NULL };

    for (size_t i = 0; i < SAGA_REASON_MAX; i++)
        strcat(umlauts, "\xC3\xA4");
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++) {
        struct script script = { .then = refuse_at_length, .arg = (void *)reasons[i] };

        expect_delivered(a_command(i == 0 ? SAGA_1 : SAGA_2, "scripted", "run", "{}"), &script);
        ck_assert_str_eq(reply_header(conn, (int)i, "saga-outcome"), "refused");
        db_exec(conn, "TRUNCATE idempotency.barrier");
    }
    ck_assert_int_eq(strlen(reply_header(conn, 0, "saga-reason")), SAGA_REASON_MAX);
    ck_assert_str_eq(reply_header(conn, 1, "saga-reason"), "not ? UTF-8");
}
END_TEST

/* trap: S19 */
START_TEST(test_command_without_final_answer_leaves_nothing)
{
    int wait = SAGA_WAIT, retry = SAGA_RETRY, error = SAGA_ELIMIT, undefined = 99;
    struct script scripts[] = {
        { .then = answer_of, .arg = &wait },
        { .then = answer_of, .arg = &retry },
        { .then = answer_of, .arg = &error },
        { .then = answer_of, .arg = &undefined },
        { .then = fail_in_sql },
        { .then = refuse_with_failed_transaction },
        { .then = retry_later },
    };

    for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++) {
        struct saga_record command = a_command(SAGA_1, "scripted", "run", "{}");

        ck_assert_int_ne(deliver(conn, &command, &scripts[i]), 0);
        ck_assert_int_ne(deliver_error.code, 0);
        ck_assert_int_eq(scripts[i].calls, 1);
        expect_step_effects(conn, SAGA_1, "scripted", 0, 0);
        ck_assert_int_eq(barrier_rows() + reply_count(conn), 0);
        ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM idempotency.inbox"), 0);
    }
    ck_assert_ptr_nonnull(strstr(deliver_error.message, "the warehouse is closed"));
}
END_TEST

START_TEST(test_command_whose_function_ends_the_transaction_is_an_error)
{
    struct script ends = { .then = commit_inside };
    struct script ends_and_begins = { .then = commit_inside, .arg = &ends };
    struct saga_record command = a_command(SAGA_1, "scripted", "run", "{}");

    ck_assert_int_lt(deliver(conn, &command, &ends), 0);
    command = a_command(SAGA_2, "scripted", "run", "{}");
    ck_assert_int_lt(deliver(conn, &command, &ends_and_begins), 0);
    ck_assert_int_eq(reply_count(conn), 0);
}
END_TEST

/* --- the same answer, always --------------------------------------------------- */

/* trap: I17 */
START_TEST(test_command_i17_done_then_world_drained_is_answered_done)
{
    expect_delivered(a_command(SAGA_1, "reserve", "run", LAMP), NULL);
    db_exec(conn, "UPDATE stock SET free = 0");
    expect_delivered(a_command(SAGA_1, "reserve", "run", LAMP), NULL);
    expect_step_effects(conn, SAGA_1, "reserve", 1, 0);
    expect_reply(conn, 1, "run", "done", NULL);
    ck_assert_str_eq(reply_payload(conn, 1), reply_payload(conn, 0));
}
END_TEST

/* trap: I17 */
START_TEST(test_command_i17_refused_then_world_restored_is_answered_refused)
{
    db_exec(conn, "UPDATE stock SET free = 0");
    expect_delivered(a_command(SAGA_1, "reserve", "run", LAMP), NULL);
    db_exec(conn, "UPDATE stock SET free = 5");
    expect_delivered(a_command(SAGA_1, "reserve", "run", LAMP), NULL);
    ck_assert_int_eq(stock(), 5);
    expect_step_effects(conn, SAGA_1, "reserve", 0, 0);
    expect_reply(conn, 1, "run", "refused", "out of stock");
}
END_TEST

/* The reply was never published, or got lost: the same record comes again, or
 * the orchestrator asks anew. trap: I18 */
START_TEST(test_command_i18_duplicate_is_answered_each_time)
{
    struct saga_record command = a_command(SAGA_1, "reserve", "run", LAMP);

    expect_delivered(command, NULL);
    db_exec(conn, "CREATE TEMP TABLE first AS SELECT * FROM outbox.message");
    for (int i = 1; i < 4; i++)
        expect_delivered(i % 2 != 0 ? command : with_new_id(command), NULL);
    ck_assert_int_eq(reply_count(conn), 4);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM outbox.message m JOIN first f"
                                  " USING (topic, key, headers, payload)"),
                     4);
    /* An orchestrator that had no use for the first must not skip the others. */
    ck_assert_int_eq(db_int(conn, "SELECT count(DISTINCT message_id) FROM outbox.message"), 4);
    expect_step_effects(conn, SAGA_1, "reserve", 1, 0);
}
END_TEST

/* The inbox row, the barrier and the effect are one: whatever a refusal undoes,
 * the answer is not. trap: I14 */
START_TEST(test_command_i14_refusal_is_stored_beside_what_it_undoes)
{
    struct saga_record command = a_command(SAGA_1, "reserve", "run", LAMP);

    db_exec(conn, "UPDATE stock SET free = 0");
    expect_delivered(command, NULL);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM idempotency.inbox"), 1);
    ck_assert_int_eq(barrier_rows(), 1);
    ck_assert_int_eq(reply_count(conn), 1);
    expect_step_effects(conn, SAGA_1, "reserve", 0, 0);
}
END_TEST

START_TEST(test_command_two_sagas_do_not_share_answers)
{
    expect_delivered(a_command(SAGA_1, "reserve", "run", LAMP), NULL);
    expect_delivered(a_command(SAGA_2, "reserve", "run", LAMP), NULL);
    ck_assert_int_eq(stock(), 0);
    expect_step_effects(conn, SAGA_2, "reserve", 1, 0);
}
END_TEST

/* --- compensations -------------------------------------------------------------- */

START_TEST(test_compensation_undoes_what_was_done_once)
{
    expect_delivered(a_command(SAGA_1, "reserve", "run", LAMP), NULL);
    expect_delivered(a_command(SAGA_1, "reserve", "compensate", LAMP), NULL);
    expect_delivered(a_command(SAGA_1, "reserve", "compensate", LAMP), NULL);
    ck_assert_int_eq(stock(), 2);
    expect_step_effects(conn, SAGA_1, "reserve", 1, 1);
    expect_reply(conn, 1, "compensate", "done", NULL);
    expect_reply(conn, 2, "compensate", "done", NULL);
}
END_TEST

/* trap: I19 */
START_TEST(test_compensation_i19_null_succeeds_and_late_step_is_refused)
{
    expect_delivered(a_command(SAGA_1, "reserve", "compensate", LAMP), NULL);
    expect_delivered(a_command(SAGA_1, "reserve", "run", LAMP), NULL);
    expect_delivered(a_command(SAGA_1, "reserve", "compensate", LAMP), NULL);
    ck_assert_int_eq(stock(), 2);
    expect_step_effects(conn, SAGA_1, "reserve", 0, 0);
    expect_reply(conn, 0, "compensate", "done", "nothing to undo");
    expect_reply(conn, 1, "run", "refused", "compensated before it came");
    expect_reply(conn, 2, "compensate", "done", "nothing to undo");
}
END_TEST

/* The refusal was answered too late, and the orchestrator has turned round.
 * trap: I27 */
START_TEST(test_compensation_i27_of_refused_step_does_nothing)
{
    db_exec(conn, "UPDATE stock SET free = 0");
    expect_delivered(a_command(SAGA_1, "reserve", "run", LAMP), NULL);
    expect_delivered(a_command(SAGA_1, "reserve", "compensate", LAMP), NULL);
    ck_assert_int_eq(stock(), 0);
    expect_step_effects(conn, SAGA_1, "reserve", 0, 0);
    expect_reply(conn, 1, "compensate", "done", "nothing to undo");
}
END_TEST

/* trap: I27 */
START_TEST(test_compensation_i27_that_fails_is_not_stored)
{
    int refused = SAGA_REFUSED;
    struct script fine = { 0 }, fails = { .then = fail_in_sql };
    struct script refuses = { .then = answer_of, .arg = &refused };
    struct saga_record undo = a_command(SAGA_1, "scripted", "compensate", "{}");

    expect_delivered(a_command(SAGA_1, "scripted", "run", "{}"), &fine);
    ck_assert_int_ne(deliver(conn, &undo, &fails), 0);
    ck_assert_int_ne(deliver(conn, &undo, &refuses), 0);
    ck_assert_int_eq(barrier_rows(), 1);
    expect_delivered(undo, &fine);
    expect_step_effects(conn, SAGA_1, "scripted", 1, 1);
    expect_reply(conn, 1, "compensate", "done", NULL);
}
END_TEST

/* --- what cannot be handled ------------------------------------------------------- */

static void
expect_malformed(struct saga_record command, const char *why)
{
    ck_assert_int_eq(deliver(conn, &command, NULL), SAGA_EINVAL);
    ck_assert_msg(strstr(deliver_error.message, why) != NULL, "%s", deliver_error.message);
    ck_assert_int_eq(barrier_rows() + reply_count(conn), 0);
}

START_TEST(test_command_malformed_is_named_and_leaves_nothing)
{
    struct saga_record good = a_command(SAGA_1, "reserve", "run", LAMP);

    expect_malformed(with_header(good, "saga-id", NULL), "saga-id");
    expect_malformed(with_header(good, "saga-action", "undo"), "saga-action");
    expect_malformed(with_header(good, "saga-reply-to", "no topic!"), "saga-reply-to");
    expect_malformed(with_header(good, "saga-step", "paint"), "no step 'paint'");
    expect_malformed(a_command(SAGA_1, "charge", "compensate", "{}"), "no function");
    expect_malformed(a_command(SAGA_1, "reserve", "run", NULL), "no payload");
    expect_malformed(a_command(SAGA_1, "reserve", "run", ""), "not a JSON object");
    expect_malformed(a_command(SAGA_1, "reserve", "run", "[1]"), "not a JSON object");
    expect_malformed(a_command(SAGA_1, "reserve", "run", "{\"sku\": "), "not a JSON object");
    expect_malformed(a_command(SAGA_1, "reserve", "run", "{\"sku\": \"\xFF\"}"),
                     "not a JSON object");
    expect_malformed(a_command(SAGA_1, "reserve", "run", "{\"sku\": \"\\u0000\"}"),
                     "not a JSON object");
}
END_TEST

/* Whoever waits for the server to like it waits for ever, and those behind it, too. */
START_TEST(test_command_nested_too_deep_is_malformed)
{
    enum { DEPTH = 100000 };
    char *payload = malloc(DEPTH + 16);

    memcpy(payload, "{\"a\": ", 6);
    memset(payload + 6, '[', DEPTH);
    payload[6 + DEPTH] = '\0';
    expect_malformed(a_command(SAGA_1, "reserve", "run", payload), "not a JSON object");
    free(payload);
}
END_TEST

static int
set_lines(struct saga_ctx *ctx, void *arg)
{
    char lines[40001] = "";

    (void)arg;
    memset(lines, '\n', sizeof lines - 1);
    return saga_set(ctx, "lines", lines);
}

/* As JSON each of them has two bytes; the reply would never be taken. */
START_TEST(test_command_whose_values_are_too_large_as_json_is_not_done)
{
    struct script script = { .then = set_lines };
    struct saga_record command = a_command(SAGA_1, "scripted", "run", "{}");

    ck_assert_int_eq(deliver(conn, &command, &script), SAGA_ESTATE);
    ck_assert_ptr_nonnull(strstr(deliver_error.message, "no room"));
    ck_assert_int_eq(barrier_rows() + reply_count(conn), 0);
}
END_TEST

/* A participant in another language may send what it likes in an object. */
START_TEST(test_command_values_of_other_types_are_texts)
{
    expect_delivered(a_command(SAGA_1, "reserve", "run",
                               "{\"sku\": \"lamp\", \"n\": 3, \"o\": {\"a\": []}, \"z\": null}"),
                     NULL);
    ck_assert_int_eq(stock(), 1);
}
END_TEST

/* The inbox knows it and the barrier does not: somebody removed the answer. */
START_TEST(test_command_answered_and_forgotten_is_not_run_again)
{
    struct saga_record command = a_command(SAGA_1, "reserve", "run", LAMP);

    expect_delivered(command, NULL);
    db_exec(conn, "DELETE FROM idempotency.barrier");
    ck_assert_int_eq(deliver(conn, &command, NULL), SAGA_EINVAL);
    expect_step_effects(conn, SAGA_1, "reserve", 1, 0);
}
END_TEST

/* It was parked, and an operator has given it up: it is not asked for any more. */
static struct saga_record
given_discarded(struct saga_record command)
{
    char id[37];
    int32_t verdict;

    saga_uuid_text(&command.id, id);
    ck_assert_int_eq(saga_begin(conn, NULL), 0);
    ck_assert_int_eq(saga_inbox_enter(conn, GROUP, &command, &verdict, NULL), 0);
    db_exec(conn,
            "SELECT idempotency.park('" GROUP "', 't', NULL, '%s', '', 0, 0, '{}', '', 'sick', 9)",
            id);
    ck_assert_int_eq(saga_commit(conn, NULL), 0);
    db_exec(conn, "SELECT idempotency.discard('" GROUP "', '%s', 'nobody wants it')", id);
    return command;
}

START_TEST(test_command_discarded_comes_again_and_is_passed_over)
{
    struct script script = { 0 };
    struct saga_record run = given_discarded(a_command(SAGA_1, "scripted", "run", "{}")), undo;

    expect_delivered(run, &script);
    ck_assert_int_eq(script.calls + barrier_rows() + reply_count(conn), 0);

    /* The next attempt is not what was discarded. */
    expect_delivered(with_new_id(run), &script);
    expect_reply(conn, 0, "run", "done", NULL);
    undo = given_discarded(a_command(SAGA_1, "scripted", "compensate", "{}"));
    expect_delivered(undo, &script);
    ck_assert_int_eq(barrier_rows(), 1);
    expect_delivered(with_new_id(undo), &script);
    expect_reply(conn, 1, "compensate", "done", NULL);
    expect_step_effects(conn, SAGA_1, "scripted", 1, 1);
}
END_TEST

START_TEST(test_command_wrong_calls_are_refused)
{
    struct saga_record command = a_command(SAGA_1, "reserve", "run", LAMP);
    struct saga_error err;

    ck_assert_int_eq(saga_command_handle(conn, GROUP, &inventory, &command, 0, NULL, &err),
                     SAGA_ENOTX);
    ck_assert_int_eq(saga_command_handle(NULL, GROUP, &inventory, &command, 0, NULL, &err),
                     SAGA_EINVAL);
    ck_assert_int_eq(saga_begin(conn, NULL), 0);
    ck_assert_int_eq(saga_command_handle(conn, "", &inventory, &command, 0, NULL, &err),
                     SAGA_EINVAL);
    ck_assert_int_eq(saga_command_handle(conn, GROUP, NULL, &command, 0, NULL, &err), SAGA_EINVAL);
    ck_assert_int_eq(saga_command_handle(conn, GROUP, &inventory, NULL, 0, NULL, &err),
                     SAGA_EINVAL);
    saga_rollback(conn);
}
END_TEST

/* --- sagas that are forgotten ------------------------------------------------ */

/* The barrier's rows go with their age: SAGA_1 is a year old. */
static void
clean_up(void)
{
    db_exec(conn, "SELECT idempotency.clean_up()");
    ck_assert_int_eq(barrier_rows(), 0);
}

/* trap: I28 */
START_TEST(test_command_of_a_forgotten_saga_is_answered_unknown_i28)
{
    struct saga_record undo = a_command(SAGA_1, "reserve", "compensate", LAMP);

    expect_delivered(a_command(SAGA_1, "reserve", "run", LAMP), NULL);
    clean_up();
    expect_delivered(undo, NULL);
    expect_delivered(a_command(SAGA_1, "reserve", "run", LAMP), NULL);
    expect_step_effects(conn, SAGA_1, "reserve", 1, 0);
    ck_assert_str_eq(reply_header(conn, 1, "saga-outcome"), "unknown");
    ck_assert_str_eq(reply_header(conn, 2, "saga-outcome"), "unknown");
    ck_assert_ptr_nonnull(strstr(reply_header(conn, 1, "saga-reason"), "remembers"));

    /* And again when that, too, is forgotten. */
    clean_up();
    expect_delivered(with_new_id(undo), NULL);
    ck_assert_str_eq(reply_header(conn, 3, "saga-outcome"), "unknown");
    expect_step_effects(conn, SAGA_1, "reserve", 1, 0);
}
END_TEST

/* A forged id, or a clock that was wrong. trap: I29 */
START_TEST(test_command_i29_of_a_saga_from_the_future_is_known_since_it_came)
{
    static const char saga[] = "ffffffff-ffff-7a10-8000-0000000000aa";
    struct saga_record run = a_command(saga, "reserve", "run", LAMP);

    expect_delivered(run, NULL);
    db_exec(conn, "SELECT idempotency.clean_up()");
    expect_delivered(with_new_id(run), NULL);
    expect_step_effects(conn, saga, "reserve", 1, 0);
    expect_reply(conn, 1, "run", "done", NULL);
    db_exec(conn, "UPDATE idempotency.barrier SET saga_started_at = saga_started_at - '200 days'"
                  "::interval");
    clean_up();
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "participant/command",
        .setup = setup,
        .tests = TESTS(test_command_of_a_forgotten_saga_is_answered_unknown_i28,
                       test_command_i29_of_a_saga_from_the_future_is_known_since_it_came,
                       test_command_nested_too_deep_is_malformed,
                       test_command_whose_values_are_too_large_as_json_is_not_done,
                       test_command_done_keeps_rows_and_replies_with_values,
                       test_command_refused_undoes_rows_and_replies,
                       test_command_refused_with_any_reason_is_answered,
                       test_command_without_final_answer_leaves_nothing,
                       test_command_whose_function_ends_the_transaction_is_an_error,
                       test_command_i17_done_then_world_drained_is_answered_done,
                       test_command_i17_refused_then_world_restored_is_answered_refused,
                       test_command_i18_duplicate_is_answered_each_time,
                       test_command_i14_refusal_is_stored_beside_what_it_undoes,
                       test_command_two_sagas_do_not_share_answers,
                       test_compensation_undoes_what_was_done_once,
                       test_compensation_i19_null_succeeds_and_late_step_is_refused,
                       test_compensation_i27_of_refused_step_does_nothing,
                       test_compensation_i27_that_fails_is_not_stored,
                       test_command_malformed_is_named_and_leaves_nothing,
                       test_command_values_of_other_types_are_texts,
                       test_command_answered_and_forgotten_is_not_run_again,
                       test_command_discarded_comes_again_and_is_passed_over,
                       test_command_wrong_calls_are_refused) });
}
