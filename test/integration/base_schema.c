/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A database that a later version has migrated: the programs of this one go on, and
 * say so.
 */
#include "base/log.h"
#include "test/support/consumer.h"
#include "test/support/daemon.h"
#include "test/support/db.h"
#include "test/support/outbox.h"
#include "test/support/run.h"
#include "test/support/sagactl.h"

#include <saga/saga.h>
#include <string.h>

static const char newer[] = "the database is newer than this program";
static const char *database;
static PGconn *conn;
static int warnings;

static void
given_newer_database(void)
{
    database = given_database();
    conn = given_session(database);
    db_exec(conn, "INSERT INTO saga.migration (number, name, sha256)"
                  " VALUES (9000, '9000_future', ''), (9001, '9001_more', '')");
}

static void
count_warnings(void *user, int32_t level, const char *message, const struct saga_pair *fields)
{
    log_to_stderr(user, level, message, fields);
    if (strstr(message, newer) == NULL)
        return;
    ck_assert_int_eq(level, SAGA_LOG_WARNING);
    ck_assert_str_eq(fields[0].value, "9000_future, 9001_more");
    warnings++;
}

static const struct saga_log log_of_ours = { .write = count_warnings, .level = SAGA_LOG_WARNING };

START_TEST(test_sagactl_says_that_the_database_is_newer_and_goes_on)
{
    struct answer answer = SAGACTL(database, "list", "--json");

    EXPECT_ANSWER(answer, 0, "newer than this sagactl: it has 9000_future, 9001_more");
    ck_assert_str_eq(answer.out, "[]\n");
    EXPECT_ANSWER(SAGACTL(database, "outbox", "status"), 0, "newer than this sagactl");
    db_exec(conn, "DELETE FROM saga.migration WHERE number >= 9000");
    ck_assert_str_eq(SAGACTL(database, "list").err, "");
}
END_TEST

START_TEST(test_relay_says_that_the_database_is_newer_and_goes_on)
{
    const char *login = text_of("%s options='-c role=saga_relay'", database);
    struct process *relay = start_relay_program(login, NULL, NULL, ARGS("--once"));

    process_expect(relay, 0, 10000);
    ck_assert(has_logged(relay, newer));
    ck_assert(has_logged(relay, "9000_future, 9001_more"));
    db_exec(conn, "DELETE FROM saga.migration WHERE number >= 9000");
    relay = start_relay_program(login, NULL, NULL, ARGS("--once"));
    process_expect(relay, 0, 10000);
    ck_assert(!has_logged(relay, newer));
}
END_TEST

static int
nothing(struct saga_ctx *ctx, void *user)
{
    (void)ctx;
    (void)user;
    return SAGA_DONE;
}

START_TEST(test_worker_says_once_that_the_database_is_newer_and_goes_on)
{
    static const struct saga_step steps[] = { { .name = "a", .kind = SAGA_PIVOT, .run = nothing } };
    static const struct saga_definition one = { SAGA_DEFINITION("one", steps) },
                                        two = { SAGA_DEFINITION("two", steps) };
    struct saga_worker_options options = { SAGA_WORKER_OPTIONS,
                                           .conninfo =
                                               text_of("%s options='-c role=saga_app'", database),
                                           .log = log_of_ours };
    struct saga_worker *worker;
    struct saga_error err;

    ck_assert_int_eq(saga_worker_new(&worker, &options, &err), 0);
    ck_assert_int_eq(saga_worker_add(worker, &one, NULL, &err), 0);
    ck_assert_int_eq(saga_worker_add(worker, &two, NULL, &err), 0);
    ck_assert_int_eq(warnings, 1);
    saga_worker_free(worker);
}
END_TEST

START_TEST(test_consumer_says_that_the_database_is_newer_and_goes_on)
{
    struct fixture *fixture = given_consumer_fixture(1);
    struct saga_consumer *consumer;

    db_exec(fixture->conn, "INSERT INTO saga.migration (number, name, sha256)"
                           " VALUES (9000, '9000_future', ''), (9001, '9001_more', '')");
    consumer = GIVEN_CONSUMER(fixture, .log = count_warnings);
    produce_messages(fixture, 0, 1);
    run_until_idle(consumer);
    ck_assert_int_eq(db_int(fixture->conn, "SELECT count(*) FROM effect"), 1);
    ck_assert_int_eq(warnings, 1);
    free_consumer(consumer);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "base/schema",
        .setup = given_newer_database,
        .tests = TESTS(test_sagactl_says_that_the_database_is_newer_and_goes_on,
                       test_relay_says_that_the_database_is_newer_and_goes_on,
                       test_worker_says_once_that_the_database_is_newer_and_goes_on,
                       test_consumer_says_that_the_database_is_newer_and_goes_on),
    });
}
