/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inbox's call on a user's own connection.
 */
#include "test/support/db.h"
#include "test/support/run.h"
#include "test/support/wait.h"

#include <pthread.h>
#include <saga/inbox.h>
#include <string.h>

static const char *database;
static PGconn *one, *two;
static struct saga_uuid of_now;

static void
setup(void)
{
    database = given_database();
    one = given_session(database);
    two = given_session(database);
    ck_assert_int_eq(saga_uuid_parse(&of_now, db_text(one, "SELECT outbox.uuid_v7()"), NULL), 0);
}

static struct saga_record
record_of(int n)
{
    struct saga_record record = {
        .topic = "topic", .partition = 3, .offset = 7, .hash = { "hash", 4 }
    };

    if (n > 0) {
        record.id = of_now;
        record.id.bytes[15] = (uint8_t)n;
    }
    return record;
}

static int32_t
enter(PGconn *tx, const char *consumer, const struct saga_record *record)
{
    struct saga_error err;
    int32_t verdict = -1;

    ck_assert_msg(saga_inbox_enter(tx, consumer, record, &verdict, &err) == 0, "%s", err.message);
    return verdict;
}

static void
begin(PGconn *conn)
{
    ck_assert_int_eq(saga_begin(conn, NULL), 0);
}

static void
commit(PGconn *conn)
{
    ck_assert_int_eq(saga_commit(conn, NULL), 0);
}

START_TEST(test_inbox_tells_new_duplicate_and_conflict_i10)
{
    struct saga_record record = record_of(1), forged = record_of(1);

    forged.hash.data = "hasg";
    begin(one);
    ck_assert_int_eq(enter(one, "a", &record), SAGA_INBOX_NEW);
    ck_assert_int_eq(enter(one, "a", &record), SAGA_INBOX_DUPLICATE);
    commit(one);
    begin(two);
    ck_assert_int_eq(enter(two, "a", &record), SAGA_INBOX_DUPLICATE);
    ck_assert_int_eq(enter(two, "a", &forged), SAGA_INBOX_CONFLICT);
    commit(two);
    ck_assert_str_eq(db_text(one, "SELECT concat_ws(' ', consumer, topic, partition, \"offset\","
                                  " convert_from(hash, 'UTF8')) FROM idempotency.inbox"),
                     "a topic 3 7 hash");
}
END_TEST

/* trap: I11 */
START_TEST(test_inbox_of_two_consumers_is_two_and_another_topic_is_the_same_i11)
{
    struct saga_record record = record_of(1), redriven = record_of(1);

    redriven.topic = "topic.retry";
    begin(one);
    ck_assert_int_eq(enter(one, "a", &record), SAGA_INBOX_NEW);
    ck_assert_int_eq(enter(one, "b", &record), SAGA_INBOX_NEW);
    ck_assert_int_eq(enter(one, "a", &redriven), SAGA_INBOX_DUPLICATE);
    commit(one);
}
END_TEST

START_TEST(test_inbox_row_goes_with_its_transaction)
{
    struct saga_record record = record_of(1);

    begin(one);
    ck_assert_int_eq(enter(one, "a", &record), SAGA_INBOX_NEW);
    saga_rollback(one);
    begin(one);
    ck_assert_int_eq(enter(one, "a", &record), SAGA_INBOX_NEW);
    commit(one);
}
END_TEST

/* --- a rival in an open transaction ------------------------------------------- */

struct rival {
    struct saga_record record;
    int rc;
    int32_t verdict;
    struct saga_error err;
};

static void *
enter_in_thread(void *arg)
{
    struct rival *rival = arg;

    rival->rc = saga_inbox_enter(two, "a", &rival->record, &rival->verdict, &rival->err);
    return NULL;
}

static bool
somebody_waits(void)
{
    PGconn *conn = db_connect(database);
    bool waits = db_int(conn, "SELECT count(*) FROM pg_locks WHERE NOT granted") > 0;

    PQfinish(conn);
    return waits;
}

/* `two` comes while `one` is at it, in a transaction that began as `level` says. */
static struct rival
race(const char *level, bool winner_commits)
{
    struct rival rival = { .record = record_of(1), .verdict = -1 };
    pthread_t thread;

    begin(one);
    ck_assert_int_eq(enter(one, "a", &rival.record), SAGA_INBOX_NEW);
    db_exec(two, "BEGIN ISOLATION LEVEL %s; SELECT 1", level);
    pthread_create(&thread, NULL, enter_in_thread, &rival);
    WAIT_UNTIL(somebody_waits(), 5000);
    if (winner_commits)
        commit(one);
    else
        saga_rollback(one);
    pthread_join(thread, NULL);
    return rival;
}

START_TEST(test_inbox_loser_waits_and_finds_a_duplicate)
{
    struct rival loser = race("READ COMMITTED", true);

    ck_assert_int_eq(loser.rc, 0);
    ck_assert_int_eq(loser.verdict, SAGA_INBOX_DUPLICATE);
}
END_TEST

/* trap: I2 */
START_TEST(test_inbox_loser_is_the_first_if_the_winner_rolls_back_i2)
{
    struct rival loser = race("READ COMMITTED", false);

    ck_assert_int_eq(loser.rc, 0);
    ck_assert_int_eq(loser.verdict, SAGA_INBOX_NEW);
}
END_TEST

/* trap: I16: what the header promises of the stricter levels */
START_TEST(test_inbox_in_stricter_levels_says_that_it_must_be_repeated_i16)
{
    static const char *const levels[] = { "REPEATABLE READ", "SERIALIZABLE" };

    for (size_t i = 0; i < 2; i++) {
        struct rival loser = race(levels[i], true);

        ck_assert_int_eq(loser.rc, SAGA_EDB);
        ck_assert_str_eq(loser.err.sqlstate, "40001");
        ck_assert(loser.err.flags & SAGA_ERR_RETRIABLE);
        saga_rollback(two);
        db_exec(two, "BEGIN ISOLATION LEVEL %s", levels[i]);
        ck_assert_int_eq(enter(two, "a", &loser.record), SAGA_INBOX_DUPLICATE);
        db_exec(two, "ROLLBACK; TRUNCATE idempotency.inbox");
    }
}
END_TEST

/* --- wrong use ------------------------------------------------------------------ */

START_TEST(test_inbox_refuses_wrong_use_without_touching_the_transaction)
{
    struct saga_record record = record_of(1), no_id = record_of(0), no_topic = record_of(1);
    struct saga_error err;
    int32_t verdict = 77;

    no_topic.topic = "";
    ck_assert_int_eq(saga_inbox_enter(one, "a", &record, &verdict, &err), SAGA_ENOTX);
    begin(one);
    ck_assert_int_eq(saga_inbox_enter(NULL, "a", &record, &verdict, &err), SAGA_EINVAL);
    ck_assert_int_eq(saga_inbox_enter(one, "", &record, &verdict, &err), SAGA_EINVAL);
    ck_assert_int_eq(saga_inbox_enter(one, NULL, &record, &verdict, &err), SAGA_EINVAL);
    ck_assert_int_eq(saga_inbox_enter(one, "a", NULL, &verdict, &err), SAGA_EINVAL);
    ck_assert_int_eq(saga_inbox_enter(one, "a", &record, NULL, &err), SAGA_EINVAL);
    ck_assert_int_eq(saga_inbox_enter(one, "a", &no_id, &verdict, &err), SAGA_EINVAL);
    ck_assert_int_eq(saga_inbox_enter(one, "a", &no_topic, &verdict, NULL), SAGA_EINVAL);
    ck_assert_int_eq(PQenterPipelineMode(one), 1);
    ck_assert_int_eq(saga_inbox_enter(one, "a", &record, &verdict, &err), SAGA_EINVAL);
    ck_assert_int_eq(PQexitPipelineMode(one), 1);
    ck_assert_int_eq(PQsendQuery(one, "CREATE TEMP TABLE mine AS SELECT 1"), 1);
    ck_assert_int_eq(saga_inbox_enter(one, "a", &record, &verdict, &err), SAGA_EINVAL);
    for (PGresult *result; (result = PQgetResult(one)) != NULL;)
        PQclear(result);
    ck_assert_int_eq(verdict, 77);
    ck_assert_int_eq(enter(one, "a", &record), SAGA_INBOX_NEW);
    commit(one);
}
END_TEST

START_TEST(test_inbox_without_its_schema_says_what_to_do)
{
    struct saga_record record = record_of(1);
    PGconn *conn = db_connect(given_empty_database());
    struct saga_error err;
    int32_t verdict;

    begin(conn);
    ck_assert_int_eq(saga_inbox_enter(conn, "a", &record, &verdict, &err), SAGA_ESCHEMA);
    ck_assert_ptr_nonnull(strstr(err.message, "migrate up"));
    PQfinish(conn);
}
END_TEST

START_TEST(test_inbox_needs_no_more_than_the_role_saga_app)
{
    struct saga_record record = record_of(1);

    db_exec(one, "SET ROLE saga_app");
    begin(one);
    ck_assert_int_eq(enter(one, "a", &record), SAGA_INBOX_NEW);
    ck_assert_int_eq(enter(one, "a", &record), SAGA_INBOX_DUPLICATE);
    commit(one);
    ck_assert_str_eq(db_refusal(one, "DELETE FROM idempotency.inbox"), "42501");
    ck_assert_str_eq(db_refusal(one, "UPDATE idempotency.inbox SET hash = ''"), "42501");
    ck_assert_str_eq(db_refusal(one, "DELETE FROM idempotency.quarantine"), "42501");
    ck_assert_str_eq(db_refusal(one, "DELETE FROM idempotency.consumer_offset"), "42501");
    db_exec(one, "SET ROLE saga_monitor");
    ck_assert_int_eq(db_int(one, "SELECT count(*) FROM idempotency.inbox"), 1);
    ck_assert_str_eq(
        db_refusal(one, "INSERT INTO idempotency.consumer_offset VALUES ('a', 'b', 0, 0)"),
        "42501");
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "idempotency_inbox",
        .tests = TESTS(test_inbox_tells_new_duplicate_and_conflict_i10,
                       test_inbox_of_two_consumers_is_two_and_another_topic_is_the_same_i11,
                       test_inbox_row_goes_with_its_transaction,
                       test_inbox_loser_waits_and_finds_a_duplicate,
                       test_inbox_loser_is_the_first_if_the_winner_rolls_back_i2,
                       test_inbox_in_stricter_levels_says_that_it_must_be_repeated_i16,
                       test_inbox_refuses_wrong_use_without_touching_the_transaction,
                       test_inbox_without_its_schema_says_what_to_do,
                       test_inbox_needs_no_more_than_the_role_saga_app),
        .setup = setup,
    });
}
