/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a step function gets and says: statements, values, and which answer
 * counts when several were given.
 */
#include "saga/context.h"
#include "test/support/db.h"
#include "test/support/run.h"

#include <string.h>

static PGconn *conn;
static struct pg pg;
static struct saga_ctx ctx;
static struct saga_error err;

static void
setup(void)
{
    static const struct saga_uuid id = { { 1, 2, 3 } };

    conn = db_connect(given_empty_database());
    db_exec(conn, "CREATE TABLE stock (sku text, free int, since date)");
    db_exec(conn, "INSERT INTO stock VALUES ('lamp', 2, '2026-01-01')");
    db_exec(conn, "BEGIN");
    pg = pg_borrow(conn);
    context_init(&ctx, &pg, &id, 3);
}

static void
teardown(void)
{
    context_clear(&ctx);
    PQfinish(conn);
}

/* --- statements ------------------------------------------------------------------------ */

START_TEST(test_exec_gives_texts_to_columns_of_every_type)
{
    ck_assert_int_eq(saga_exec(&ctx, "none",
                               "UPDATE stock SET free = free - $1, since = $3"
                               " WHERE sku = $2 AND free >= $1",
                               SAGA_TEXTS("2", "lamp", "2026-02-03")),
                     SAGA_DONE);
    ck_assert_str_eq(db_text(conn, "SELECT free || ' ' || since FROM stock"), "0 2026-02-03");
    ck_assert_int_eq(saga_exec(&ctx, "none", "UPDATE stock SET sku = $1", SAGA_TEXTS(NULL)), 0);
    ck_assert_ptr_null(db_text(conn, "SELECT sku FROM stock"));
}
END_TEST

START_TEST(test_exec_that_touches_no_row_refuses)
{
    ck_assert_int_eq(
        saga_exec(&ctx, "sold out", "UPDATE stock SET free = 0 WHERE sku = $1", SAGA_TEXTS("sofa")),
        SAGA_REFUSED);
    ck_assert_str_eq(ctx.reason, "sold out");
    ck_assert_int_eq(
        saga_exec(&ctx, NULL, "UPDATE stock SET free = 0 WHERE sku = $1", SAGA_TEXTS("sofa")),
        SAGA_DONE);
}
END_TEST

START_TEST(test_exec_that_fails_says_why)
{
    ck_assert_int_eq(saga_exec(&ctx, NULL, "UPDATE no_such_table SET x = 1", NULL, 0), SAGA_EDB);
    ck_assert_ptr_nonnull(strstr(ctx.reason, "no_such_table"));
    ck_assert_ptr_null(strstr(ctx.reason, "migrate"));
}
END_TEST

START_TEST(test_exec_refuses_wrong_use)
{
    const char *params[33] = { NULL };

    ck_assert_int_eq(saga_exec(&ctx, NULL, NULL, NULL, 0), SAGA_EINVAL);
    ck_assert_int_eq(saga_exec(&ctx, NULL, "SELECT 1", params, 33), SAGA_EINVAL);
    ck_assert_int_eq(saga_exec(&ctx, NULL, "SELECT $1", NULL, 1), SAGA_EINVAL);
}
END_TEST

/* --- which answer counts ----------------------------------------------------------------- */

static int
touches_nothing(void)
{
    return saga_exec(&ctx, "none left", "UPDATE stock SET free = 0 WHERE sku = 'sofa'", NULL, 0);
}

static int
says_done_though_refused(struct saga_ctx *c, void *user)
{
    (void)c;
    (void)user;
    ck_assert_int_eq(touches_nothing(), SAGA_REFUSED);
    return SAGA_DONE;
}

static int
says_done_though_failed(struct saga_ctx *c, void *user)
{
    (void)user;
    ck_assert_int_eq(saga_exec(c, NULL, "SELECT 1 / 0", NULL, 0), SAGA_EDB);
    return SAGA_DONE;
}

static int
says_retry_after_a_refusal(struct saga_ctx *c, void *user)
{
    (void)user;
    return touches_nothing() == SAGA_REFUSED ? saga_retry_after(c, 50, "later") : SAGA_DONE;
}

static int
refuses(struct saga_ctx *c, void *user)
{
    (void)user;
    return saga_refuse(c, "asked to");
}

static int
retries(struct saga_ctx *c, void *user)
{
    (void)user;
    return saga_retry_after(c, 70, "busy");
}

static int
answers_nonsense(struct saga_ctx *c, void *user)
{
    (void)c;
    return *(int *)user;
}

static int
fails_behind_our_back(struct saga_ctx *c, void *user)
{
    (void)user;
    PQclear(PQexec(saga_tx(c), "SELECT 1 / 0"));
    return SAGA_DONE;
}

static int
rolls_back(struct saga_ctx *c, void *user)
{
    (void)user;
    PQclear(PQexec(saga_tx(c), "ROLLBACK"));
    return SAGA_DONE;
}

START_TEST(test_gravest_answer_counts)
{
    static const struct {
        saga_step_fn *fn;
        int answer;
        const char *reason;
    } cases[] = {
        { says_done_though_refused, SAGA_REFUSED, "none left" },
        { says_retry_after_a_refusal, SAGA_REFUSED, "none left" },
        { refuses, SAGA_REFUSED, "asked to" },
        { retries, SAGA_RETRY, "busy" },
        { says_done_though_failed, SAGA_EDB, "division by zero" },
        { fails_behind_our_back, SAGA_ESTATE, "a statement of the step has failed" },
        { rolls_back, SAGA_ESTATE, "the step function has ended the transaction" },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        static const struct saga_uuid id;
        int answer;

        db_exec(conn, "ROLLBACK");
        db_exec(conn, "BEGIN");
        context_clear(&ctx);
        context_init(&ctx, &pg, &id, 1);
        answer = context_run(&ctx, cases[i].fn, NULL, &err);
        ck_assert_msg(answer == cases[i].answer, "%zu: %d", i, answer);
        ck_assert_str_eq(ctx.reason, cases[i].reason);
    }
}
END_TEST

START_TEST(test_answer_that_is_none_is_an_error)
{
    int nonsense = 42, code = SAGA_EMISMATCH;

    ck_assert_int_eq(context_run(&ctx, answers_nonsense, &nonsense, &err), SAGA_EINVAL);
    context_clear(&ctx);
    context_init(&ctx, &pg, &(struct saga_uuid){ { 0 } }, 1);
    ck_assert_int_eq(context_run(&ctx, answers_nonsense, &code, &err), SAGA_EMISMATCH);
    ck_assert_str_eq(ctx.reason, saga_error_text(SAGA_EMISMATCH));
}
END_TEST

START_TEST(test_reason_that_is_no_text_is_cut)
{
    ck_assert_int_eq(saga_refuse(&ctx, "caf\xC3"), SAGA_REFUSED);
    ck_assert_str_eq(ctx.reason, "caf");
}
END_TEST

/* --- values ---------------------------------------------------------------------------------- */

static void
given_values(const char *array)
{
    struct pg_rows rows = PG_ROWS_INIT;

    ck_assert_int_eq(pg_exec(&pg, text_of("SELECT %s::text[]", array), PG_NO_ARGS, &rows, &err), 0);
    ck_assert_int_eq(context_take(&ctx, pg_bytes(&rows, 0, 0), &err), 0);
    pg_rows_clear(&rows);
}

START_TEST(test_values_are_read_by_their_names)
{
    given_values("ARRAY['a', 'x', 'n', '7', 'z', NULL, 'e', '']");
    ck_assert_str_eq(saga_get(&ctx, "a"), "x");
    ck_assert_str_eq(saga_get(&ctx, "n"), "7");
    ck_assert_str_eq(saga_get(&ctx, "e"), "");
    ck_assert_ptr_null(saga_get(&ctx, "z"));
    ck_assert_ptr_null(saga_get(&ctx, "nothing"));
    ck_assert_ptr_null(saga_get(&ctx, NULL));
    ck_assert_str_eq(saga_id(&ctx), "01020300-0000-0000-0000-000000000000");
    ck_assert_int_eq(saga_attempt(&ctx), 3);
    given_values("'{}'");
}
END_TEST

START_TEST(test_set_changes_only_what_it_names)
{
    struct buffer json = { 0 };

    context_changes_json(&ctx, &json);
    ck_assert_uint_eq(json.len, 0);
    given_values("ARRAY['a', 'x', 'b', 'y']");
    ck_assert_int_eq(saga_set(&ctx, "b", "new"), 0);
    ck_assert_int_eq(saga_set(&ctx, "c", "\"quoted\"\\"), 0);
    ck_assert_str_eq(saga_get(&ctx, "b"), "new");
    context_changes_json(&ctx, &json);
    buffer_add(&json, "", 1);
    ck_assert_str_eq((const char *)json.data, "{\"b\":\"new\",\"c\":\"\\\"quoted\\\"\\\\\"}");
    buffer_clear(&json);
}
END_TEST

START_TEST(test_set_refuses_wrong_use)
{
    static char big[SAGA_VALUES_MAX - 8]; /* {"a": ""} and the end of the text */
    static char bigger[sizeof big + 1];

    memset(big, 'x', sizeof big - 1);
    memset(bigger, 'x', sizeof bigger - 1);
    ck_assert_int_eq(saga_set(&ctx, NULL, "x"), SAGA_EINVAL);
    ck_assert_int_eq(saga_set(&ctx, "a b", "x"), SAGA_EINVAL);
    ck_assert_int_eq(saga_set(&ctx, "a", NULL), SAGA_EINVAL);
    ck_assert_int_eq(saga_set(&ctx, "a", "\xC3("), SAGA_EINVAL);
    ck_assert_int_eq(saga_set(&ctx, "a", bigger), SAGA_ELIMIT);
    ck_assert_int_eq(saga_set(&ctx, "a", big), 0);
    ck_assert_int_eq(saga_set(&ctx, "a", "small again"), 0);
    ck_assert_int_eq(saga_set(&ctx, "b", big), SAGA_ELIMIT);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "saga/context",
        .setup = setup,
        .teardown = teardown,
        .tests = TESTS(test_exec_gives_texts_to_columns_of_every_type,
                       test_exec_that_touches_no_row_refuses, test_exec_that_fails_says_why,
                       test_exec_refuses_wrong_use, test_gravest_answer_counts,
                       test_answer_that_is_none_is_an_error, test_reason_that_is_no_text_is_cut,
                       test_values_are_read_by_their_names, test_set_changes_only_what_it_names,
                       test_set_refuses_wrong_use) });
}
