/* SPDX-License-Identifier: Apache-2.0 */
/* long */
/*
 * An outbox that was copied to another cluster: the relay refuses it, and
 * sagactl outbox rebase makes it fit, without losing or reordering anything.
 */
#include "test/support/mock.h"
#include "test/support/outbox.h"
#include "test/support/run.h"
#include "test/support/sagactl.h"
#include "test/support/server.h"
#include "test/support/wait.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

static const char *original, *copy; /* conninfos */
static PGconn *conn, *there;        /* of the copy */
static const char *topic;
static struct mock *mock;

/* Takes xids until the cluster is well ahead of the other one. */
static void
put_ahead(PGconn *of, PGconn *other)
{
    long n = 1000 + db_int(other, "SELECT pg_current_xact_id()::text::int8") -
             db_int(of, "SELECT pg_current_xact_id()::text::int8");

    db_exec(
        of,
        "DO $$ BEGIN FOR i IN 1..%ld LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$",
        n);
}

static void
setup(void)
{
    original = given_database();
    conn = db_connect(original);
    topic = unique_name("topic");
    mock = given_mock();
    mock_topic(mock, topic, 1);
}

static bool same_cluster;

static void
given_other_cluster(void)
{
    copy = given_database_in(GIVEN_SERVER("pg", "autovacuum=off"));
    there = db_connect(copy);
    same_cluster = false;
}

/* A database beside the original, which says that it comes from elsewhere: a
 * cluster in which all the copy's xids have been used, too. */
static void
given_cluster_ahead(void)
{
    copy = given_database();
    there = db_connect(copy);
    same_cluster = true;
}

static void
teardown(void)
{
    PQfinish(conn);
    PQfinish(there);
}

static void
copy_table(const char *table)
{
    char *bytes;
    int n;

    db_exec(there, "TRUNCATE %s", table);
    PQclear(PQexec(conn, text_of("COPY %s TO STDOUT", table)));
    PQclear(PQexec(there, text_of("COPY %s FROM STDIN", table)));
    while ((n = PQgetCopyData(conn, &bytes, 0)) > 0) {
        ck_assert_int_eq(PQputCopyData(there, bytes, n), 1);
        PQfreemem(bytes);
    }
    ck_assert_int_eq(PQputCopyEnd(there, NULL), 1);
    for (PGresult *end; (end = PQgetResult(conn)) != NULL; PQclear(end))
        ck_assert_int_eq(PQresultStatus(end), PGRES_COMMAND_OK);
    for (PGresult *end; (end = PQgetResult(there)) != NULL; PQclear(end))
        ck_assert_msg(PQresultStatus(end) == PGRES_COMMAND_OK, "%s", PQerrorMessage(there));
}

/* Calls `copy_one` for each of the names that `sql` finds in the original. */
static void
each(const char *sql, void (*copy_one)(const char *name))
{
    PGresult *names = PQexec(conn, sql);

    ck_assert_msg(PQntuples(names) > 0, "%s: %s", sql, PQerrorMessage(conn));
    for (int i = 0; i < PQntuples(names); i++)
        copy_one(PQgetvalue(names, i, 0));
    PQclear(names);
}

static void
copy_sequence(const char *sequence)
{
    db_exec(there, "SELECT setval('%s', %s, '%s')", sequence,
            db_text(conn, "SELECT last_value FROM %s", sequence),
            db_text(conn, "SELECT is_called FROM %s", sequence));
}

/* What pg_dump and psql would bring: every table of the outbox, each by one
 * COPY, and every sequence. */
static void
copy_outbox(void)
{
    db_exec(there, "SET session_replication_role = replica");
    each("SELECT oid::regclass FROM pg_class"
         " WHERE relkind = 'r' AND relnamespace = 'outbox'::regnamespace",
         copy_table);
    each("SELECT oid::regclass FROM pg_class"
         " WHERE relkind = 'S' AND relnamespace = 'outbox'::regnamespace",
         copy_sequence);
    db_exec(there, "RESET session_replication_role");
    if (same_cluster)
        db_exec(there, "UPDATE outbox.stream SET system_identifier = 4711");
}

static const char *
contents_of_copy(void)
{
    return db_text(
        there, "SELECT md5(string_agg(t, '' ORDER BY t)) FROM (SELECT m::text FROM outbox.message m"
               " UNION ALL SELECT s::text FROM outbox.stream s) x (t)");
}

static void
enqueue_all(PGconn *to, const char *prefix, int n)
{
    for (int i = 1; i <= n; i++)
        enqueue(to, topic, "k", text_of("%s%d", prefix, i));
}

/* As a function with an exception handler would: the row's writer is a
 * transaction inside the one whose xid it bears. */
static void
enqueue_behind_savepoint(PGconn *to, const char *value)
{
    db_exec(to, "BEGIN; SAVEPOINT s");
    enqueue(to, topic, "k", value);
    db_exec(to, "COMMIT");
}

/* Published a1 to a5; m1 to m20 half published by a relay that is gone; c1 to
 * c3 not read yet. */
static void
given_busy_original(void)
{
    struct process *relay;

    enqueue_all(conn, "a", 5);
    publish_once(original);
    enqueue_all(conn, "m", 20);
    mock_delay(mock, 100);
    relay = start_relay_program(original, "lease_ms = 500\npage_rows = 3", NULL, NULL);
    WAIT_UNTIL(db_int(conn, "SELECT last_seq FROM outbox.stream") > 0, 10000);
    process_kill(relay);
    mock_delay(mock, 0);
    enqueue_all(conn, "c", 3);
    WAIT_UNTIL(db_int(conn, "SELECT (lease_until < clock_timestamp())::int FROM outbox.stream") ==
                   1,
               5000);
}

static const char *
numbered(const char *prefix, int n)
{
    const char *text = "";

    for (int i = 1; i <= n; i++)
        text = text_of("%s%s%d ", text, prefix, i);
    return text;
}

static void
expect_refused(const char *says)
{
    struct process *once = start_relay_program(copy, NULL, NULL, ARGS("--once"));

    process_expect(once, 4, 10000);
    ck_assert_msg(strstr(process_errors(once), says) != NULL, "it said: %s", process_errors(once));
    ck_assert_ptr_nonnull(strstr(process_errors(once), "run: sagactl outbox rebase"));
}

/* What the copy's relay published is what is behind the original's. */
static const char *
published_by_copy(size_t before)
{
    const char *all = published(topic);

    ck_assert_uint_ge(strlen(all), before);
    return all + before;
}

/* --- O8 ------------------------------------------------------------------- */

START_TEST(test_rebase_o8_a_restored_outbox_loses_nothing)
{
    const char *before;
    size_t was;

    given_other_cluster();
    put_ahead(conn, there);
    given_busy_original();
    copy_outbox();
    /* Nobody has noticed yet. */
    enqueue_all(there, "n", 2);
    enqueue_behind_savepoint(there, "s1");
    enqueue_all(there, "t", 2);
    ck_assert_int_gt(db_int(conn, "SELECT pg_current_xact_id()::text::int8"),
                     db_int(there, "SELECT pg_current_xact_id()::text::int8"));

    expect_refused("system identifier");
    before = contents_of_copy();
    EXPECT_ANSWER(SAGACTL(copy, "outbox", "rebase", "--dry-run"), 0, "nothing was changed");
    EXPECT_ANSWER(SAGACTL(copy, "outbox", "rebase", "--dry-run", "--json"), 0,
                  "\"written_here\":4,\"doubtful\":1");
    ck_assert_str_eq(contents_of_copy(), before);
    expect_refused("system identifier");

    EXPECT_ANSWER(SAGACTL(copy, "outbox", "rebase"), 0,
                  "4 messages that were written here will be");
    was = strlen(published(topic));
    publish_once(copy);
    ck_assert_str_eq(published_first(topic), text_of("%s%s%sn1 n2 s1 t1 t2", numbered("a", 5),
                                                     numbered("m", 20), numbered("c", 3)));
    ck_assert_ptr_null(strstr(published_by_copy(was), "a5")); /* nor what was acknowledged */
    ck_assert_ptr_null(strstr(published_by_copy(was), "m1 "));
    ck_assert_int_eq(pending(there), 0);

    EXPECT_ANSWER(SAGACTL(copy, "outbox", "rebase"), 4, "no copy");
    enqueue(there, topic, "k", "last");
    publish_once(copy);
    ck_assert_ptr_nonnull(strstr(published(topic), " t2 last"));
}
END_TEST

/* Here the xids say nothing: all of the copy's have been used here, too. */
START_TEST(test_rebase_o8_into_a_cluster_that_is_ahead)
{
    size_t was;

    given_cluster_ahead();
    given_busy_original();
    copy_outbox();
    enqueue_all(there, "n", 2);
    enqueue_behind_savepoint(there, "s1");
    expect_refused("system identifier");
    EXPECT_ANSWER(SAGACTL(copy, "outbox", "rebase", "--json"), 0,
                  "\"written_here\":3,\"doubtful\":0");
    was = strlen(published(topic));
    publish_once(copy);
    ck_assert_str_eq(published_first(topic), text_of("%s%s%sn1 n2 s1", numbered("a", 5),
                                                     numbered("m", 20), numbered("c", 3)));
    ck_assert_ptr_null(strstr(published_by_copy(was), "a5"));
}
END_TEST

/* A message that was restored by a transaction of its own looks like one that
 * was written here, behind a savepoint. */
START_TEST(test_rebase_o8_publishes_again_what_may_have_been_written_here)
{
    given_cluster_ahead();
    enqueue_all(conn, "a", 3);
    publish_once(original);
    copy_outbox();
    db_exec(there, "CREATE TEMP TABLE kept AS TABLE outbox.message;"
                   "DELETE FROM outbox.message WHERE seq = 1");
    db_exec(there, "INSERT INTO outbox.message OVERRIDING SYSTEM VALUE"
                   " SELECT * FROM kept WHERE seq = 1");
    enqueue_behind_savepoint(there, "s1");
    EXPECT_ANSWER(SAGACTL(copy, "outbox", "rebase"), 0, "1 messages seem to be published, but");
    publish_once(copy);
    expect_published(topic, "a1 a2 a3 a1 s1");
}
END_TEST

/* Another cluster by its name, but xids and writers are what they were. */
START_TEST(test_rebase_after_pg_upgrade_publishes_nothing_again)
{
    enqueue_all(conn, "a", 3);
    enqueue_behind_savepoint(conn, "s1");
    publish_once(original);
    enqueue_all(conn, "b", 2);
    enqueue_behind_savepoint(conn, "s2");
    db_exec(conn, "UPDATE outbox.stream SET system_identifier = 4711");
    copy = original;
    expect_refused("an upgrade");
    EXPECT_ANSWER(SAGACTL(copy, "outbox", "rebase", "--json"), 0,
                  "{\"unpublished\":3,\"written_here\":0,\"doubtful\":0,\"published\":4}");
    publish_once(copy);
    expect_published(topic, "a1 a2 a3 s1 b1 b2 s2");
}
END_TEST

/* Tables that are replicated come without the position of their sequence. */
START_TEST(test_rebase_o8_of_a_replicated_outbox)
{
    struct server *source = GIVEN_SERVER("pg", "wal_level=logical", "autovacuum=off");
    PGconn *from;

    given_cluster_ahead();
    original = given_database_in(source);
    from = db_connect(original);
    put_ahead(from, there);
    db_exec(from, "CREATE PUBLICATION p FOR TABLE outbox.message, outbox.stream");
    db_exec(there, "TRUNCATE outbox.stream");
    db_exec(there, "CREATE SUBSCRIPTION s CONNECTION '%s' PUBLICATION p", original);
    enqueue_all(from, "a", 5);
    publish_once(original);
    enqueue_all(from, "b", 3);
    WAIT_UNTIL(db_int(there, "SELECT count(*) FROM outbox.message") == 8 &&
                   db_text(there, "SELECT prev FROM outbox.stream") != NULL &&
                   strcmp(db_text(there, "SELECT s::text FROM outbox.stream s"),
                          db_text(from, "SELECT s::text FROM outbox.stream s")) == 0,
               15000);
    EXPECT_ANSWER(SAGACTL(copy, "outbox", "rebase"), 4, "subscription \"s\" still writes");
    db_exec(there, "ALTER SUBSCRIPTION s DISABLE");
    db_exec(there, "ALTER SUBSCRIPTION s SET (slot_name = NONE)");
    db_exec(there, "DROP SUBSCRIPTION s");

    db_exec(there, "DELETE FROM outbox.message WHERE seq < 4"); /* as retention would */
    enqueue_all(there, "n", 2);
    ck_assert_int_eq(db_int(there, "SELECT max(seq) FROM outbox.message"), 8);
    expect_refused("system identifier");
    EXPECT_ANSWER(SAGACTL(copy, "outbox", "rebase", "--json"), 0,
                  "{\"unpublished\":3,\"written_here\":2");
    publish_once(copy);
    ck_assert_str_eq(published_first(topic), "a1 a2 a3 a4 a5 b1 b2 b3 n1 n2");
    PQfinish(from);
}
END_TEST

/* Each stream has come to another place. */
START_TEST(test_rebase_o8_with_several_streams)
{
    int before;

    given_cluster_ahead();
    db_exec(conn, "SELECT outbox.set_streams(4)");
    enqueue_many(conn, topic, "l", 20);
    enqueue_many(conn, topic, "m", 20);
    publish_once(original); /* stream 0 of them */
    before = published_count(topic);
    ck_assert(before > 0 && before < 40);
    copy_outbox();
    enqueue_many(there, topic, "n", 40);
    EXPECT_ANSWER(
        SAGACTL(copy, "outbox", "rebase", "--json"), 0,
        text_of("{\"unpublished\":%d,\"written_here\":40,\"doubtful\":0,\"published\":%d}",
                40 - before, before));
    for (int i = 0; i < 4; i++) {
        struct saga_error err;

        ck_assert_msg(publish_once_with(RELAY(.conninfo = copy, .stream = i), &err) == 0, "%s",
                      err.message);
    }
    ck_assert_int_eq(published_count(topic), 80);
    ck_assert_int_eq(pending(there), 0);
}
END_TEST

/* What is parked stays, before everything that is written for its key later;
 * what is delayed comes when it is due. */
START_TEST(test_rebase_o8_leaves_parked_and_delayed_ones_in_their_place)
{
    given_cluster_ahead();
    enqueue_all(conn, "a", 2);
    publish_once(original);
    db_exec(conn,
            "INSERT INTO outbox.parked (seq, message_id, topic, key, headers, payload, created_at,"
            " error, attempts) SELECT 50, gen_random_uuid(), '%s', 'p', '', 'p1', now(), 'x', 1;"
            "INSERT INTO outbox.parked_key (topic, key, error) VALUES ('%s', 'p', 'x');"
            "SELECT outbox.enqueue('%s', 'd1', 'd', deliver_at => now() + interval '1 hour')",
            topic, topic, topic);
    enqueue(conn, topic, "p", "p2");
    copy_outbox();
    enqueue(there, topic, "p", "p3");
    EXPECT_ANSWER(SAGACTL(copy, "outbox", "rebase"), 0, "done");
    publish_once(copy);
    expect_published(topic, "a1 a2");
    ck_assert_str_eq(db_text(there, "SELECT string_agg(convert_from(payload, 'UTF8'), ' ' ORDER BY "
                                    "seq) FROM outbox.parked"),
                     "p1 p2 p3");
    db_exec(there,
            "UPDATE outbox.delayed SET deliver_at = now(); SELECT outbox.deliver_due(9);"
            "SELECT outbox.retry('%s', 'p', 'mended')",
            topic);
    publish_once(copy);
    WAIT_UNTIL(db_int(there, "SELECT count(*) FROM outbox.parked") == 0, 5000);
    publish_once(copy);
    ck_assert_str_eq(db_text(there, "SELECT verb FROM outbox.audit ORDER BY id LIMIT 1"), "rebase");
    ck_assert_ptr_nonnull(strstr(published(topic), "d1"));
    ck_assert_ptr_nonnull(strstr(published_first(topic), "p1 p2 p3"));
}
END_TEST

/* --- what it waits for, and what it refuses --------------------------------- */

START_TEST(test_rebase_waits_for_writers)
{
    PGconn *writer;

    given_cluster_ahead();
    enqueue_all(conn, "a", 2);
    publish_once(original);
    enqueue_all(conn, "b", 1);
    copy_outbox();
    writer = open_transaction(copy);
    enqueue(writer, topic, "k", "w");
    enqueue_all(there, "n", 1);
    EXPECT_ANSWER(SAGACTL(copy, "outbox", "rebase", "--lock-timeout", "200ms"), 1, "lock timeout");
    EXPECT_ANSWER(SAGACTL(copy, "outbox", "rebase", "--dry-run"), 0,
                  "1 messages that were written");
    db_exec(writer, "COMMIT");
    EXPECT_ANSWER(SAGACTL(copy, "outbox", "rebase"), 0, "2 messages that were written here");
    publish_once(copy);
    expect_published(topic, "a1 a2 b1 w n1");
}
END_TEST

START_TEST(test_rebase_refuses_what_is_no_copy)
{
    enqueue_all(conn, "a", 2);
    EXPECT_ANSWER(SAGACTL(original, "outbox", "rebase"), 4, "no copy");
    publish_once(original);
    EXPECT_ANSWER(SAGACTL(original, "outbox", "rebase", "--dry-run"), 4, "no copy");
    db_exec(conn, "UPDATE outbox.stream SET timeline = 7"); /* a failover is none either */
    EXPECT_ANSWER(SAGACTL(original, "outbox", "rebase"), 4, "no copy");
}
END_TEST

START_TEST(test_rebase_refuses_beside_a_relay)
{
    given_cluster_ahead();
    enqueue_all(conn, "a", 2);
    publish_once(original);
    copy_outbox();
    db_exec(there, "UPDATE outbox.stream SET owner = gen_random_uuid(),"
                   " lease_until = clock_timestamp() + interval '20 s'");
    EXPECT_ANSWER(SAGACTL(copy, "outbox", "rebase"), 4, "lease is running");
    db_exec(there, "UPDATE outbox.stream SET lease_until = clock_timestamp() + interval '1 day'");
    EXPECT_ANSWER(SAGACTL(copy, "outbox", "rebase"), 0, "done");
}
END_TEST

START_TEST(test_rebase_must_be_the_first_of_its_transaction)
{
    db_exec(conn, "UPDATE outbox.stream SET system_identifier = 4711");
    db_exec(conn, "BEGIN");
    enqueue(conn, topic, "k", "1");
    ck_assert_str_eq(db_refusal(conn, "SELECT outbox.rebase(false)"), "25001");
    db_exec(conn, "ROLLBACK");
    db_exec(conn, "BEGIN ISOLATION LEVEL REPEATABLE READ");
    ck_assert_str_eq(db_refusal(conn, "SELECT outbox.rebase(true)"), "25001");
    db_exec(conn, "ROLLBACK");
    db_exec(conn, "BEGIN; SET LOCAL ROLE saga_relay");
    ck_assert_str_eq(db_refusal(conn, "SELECT outbox.rebase(false)"), "42501");
    db_exec(conn, "ROLLBACK");
}
END_TEST

/* Somebody has restarted the sequence: what is written then lies below the
 * floor, where nobody looks for it. */
START_TEST(test_relay_refuses_a_sequence_that_went_back)
{
    enqueue_all(conn, "a", 5);
    publish_once(original);
    copy = original;
    db_exec(conn, "DELETE FROM outbox.message; ALTER SEQUENCE outbox.message_seq_seq RESTART");
    enqueue_all(conn, "n", 2);
    expect_refused("sequence");
    EXPECT_ANSWER(SAGACTL(original, "outbox", "rebase", "--json"), 0,
                  "{\"unpublished\":2,\"written_here\":0");
    publish_once(original);
    expect_published(topic, "a1 a2 a3 a4 a5 n1 n2");
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox_rebase",
        .tests = TESTS(test_rebase_o8_a_restored_outbox_loses_nothing,
                       test_rebase_o8_into_a_cluster_that_is_ahead,
                       test_rebase_o8_publishes_again_what_may_have_been_written_here,
                       test_rebase_after_pg_upgrade_publishes_nothing_again,
                       test_rebase_o8_of_a_replicated_outbox, test_rebase_o8_with_several_streams,
                       test_rebase_o8_leaves_parked_and_delayed_ones_in_their_place,
                       test_rebase_waits_for_writers, test_rebase_refuses_what_is_no_copy,
                       test_rebase_refuses_beside_a_relay,
                       test_rebase_must_be_the_first_of_its_transaction,
                       test_relay_refuses_a_sequence_that_went_back),
        .setup = setup,
        .teardown = teardown,
        .timeout_s = 120,
    });
}
