/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long the inbox remembers: the ring of days, the low-water mark, ids of
 * long ago and from the future, and forgetting while others write.
 */
#include "test/support/db.h"
#include "test/support/run.h"
#include "test/support/wait.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static const char *database;
static PGconn *conn, *other;

static void
setup(void)
{
    database = given_database();
    conn = given_session(database);
    other = given_session(database);
}

/* A version-7 id of noon, so many days from now; `n` tells several apart. */
static const char *
id_of_day(int days, int n)
{
    return db_text(
        conn,
        "SELECT overlay(overlay('00000000-0000-7000-8000-%012d' PLACING left(x, 8) FROM 1"
        " FOR 8) PLACING substr(x, 9) FROM 10 FOR 4) FROM lpad(to_hex((floor(extract("
        "epoch FROM now()) / 86400)::bigint + %d) * 86400000 + 43200000), 12, '0') x",
        n, days);
}

/* Words for each, in one text: "fresh duplicate". `ids` and `hashes` are arrays in SQL. */
static const char *
receive(PGconn *tx, const char *consumer, const char *ids, const char *hashes)
{
    return db_text(
        tx,
        "SELECT string_agg(verdict, ' ' ORDER BY n) FROM idempotency.receive('%s',"
        " '{%s}'::uuid[], '{%s}'::bytea[],"
        " array_fill('topic'::text, ARRAY[cardinality('{%s}'::uuid[])]),"
        " array_fill(0, ARRAY[cardinality('{%s}'::uuid[])]),"
        " ARRAY(SELECT n::bigint FROM generate_series(1, cardinality('{%s}'::uuid[])) n))",
        consumer, ids, hashes, ids, ids, ids);
}

static const char *
clean_up(PGconn *tx)
{
    return db_text(tx, "SELECT coalesce(string_agg(did || ' ' || what, ', '), '')"
                       " FROM idempotency.clean_up() WHERE what NOT LIKE '%%barrier%%'");
}

static void
keep(int days)
{
    db_exec(conn, "SELECT idempotency.keep('inbox', '%d days', 'test')", days);
}

/* trap: I10, I12 */
START_TEST(test_receive_tells_of_each_message_in_a_batch_i10_i12)
{
    const char *a = id_of_day(0, 1), *b = id_of_day(-1, 1), *c = id_of_day(-2, 1);
    const char *foreign = "01890a5d-ac96-474b-8000-000000000001";

    ck_assert_str_eq(receive(conn, "c", text_of("%s,%s,%s", a, b, foreign), "x,x,x"),
                     "fresh fresh fresh");
    ck_assert_str_eq(receive(conn, "c",
                             text_of("%s,%s,%s,%s,%s,%s,%s,%s", c, a, b, c, c, foreign,
                                     id_of_day(-40, 1), id_of_day(3, 1)),
                             "x,x,y,x,y,y,x,x"),
                     "fresh duplicate other duplicate other other below future");
    ck_assert_str_eq(receive(conn, "d", text_of("%s,%s", a, foreign), "x,x"), "fresh fresh");
    ck_assert_str_eq(receive(conn, "d", a, "y"), "other");
    ck_assert_str_eq(receive(conn, "d", foreign, "x"), "duplicate");
    ck_assert_int_eq(db_int(conn, "SELECT count(DISTINCT tableoid) FROM idempotency.inbox"), 3);
}
END_TEST

/* A message is in the same partition whatever the time is, and each of the ring's days is in
 * one of its own. */
START_TEST(test_receive_knows_every_day_of_the_ring_i12)
{
    for (int round = 0; round < 2; round++)
        for (int day = -29; day <= 1; day++)
            ck_assert_str_eq(receive(conn, "c", id_of_day(day, 1), "x"),
                             round == 0 ? "fresh" : "duplicate");
    ck_assert_int_eq(db_int(conn, "SELECT count(DISTINCT slot) FROM idempotency.inbox"), 31);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM idempotency.inbox i WHERE i.slot <>"
                                  " idempotency.day_of(uuid_send(i.message_id)) %% 32"),
                     0);
}
END_TEST

/* trap: I13 */
START_TEST(test_inbox_forgets_and_old_messages_are_not_applied_i13)
{
    const char *day_before = id_of_day(-5, 1), *day = id_of_day(-3, 1), *now = id_of_day(0, 1);
    const char *all = text_of("%s,%s,%s", day_before, day, now);

    ck_assert_str_eq(receive(conn, "c", all, "x,x,x"), "fresh fresh fresh");
    keep(3);
    WAIT_UNTIL(strcmp(clean_up(conn), "") == 0, 10000);
    ck_assert_str_eq(receive(conn, "c", all, "x,x,x"), "below duplicate duplicate");
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM idempotency.inbox"), 2);

    /* Keeping more again brings nothing back. */
    keep(9);
    ck_assert_str_eq(clean_up(conn), "");
    ck_assert_str_eq(receive(conn, "c", all, "x,x,x"), "below duplicate duplicate");
}
END_TEST

/* trap: I13: the mark counts when it is read, not when the transaction began. */
START_TEST(test_message_that_is_forgotten_while_it_is_read_is_not_applied_i13)
{
    static const char *const levels[] = { "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE" };

    keep(20);
    clean_up(conn);
    for (int i = 0; i < 3; i++) {
        const char *id = id_of_day(-15 + 4 * i, 1);

        ck_assert_str_eq(receive(conn, "c", id, "x"), "fresh");
        db_exec(other, "BEGIN ISOLATION LEVEL %s; SELECT count(*) FROM pg_class", levels[i]);
        keep(13 - 4 * i);
        WAIT_UNTIL(strcmp(clean_up(conn), "") == 0, 10000);
        ck_assert_str_eq(receive(other, "c", id, "x"), "below");
        db_exec(other, "ROLLBACK");
    }
}
END_TEST

struct receiver {
    pthread_t thread;
    const char *id;
    char sqlstate[6];
};

static void *
receive_in_thread(void *arg)
{
    struct receiver *receiver = arg;
    PGresult *result = PQexecParams(other,
                                    "SELECT * FROM idempotency.receive('c', ARRAY[$1::uuid], '{x}',"
                                    " '{t}', '{0}', '{0}')",
                                    1, NULL, &receiver->id, NULL, NULL, 0);
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

    snprintf(receiver->sqlstate, sizeof receiver->sqlstate, "%s", state != NULL ? state : "");
    PQclear(result);
    return NULL;
}

/* trap: I13: it has read the old mark, and waits for the partition that is emptied meanwhile. */
START_TEST(test_message_that_waits_for_the_emptied_partition_is_not_applied_i13)
{
    struct receiver receiver = { .id = id_of_day(-10, 1) };
    int slot = (int)db_int(conn, "SELECT idempotency.day_of(uuid_send('%s')) %% 32", receiver.id);

    ck_assert_str_eq(receive(conn, "c", receiver.id, "x"), "fresh");
    db_exec(conn, "BEGIN; LOCK TABLE idempotency.inbox_%d", slot);
    pthread_create(&receiver.thread, NULL, receive_in_thread, &receiver);
    WAIT_UNTIL(db_int(conn,
                      "SELECT count(*) FROM pg_locks WHERE NOT granted AND database ="
                      " (SELECT oid FROM pg_database WHERE datname = current_database())") > 0,
               10000);
    keep(5);
    ck_assert_ptr_nonnull(strstr(clean_up(conn), "emptied"));
    db_exec(conn, "COMMIT");
    pthread_join(receiver.thread, NULL);
    ck_assert_str_eq(receiver.sqlstate, "40001");
    ck_assert_str_eq(receive(other, "c", receiver.id, "x"), "below");
}
END_TEST

/* trap: I13: and the other way round, it is quicker than who empties. */
START_TEST(test_partition_with_an_open_insert_is_not_emptied_i13)
{
    const char *id = id_of_day(-10, 1), *done;

    db_exec(other, "BEGIN");
    ck_assert_str_eq(receive(other, "c", id, "x"), "fresh");
    ck_assert_str_eq(receive(conn, "c", id_of_day(-10, 2), "x"), "fresh");
    keep(5);
    done = clean_up(conn);
    ck_assert_ptr_nonnull(strstr(done, "moved"));
    ck_assert_ptr_nonnull(strstr(done, "locked"));
    db_exec(other, "COMMIT");
    ck_assert_ptr_nonnull(strstr(clean_up(conn), "emptied"));
    ck_assert_str_eq(receive(conn, "c", id, "x"), "below");
}
END_TEST

/* trap: I13, I29: a clock that was wrong has put rows of tomorrow's ring into a partition. */
START_TEST(test_partition_with_rows_that_count_is_never_emptied_i29)
{
    const char *ahead = id_of_day(8, 1);

    db_exec(conn,
            "INSERT INTO idempotency.inbox (consumer, message_id, hash, topic, partition,"
            " \"offset\", slot) VALUES ('z', '%s', 'x', 't', 0, 0,"
            " idempotency.day_of(uuid_send('%s')) %% 32)",
            ahead, ahead);
    ck_assert_str_eq(receive(conn, "a", id_of_day(-24, 1), "x"), "fresh");
    keep(5);
    WAIT_UNTIL(strcmp(clean_up(conn), "") == 0, 10000);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM idempotency.inbox"), 2);
}
END_TEST

/* trap: I29 */
START_TEST(test_ids_from_the_future_are_not_applied_before_their_time_i29)
{
    ck_assert_str_eq(receive(conn, "c", id_of_day(1, 1), "x"), "fresh");
    ck_assert_str_eq(receive(conn, "c", id_of_day(2, 1), "x"), "future");
    ck_assert_str_eq(receive(conn, "c", "ffffffff-ffff-7fff-bfff-ffffffffffff", "x"), "future");
    ck_assert_str_eq(receive(conn, "c", "00000000-0000-7000-8000-000000000001", "x"), "below");
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM idempotency.inbox"), 1);
}
END_TEST

/* The mark is moved by who receives, and what was left in the ring does no harm. */
START_TEST(test_ring_that_nobody_cleans_goes_on)
{
    const char *left = id_of_day(-31, 1), *now = id_of_day(1, 1);

    db_exec(conn, "SELECT setval('idempotency.inbox_mark', pg_sequence_last_value("
                  "'idempotency.inbox_mark') - 3)");
    db_exec(conn,
            "INSERT INTO idempotency.inbox (consumer, message_id, hash, topic, partition,"
            " \"offset\", slot) VALUES ('c', '%s', 'x', 't', 0, 0,"
            " idempotency.day_of(uuid_send('%s')) %% 32)",
            left, left);
    ck_assert_str_eq(receive(conn, "c", text_of("%s,%s", now, id_of_day(0, 1)), "x,x"),
                     "fresh fresh");
    ck_assert_str_eq(receive(conn, "c", text_of("%s,%s", left, now), "x,x"), "below duplicate");
    WAIT_UNTIL(strcmp(clean_up(conn), "") == 0, 10000);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM idempotency.inbox"), 3);
}
END_TEST

START_TEST(test_foreign_ids_are_forgotten_in_batches)
{
    db_exec(
        conn,
        "SELECT idempotency.receive('c', array_agg(gen_random_uuid()), array_agg('x'::bytea),"
        " array_agg('t'::text), array_agg(0), array_agg(n)) FROM generate_series(1, 25::bigint) n");
    clean_up(conn);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM idempotency.inbox_foreign"), 25);
    db_exec(conn, "SELECT idempotency.keep('foreign', '1 microsecond', 'test')");
    db_exec(conn, "SELECT idempotency.clean_up(10)");
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM idempotency.inbox_foreign"), 15);
}
END_TEST

/* trap: I13: it is there when the row is to be written, and gone when it is looked at. */
START_TEST(test_foreign_id_that_is_forgotten_while_it_is_received_comes_again)
{
    struct receiver receiver = { .id = "01890a5d-ac96-474b-8000-000000000001" };

    ck_assert_str_eq(receive(conn, "c", receiver.id, "x"), "fresh");
    db_exec(conn, "CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS"
                  " 'BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END';"
                  "CREATE TRIGGER pause AFTER INSERT ON idempotency.inbox_foreign"
                  " EXECUTE FUNCTION pause(); SELECT pg_advisory_lock(7)");
    pthread_create(&receiver.thread, NULL, receive_in_thread, &receiver);
    WAIT_UNTIL(db_int(conn, "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype ="
                            " 'advisory' AND database = (SELECT oid FROM pg_database WHERE"
                            " datname = current_database())") > 0,
               10000);
    db_exec(conn, "SELECT idempotency.keep('foreign', '1 microsecond', 'test');"
                  "SELECT idempotency.clean_up()");
    db_exec(conn, "SELECT pg_advisory_unlock(7)"); /* once that is committed */
    pthread_join(receiver.thread, NULL);
    ck_assert_str_eq(receiver.sqlstate, "40001");
    ck_assert_str_eq(receive(other, "c", receiver.id, "x"), "fresh");
}
END_TEST

/* trap: I29: it was not applied, and when it comes again it must not be, beside its copy here. */
START_TEST(test_foreign_id_is_known_as_long_as_it_is_parked_i29)
{
    const char *id = "01890a5d-ac96-474b-8000-000000000001";

    ck_assert_str_eq(receive(conn, "c", id, "x"), "fresh");
    db_exec(conn,
            "SELECT idempotency.park('c', 'topic', NULL, '%s', 'x', 0, 1, '{}', 'p', 'why', 1);"
            "SELECT idempotency.keep('foreign', '1 microsecond', 'test')",
            id);
    db_exec(conn, "SELECT idempotency.clean_up()");
    ck_assert_str_eq(receive(conn, "c", id, "x"), "duplicate");
    db_exec(conn, "SELECT idempotency.discard('c', '%s', 'test')", id);
    db_exec(conn, "SELECT idempotency.clean_up()");
    ck_assert_str_eq(receive(conn, "c", id, "x"), "fresh");
}
END_TEST

START_TEST(test_old_rows_that_somebody_is_at_do_not_keep_others)
{
    db_exec(conn, "INSERT INTO idempotency.barrier (consumer, saga_id, step, action, outcome,"
                  " message_id, saga_started_at) SELECT 'c', gen_random_uuid(), 's', 'run', 'done',"
                  " gen_random_uuid(), '2020-01-01' FROM generate_series(1, 3)");
    db_exec(other, "BEGIN; SELECT FROM idempotency.barrier LIMIT 1 FOR UPDATE");
    db_exec(conn, "SELECT idempotency.clean_up()");
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM idempotency.barrier"), 1);
    db_exec(other, "COMMIT");
    db_exec(conn, "SELECT idempotency.clean_up()");
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM idempotency.barrier"), 0);
}
END_TEST

START_TEST(test_horizon_tells_what_is_known_and_keep_has_bounds)
{
    keep(7);
    clean_up(conn);
    ck_assert_int_eq(db_int(conn,
                            "SELECT (date_trunc('day', now() AT TIME ZONE 'UTC') -"
                            " (oldest AT TIME ZONE 'UTC') = '7 days' AND newest > now() + '1 day'"
                            " AND keep_inbox = '7 days')::int FROM idempotency.horizon"),
                     1);
    ck_assert_str_eq(db_refusal(conn, "SELECT idempotency.keep('inbox', '30 days', 'x')"), "22023");
    ck_assert_str_eq(db_refusal(conn, "SELECT idempotency.keep('nothing', '3 days', 'x')"),
                     "22023");
    ck_assert_str_eq(db_refusal(conn, "SELECT idempotency.keep('inbox', '3 days', ' ')"), "22023");
    ck_assert_str_eq(db_refusal(conn, "SELECT idempotency.keep('barrier', '3 hours', 'x')"),
                     "22023");
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM idempotency.audit WHERE verb = 'keep'"), 1);
    db_exec(conn, "SELECT idempotency.keep('barrier', '1 day', 'x')");
    db_exec(conn, "SELECT idempotency.keep('barrier', '400 days', 'x')");
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "inbox_horizon",
        .tests =
            TESTS(test_receive_tells_of_each_message_in_a_batch_i10_i12,
                  test_receive_knows_every_day_of_the_ring_i12,
                  test_inbox_forgets_and_old_messages_are_not_applied_i13,
                  test_message_that_is_forgotten_while_it_is_read_is_not_applied_i13,
                  test_message_that_waits_for_the_emptied_partition_is_not_applied_i13,
                  test_partition_with_an_open_insert_is_not_emptied_i13,
                  test_partition_with_rows_that_count_is_never_emptied_i29,
                  test_ids_from_the_future_are_not_applied_before_their_time_i29,
                  test_ring_that_nobody_cleans_goes_on, test_foreign_ids_are_forgotten_in_batches,
                  test_foreign_id_is_known_as_long_as_it_is_parked_i29,
                  test_old_rows_that_somebody_is_at_do_not_keep_others,
                  test_foreign_id_that_is_forgotten_while_it_is_received_comes_again,
                  test_horizon_tells_what_is_known_and_keep_has_bounds),
        .setup = setup,
    });
}
