/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starting a saga: once for a business key, together with the caller's own
 * rows or not at all, and with an answer to every wrong use.
 */
#include "test/support/db.h"
#include "test/support/process.h"
#include "test/support/run.h"
#include "test/support/steps.h"
#include "test/support/wait.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

enum { STARTERS = 32 };

static const char *conninfo;
static PGconn *conn;
static struct saga_uuid id;
static struct saga_error err;

static void
setup(void)
{
    conninfo = given_effects_database(&conn);
    given_worker(conninfo, &scripted);
}

static int
start(PGconn *tx, const char *key, const struct saga_pair *values)
{
    return saga_start(tx, &scripted, key, values, &id, &err);
}

/* --- trap: S9 ------------------------------------------------------------------------ */

static pthread_barrier_t together;

struct starter {
    struct saga_uuid id;
    int rc;
};

static void *
start_at_once(void *arg)
{
    struct starter *starter = arg;
    PGconn *own = PQconnectdb(conninfo);
    struct saga_error ignored;

    pthread_barrier_wait(&together);
    starter->rc = saga_begin(own, &ignored);
    if (starter->rc == 0)
        starter->rc = saga_start(own, &scripted, "order-42", SAGA_PAIRS({ "sku", "lamp" }),
                                 &starter->id, &ignored);
    if (starter->rc == 0)
        starter->rc = saga_commit(own, &ignored);
    PQfinish(own);
    return NULL;
}

START_TEST(test_start_of_one_key_by_many_at_once_gives_one_saga_s9)
{
    static struct starter starters[STARTERS];
    pthread_t threads[STARTERS];

    pthread_barrier_init(&together, NULL, STARTERS);
    for (int i = 0; i < STARTERS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, start_at_once, &starters[i]), 0);
    for (int i = 0; i < STARTERS; i++)
        pthread_join(threads[i], NULL);

    for (int i = 0; i < STARTERS; i++) {
        ck_assert_int_eq(starters[i].rc, 0);
        ck_assert_mem_eq(&starters[i].id, &starters[0].id, sizeof id);
    }
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM saga.instance"), 1);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM saga.history"), 1);
}
END_TEST

START_TEST(test_start_again_gives_the_first_saga_s9)
{
    const char *first = given_saga(conn, &scripted, "k",
                                   SAGA_PAIRS({ "x", "1" }, { "y", "2" }, { "traceparent", "t1" }));
    const char *again = given_saga(conn, &scripted, "k",
                                   SAGA_PAIRS({ "y", "2" }, { "traceparent", "t2" }, { "x", "1" }));

    ck_assert_str_eq(first, again);
    ck_assert_str_eq(
        db_text(conn, "SELECT saga.start('scripted', 'k', '{\"x\": \"1\", \"y\": \"2\"}')"), first);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM saga.instance"), 1);
    ck_assert_str_eq(db_text(conn, "SELECT traceparent || data FROM saga.instance"),
                     "t1{\"x\": \"1\", \"y\": \"2\"}");
}
END_TEST

START_TEST(test_start_with_other_values_is_refused_and_names_the_first_s9)
{
    const char *first = given_saga(conn, &scripted, "k", SAGA_PAIRS({ "x", "1" }));

    ck_assert_int_eq(saga_begin(conn, &err), 0);
    ck_assert_int_eq(start(conn, "k", SAGA_PAIRS({ "x", "2" })), SAGA_EMISMATCH);
    ck_assert_ptr_nonnull(strstr(err.message, first));
    ck_assert((err.flags & SAGA_ERR_TX_ABORTED) != 0);
    saga_rollback(conn);
    ck_assert_str_eq(db_refusal(conn, "SELECT saga.start('scripted', 'k', '{}')"), "SG002");
}
END_TEST

static void *
start_in_thread(void *arg)
{
    struct starter *starter = arg;
    PGconn *own = PQconnectdb(conninfo);
    struct saga_error ignored;

    PQclear(PQexec(own, "SET application_name = 'rival'"));
    starter->rc = saga_begin(own, &ignored);
    if (starter->rc == 0)
        starter->rc = saga_start(own, &scripted, "k", NULL, &starter->id, &ignored);
    if (starter->rc == 0)
        starter->rc = saga_commit(own, &ignored);
    PQfinish(own);
    return NULL;
}

static void
check_rival(bool first_commits)
{
    struct starter rival;
    pthread_t thread;
    PGconn *other = db_connect(conninfo);

    ck_assert_int_eq(saga_begin(conn, &err), 0);
    ck_assert_int_eq(start(conn, "k", NULL), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, start_in_thread, &rival), 0);
    WAIT_UNTIL(db_int(other, "SELECT count(*) FROM pg_stat_activity WHERE application_name ="
                             " 'rival' AND wait_event_type = 'Lock'") == 1,
               8000);
    if (first_commits)
        ck_assert_int_eq(saga_commit(conn, &err), 0);
    else
        saga_rollback(conn);
    pthread_join(thread, NULL);
    ck_assert_int_eq(rival.rc, 0);
    ck_assert_int_eq(memcmp(&rival.id, &id, sizeof id) == 0, first_commits);
    ck_assert_int_eq(db_int(other, "SELECT count(*) FROM saga.instance"), 1);
    PQfinish(other);
}

START_TEST(test_start_waits_for_a_rival_that_commits_s9)
{
    check_rival(true);
}
END_TEST

START_TEST(test_start_waits_for_a_rival_that_rolls_back_s9)
{
    check_rival(false);
}
END_TEST

START_TEST(test_start_waits_for_a_rival_no_longer_than_the_statement_may_take_s9)
{
    PGconn *other = db_connect(conninfo);

    ck_assert_int_eq(saga_begin(conn, &err), 0);
    ck_assert_int_eq(start(conn, "k", NULL), 0);
    db_exec(other, "SET statement_timeout = 50");
    ck_assert_int_eq(saga_begin(other, &err), 0);
    ck_assert_int_eq(start(other, "k", NULL), SAGA_EDB);
    ck_assert_str_eq(err.sqlstate, "57014");
    ck_assert((err.flags & SAGA_ERR_RETRIABLE) != 0);
    saga_rollback(conn);
    PQfinish(other);
}
END_TEST

/* --- trap: S10 ------------------------------------------------------------------------- */

START_TEST(test_start_goes_with_the_callers_transaction_s10)
{
    db_exec(conn, "CREATE TABLE test.orders (number text)");
    ck_assert_int_eq(saga_begin(conn, &err), 0);
    db_exec(conn, "INSERT INTO test.orders VALUES ('k')");
    ck_assert_int_eq(start(conn, "k", NULL), 0);
    saga_rollback(conn);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM saga.instance"), 0);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM saga.business_key"), 0);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM saga.history"), 0);
    given_saga(conn, &scripted, "k", NULL);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM saga.instance"), 1);
}
END_TEST

START_TEST(test_start_outside_a_transaction_is_refused_s10)
{
    ck_assert_int_eq(start(conn, "k", NULL), SAGA_ENOTX);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM saga.instance"), 0);
}
END_TEST

/* A service that is killed around its COMMIT: business row and saga are both
 * there, or neither is. */
START_TEST(test_start_and_business_row_share_a_kill_s10)
{
    db_exec(conn, "CREATE TABLE test.orders (number text)");
    for (int round = 0; round < 6; round++) {
        struct process *service = start_process(ARGS("test/programs/saga_starter", conninfo), NULL);
        int64_t before = db_int(conn, "SELECT count(*) FROM test.orders");

        WAIT_UNTIL(db_int(conn, "SELECT count(*) FROM test.orders") > before + round * 3, 8000);
        process_kill(service);
        WAIT_UNTIL(db_int(conn, "SELECT count(*) FROM pg_stat_activity WHERE application_name ="
                                " 'saga_starter'") == 0,
                   8000);
        ck_assert_int_eq(
            db_int(conn, "SELECT count(*) FROM test.orders o FULL JOIN saga.instance i"
                         " ON i.business_key = o.number WHERE o.number IS NULL OR i.id IS NULL"),
            0);
    }
}
END_TEST

/* --- wrong use -------------------------------------------------------------------------- */

START_TEST(test_start_of_a_definition_that_nobody_registered_says_what_to_do)
{
    struct saga_definition unknown = scripted;

    unknown.name = "unheard-of";
    ck_assert_int_eq(saga_begin(conn, &err), 0);
    ck_assert_int_eq(saga_start(conn, &unknown, "k", NULL, NULL, &err), SAGA_ENOTFOUND);
    ck_assert_ptr_nonnull(strstr(err.message, "start a worker first"));
    saga_rollback(conn);
}
END_TEST

START_TEST(test_start_refuses_what_is_malformed)
{
    static char big[SAGA_VALUES_MAX + 2], long_key[SAGA_BUSINESS_KEY_MAX + 2];

    memset(big, 'x', sizeof big - 1);
    memset(long_key, 'k', sizeof long_key - 1);
    ck_assert_int_eq(saga_begin(conn, &err), 0);
    ck_assert_int_eq(start(NULL, "k", NULL), SAGA_EINVAL);
    ck_assert_int_eq(start(conn, NULL, NULL), SAGA_EINVAL);
    ck_assert_int_eq(start(conn, "", NULL), SAGA_EINVAL);
    ck_assert_int_eq(start(conn, long_key, NULL), SAGA_ELIMIT);
    ck_assert_int_eq(start(conn, "k\xFF", NULL), SAGA_EINVAL);
    ck_assert_int_eq(start(conn, "k", SAGA_PAIRS({ "a b", "x" })), SAGA_EINVAL);
    ck_assert_int_eq(start(conn, "k", SAGA_PAIRS({ "a", NULL })), SAGA_EINVAL);
    ck_assert_int_eq(start(conn, "k", SAGA_PAIRS({ "a", "\xC3" })), SAGA_EINVAL);
    ck_assert_int_eq(start(conn, "k", SAGA_PAIRS({ "a", big })), SAGA_ELIMIT);
    ck_assert_int_eq(saga_start(conn, NULL, "k", NULL, NULL, &err), SAGA_EINVAL);
    ck_assert_int_eq(start(conn, "k", NULL), 0); /* the transaction is unharmed */
    ck_assert_int_eq(saga_commit(conn, &err), 0);
}
END_TEST

START_TEST(test_start_in_sql_refuses_what_is_malformed)
{
    ck_assert_str_eq(db_refusal(conn, "SELECT saga.start('scripted', '')"), "22023");
    ck_assert_str_eq(db_refusal(conn, "SELECT saga.start('scripted', NULL)"), "22023");
    ck_assert_str_eq(db_refusal(conn, "SELECT saga.start('scripted', 'k', '[]')"), "22023");
    ck_assert_str_eq(db_refusal(conn, "SELECT saga.start('scripted', 'k', '{\"x\": null}')"),
                     "22023");
    ck_assert_str_eq(db_refusal(conn, "SELECT saga.start('scripted', 'k', '{\"x\": {}}')"),
                     "22023");
    ck_assert_str_eq(db_refusal(conn, "SELECT saga.start('scripted', repeat('k', 513))"), "54000");
    ck_assert_str_eq(db_refusal(conn, "SELECT saga.start('scripted', 'k',"
                                      " jsonb_build_object('x', repeat('x', 70000)))"),
                     "54000");
    ck_assert_str_eq(db_refusal(conn, "SELECT saga.start('unheard-of', 'k')"), "P0002");
}
END_TEST

START_TEST(test_start_without_the_schema_says_what_to_do)
{
    PGconn *empty = db_connect(given_empty_database());
    const char *state;

    ck_assert_int_eq(saga_begin(empty, &err), 0);
    ck_assert_int_eq(start(empty, "k", NULL), SAGA_ESCHEMA);
    ck_assert_ptr_nonnull(strstr(err.message, "sagactl migrate up"));
    saga_rollback(empty);
    ck_assert_int_eq(saga_state(empty, &id, &state, &err), SAGA_ESCHEMA);
    PQfinish(empty);
}
END_TEST

START_TEST(test_state_of_a_saga)
{
    const char *state = NULL;

    ck_assert_int_eq(saga_uuid_parse(&id, given_saga(conn, &scripted, "k", NULL), &err), 0);
    ck_assert_int_eq(saga_state(conn, &id, &state, &err), 0);
    ck_assert_str_eq(state, "running");
    id.bytes[15] ^= 1;
    ck_assert_int_eq(saga_state(conn, &id, &state, &err), SAGA_ENOTFOUND);
    ck_assert_int_eq(saga_state(conn, NULL, &state, &err), SAGA_EINVAL);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "saga/start",
        .setup = setup,
        .tests =
            TESTS(test_start_of_one_key_by_many_at_once_gives_one_saga_s9,
                  test_start_again_gives_the_first_saga_s9,
                  test_start_with_other_values_is_refused_and_names_the_first_s9,
                  test_start_waits_for_a_rival_that_commits_s9,
                  test_start_waits_for_a_rival_that_rolls_back_s9,
                  test_start_waits_for_a_rival_no_longer_than_the_statement_may_take_s9,
                  test_start_goes_with_the_callers_transaction_s10,
                  test_start_outside_a_transaction_is_refused_s10,
                  test_start_and_business_row_share_a_kill_s10,
                  test_start_of_a_definition_that_nobody_registered_says_what_to_do,
                  test_start_refuses_what_is_malformed, test_start_in_sql_refuses_what_is_malformed,
                  test_start_without_the_schema_says_what_to_do, test_state_of_a_saga) });
}
