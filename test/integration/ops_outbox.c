/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sagactl outbox status, parked, retry, discard, show and audit, and the views that
 * they look at.
 */
#include "test/support/outbox.h"
#include "test/support/run.h"
#include "test/support/sagactl.h"
#include "test/support/wait.h"

#include <stdlib.h>
#include <string.h>

enum { PATIENCE_MS = 15000 };

#define ID_A "019a5b2e-7c00-7a10-8000-0000000000aa"
#define ID_B "019a5b2e-7c00-7a10-8000-0000000000ab"
#define ID_C "019a5b2e-7c00-7a10-8000-0000000000ac"

static const char *database;
static PGconn *conn;

static void
given_outbox(void)
{
    database = given_database();
    conn = given_session(database);
}

/* As the relay would park them. */
static void
park(const char *seq, const char *id, const char *topic, const char *key, const char *error)
{
    const char *quoted = key != NULL ? text_of("'%s'", key) : "NULL";

    if (key != NULL)
        db_exec(conn,
                "INSERT INTO outbox.parked_key (topic, key, error) VALUES ('%s', %s, '%s')"
                " ON CONFLICT DO NOTHING",
                topic, quoted, error);
    db_exec(
        conn,
        "INSERT INTO outbox.parked (seq, message_id, topic, key, headers, payload, created_at,"
        " error, attempts) VALUES (%s, '%s', '%s', %s, E'tenant: x\\na: 1', 'two\nlines', now(),"
        " '%s', 1)",
        seq, id, topic, quoted, error);
}

/* What the JSON that a verb prints has at a path of PostgreSQL's. */
static const char *
json(struct answer answer, const char *path)
{
    char *literal = PQescapeLiteral(conn, answer.out, strlen(answer.out));
    const char *value;

    ck_assert_msg(answer.code == 0, "%d: %s", answer.code, answer.err);
    value = db_text(conn, "SELECT %s::jsonb #>> '{%s}'", literal, path);
    PQfreemem(literal);
    return value;
}

#define OUTBOX(...) SAGACTL(database, "outbox", __VA_ARGS__)

/* --- status --------------------------------------------------------------------- */

START_TEST(test_outbox_status_counts_and_sums)
{
    struct answer answer;

    db_exec(conn, "SELECT outbox.set_streams(2)");
    enqueue_many(conn, "t", "m", 20);
    db_exec(conn, "SELECT outbox.enqueue('t', 'later', deliver_at => now() + interval '1 h')");
    park("1001", ID_A, "t", "k", "no such topic");
    park("1002", ID_B, "t", "k", "no such topic");
    answer = OUTBOX("status", "--json");
    ck_assert_int_eq(atoi(json(answer, "0,pending")) + atoi(json(answer, "1,pending")), 20);
    ck_assert_int_gt(atoi(json(answer, "0,pending")), 0);
    ck_assert_ptr_null(json(answer, "2,stream"));
    ck_assert_str_eq(json(answer, "2,pending"), "20");
    ck_assert_str_eq(json(answer, "2,pending_exact"), "true");
    ck_assert_str_eq(json(answer, "2,parked_keys"), "1");
    ck_assert_str_eq(json(answer, "2,parked"), "2");
    ck_assert_str_eq(json(answer, "2,delayed"), "1");
    ck_assert_ptr_nonnull(json(answer, "2,next_due"));
    ck_assert_ptr_nonnull(json(answer, "2,lag_seconds"));
    EXPECT_ANSWER(OUTBOX("status"), 0, "\nall     none");
    EXPECT_ANSWER(OUTBOX("status"), 0, "parked_messages          2\n");
}
END_TEST

START_TEST(test_outbox_status_names_who_publishes)
{
    struct relay_thread *relay = start_relay(RELAY(.conninfo = database, .instance = "host-7"));

    WAIT_UNTIL(strstr(OUTBOX("status").out, "running  host-7") != NULL, PATIENCE_MS);
    ck_assert_int_eq(stop_relay(relay), 0);
    EXPECT_ANSWER(OUTBOX("status"), 0, "\n0       none");
}
END_TEST

/* The cluster's, so another test's may be older still. Who may see nothing of
 * other sessions learns since when at the latest. */
START_TEST(test_outbox_status_tells_the_oldest_open_transaction)
{
    PGconn *open = open_transaction(database);

    db_exec(open, "SELECT pg_current_xact_id()");
    enqueue(conn, "t", "k", "1");
    ck_assert_str_eq(
        db_text(conn,
                "SELECT oldest_open <= (SELECT a.backend_xid::text::xid8 FROM pg_stat_activity a"
                "                       WHERE a.pid = %d)::text::xid8"
                "       AND oldest_open_since < (SELECT created_at FROM outbox.message)"
                "  FROM outbox.status WHERE stream IS NULL",
                PQbackendPID(open)),
        "t");
    db_exec(conn, "SET ROLE saga_monitor");
    ck_assert_str_eq(db_text(conn, "SELECT oldest_open_since <= (SELECT created_at FROM"
                                   " outbox.message) FROM outbox.status WHERE stream IS NULL"),
                     "t");
}
END_TEST

/* How many pages a query touches. */
static int64_t
pages_of(const char *sql)
{
    const char *plan = db_text(conn, "EXPLAIN (ANALYZE, BUFFERS, TIMING off, FORMAT JSON) %s", sql);
    char *literal = PQescapeLiteral(conn, plan, strlen(plan));
    int64_t pages = db_int(conn,
                           "SELECT (plan ->> 'Shared Hit Blocks')::int"
                           "     + (plan ->> 'Shared Read Blocks')::int"
                           "  FROM (SELECT %s::json #> '{0,Plan}' AS plan) t",
                           literal);

    PQfreemem(literal);
    return pages;
}

/* What is asked about a hundred thousand messages must not read them. */
START_TEST(test_outbox_views_stay_cheap_with_many_messages)
{
    const char *pending_ones = "SELECT * FROM outbox.local_messages WHERE status = 'pending'";

    enqueue(conn, "t", "k", "late");
    db_exec(conn, "INSERT INTO outbox.message (message_id, topic, key) SELECT gen_random_uuid(),"
                  " 't', 'k' || n %% 100 FROM generate_series(1, 100000) n");
    db_exec(conn, "ANALYZE outbox.message");

    /* All pending. */
    ck_assert_str_eq(db_text(conn, "SELECT pending || ' ' || pending_exact FROM outbox.status"
                                   " WHERE stream = 0"),
                     "100001 false");
    ck_assert_int_lt(pages_of("SELECT * FROM outbox.status"), 500);

    /* All published but two; one of them was still open when the others were. */
    db_exec(conn, "UPDATE outbox.stream SET floor_seq = 100001, floor_xid = pg_current_xact_id(),"
                  " prev = (SELECT m.xid || ':' || pg_snapshot_xmax(pg_current_snapshot()) || ':'"
                  "         || m.xid FROM outbox.message m WHERE m.seq = 1)::pg_snapshot");
    enqueue(conn, "t", "k", "new");
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM outbox.local_messages"
                                  " WHERE status = 'pending'"),
                     2);
    ck_assert_str_eq(db_text(conn, "SELECT pending || ' ' || pending_exact FROM outbox.status"
                                   " WHERE stream = 0"),
                     "2 true");
    ck_assert_int_lt(pages_of("SELECT * FROM outbox.status"), 100);
    ck_assert_int_lt(pages_of(pending_ones), 100);
}
END_TEST

/* --- what became of each message --------------------------------------------------- */

START_TEST(test_outbox_local_messages_knows_every_status)
{
    const char *topic = GIVEN_TOPIC(1);

    db_exec(conn, "SELECT outbox.set_streams(3)");
    enqueue_many(conn, topic, "m", 30);
    for (int stream = 0; stream < 3; stream++)
        ck_assert_int_eq(publish_once_with(RELAY(.conninfo = database, .stream = stream), NULL), 0);
    enqueue_many(conn, topic, "n", 10);
    db_exec(conn, "SELECT outbox.enqueue('t', 'later', deliver_at => now() + interval '1 h')");
    park("1001", ID_A, topic, "k", "no");
    park("5", ID_B, topic, "k", "no");
    ck_assert_str_eq(db_text(conn, "SELECT string_agg(n || ' ' || status, ', ' ORDER BY status)"
                                   "  FROM (SELECT status, count(*) AS n FROM outbox.local_messages"
                                   "         GROUP BY status) s"),
                     "1 delayed, 2 parked, 10 pending, 29 published");
}
END_TEST

/* --- parked, retry, discard -------------------------------------------------------- */

START_TEST(test_outbox_parked_lists_keys_and_messages)
{
    struct answer answer;

    EXPECT_ANSWER(OUTBOX("parked"), 0, "(none)");
    park("1001", ID_A, "orders", "k\303\244", "no such topic");
    park("1002", ID_B, "orders", "k\303\244", "no such topic");
    park("1003", ID_C, "mail", NULL, text_of("%0100d", 7));
    answer = OUTBOX("parked");
    EXPECT_ANSWER(answer, 0, "orders  k\303\244      2  ");
    EXPECT_ANSWER(answer, 0, "mail    (none)  1  ");
    EXPECT_ANSWER(answer, 0, text_of("%069d\xE2\x80\xA6  ", 0)); /* cut */
    answer = OUTBOX("parked", "--json");
    ck_assert_str_eq(json(answer, "0,messages"), "2");
    ck_assert_uint_eq(strlen(json(answer, "1,error")), 100);
    answer = OUTBOX("parked", "orders", "--limit", "1");
    EXPECT_ANSWER(answer, 0, ID_A);
    ck_assert_ptr_null(strstr(answer.out, ID_B));
    EXPECT_ANSWER(OUTBOX("parked", "orders", "k\303\244"), 0, ID_B);
    EXPECT_ANSWER(OUTBOX("parked", "orders", "other"), 0, "(none)");
}
END_TEST

START_TEST(test_outbox_retry_asks_for_a_key_or_all)
{
    park("1001", ID_A, "orders", "a", "no");
    park("1002", ID_B, "orders", "b", "no");
    park("1003", ID_C, "orders", NULL, "no");
    EXPECT_ANSWER(OUTBOX("retry", "orders", "a"), 2, "needs --reason");
    EXPECT_ANSWER(OUTBOX("retry", "orders", "a", "--all", "--reason", "x"), 2, "or --all");
    EXPECT_ANSWER(OUTBOX("retry", "orders", "nobody", "--reason", "x"), 3, "not parked");
    EXPECT_ANSWER(OUTBOX("retry", "mail", "--reason", "x"), 3, "without a key");
    EXPECT_ANSWER(OUTBOX("retry", "mail", "--all", "--reason", "x"), 3, "nothing of topic");

    EXPECT_ANSWER(OUTBOX("retry", "orders", "a", "--reason", "mended"), 0, "retry is asked for");
    EXPECT_ANSWER(OUTBOX("retry", "orders", "--reason", "mended"), 0, "retry is asked for");
    ck_assert_str_eq(db_text(conn, "SELECT string_agg(coalesce(key, '-') || ' ' || reason, ', '"
                                   " ORDER BY id) FROM outbox.audit"),
                     "a mended, - mended");
    ck_assert_str_eq(json(OUTBOX("retry", "orders", "--all", "--reason", "x", "--json"), "keys"),
                     "3");
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM outbox.parked_key"
                                  " WHERE request IS NOT NULL"),
                     2);
}
END_TEST

START_TEST(test_outbox_discard_gives_one_up)
{
    park("1001", ID_A, "orders", "a", "no");
    park("1002", ID_B, "orders", "b", "no");
    EXPECT_ANSWER(OUTBOX("discard", ID_A), 2, "needs --reason");
    EXPECT_ANSWER(OUTBOX("discard", "nonsense", "--reason", "x"), 2, "not the id");
    EXPECT_ANSWER(OUTBOX("discard", ID_C, "--reason", "x"), 3, "not parked");
    EXPECT_ANSWER(OUTBOX("discard", ID_A, "--reason", "wrong"), 0, "discarded");
    EXPECT_ANSWER(OUTBOX("discard", ID_A, "--reason", "wrong"), 3, "not parked");
    EXPECT_ANSWER(OUTBOX("retry", "orders", "b", "--reason", "x"), 0, "");
    EXPECT_ANSWER(OUTBOX("discard", ID_B, "--reason", "x"), 4, "a retry is asked for");
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM outbox.audit WHERE verb = 'discard'"), 1);

    /* The last one first. */
    ck_assert_str_eq(json(OUTBOX("audit", "--json"), "0,verb"), "retry");
    ck_assert_str_eq(json(OUTBOX("audit", "--json"), "1,message_id"), ID_A);
    EXPECT_ANSWER(OUTBOX("audit"), 0, "discard  orders  a");
    ck_assert_ptr_null(strstr(OUTBOX("audit", "--limit", "1").out, "discard"));
}
END_TEST

/* --- show ---------------------------------------------------------------------------- */

START_TEST(test_outbox_show_tells_all_about_a_message)
{
    const char *topic = GIVEN_TOPIC(1), *group = unique_name("group"), *id, *late;
    struct answer answer;

    id = db_text(conn, "SELECT outbox.enqueue('%s', '{\"n\": 1}', 'k', '{\"a\": \"b\"}')", topic);
    EXPECT_ANSWER(OUTBOX("show", id), 0, "status          pending");
    ck_assert_int_eq(
        publish_once_with(
            RELAY(.conninfo = database, .watch = (const char *const[]){ group, NULL }), NULL),
        0);
    db_exec(conn,
            "INSERT INTO outbox.watched (group_name, topic, partition, committed)"
            " VALUES ('behind', '%s', 0, 0), ('past', '%s', 0, 1)",
            topic, topic);
    answer = OUTBOX("show", id, "--payload");
    EXPECT_ANSWER(answer, 0, "status          published");
    EXPECT_ANSWER(answer, 0, "headers         a: b");
    EXPECT_ANSWER(answer, 0, "payload_bytes   8");
    EXPECT_ANSWER(answer, 0, "IN KAFKA");
    EXPECT_ANSWER(answer, 0, "past       behind");
    EXPECT_ANSWER(answer, 0, "PAYLOAD\n{\"n\": 1}\n");
    ck_assert_ptr_null(strstr(OUTBOX("show", id).out, "PAYLOAD"));
    answer = OUTBOX("show", id, "--json");
    ck_assert_str_eq(json(answer, "messages,0,status"), "published");
    ck_assert_str_eq(json(answer, "kafka,0,last_offset"), "0");
    ck_assert_ptr_null(json(answer, "messages,0,payload"));
    ck_assert_str_eq(json(OUTBOX("show", id, "--json", "--payload"), "messages,0,payload"),
                     "{\"n\": 1}");

    late = db_text(conn, "SELECT outbox.enqueue('%s', 'x', deliver_at => now() + interval '1 h')",
                   topic);
    EXPECT_ANSWER(OUTBOX("show", late), 0, "deliver_at");
    EXPECT_ANSWER(OUTBOX("show", ID_C), 3, "no message with the id");
    EXPECT_ANSWER(OUTBOX("show", "42"), 2, "not the id");
}
END_TEST

START_TEST(test_outbox_show_tells_why_a_message_is_parked_and_who_gave_it_up)
{
    struct answer answer;

    enqueue(conn, "orders", "a", "1");
    db_exec(conn, "UPDATE outbox.stream SET prev = pg_current_snapshot(), floor_seq = 1,"
                  " floor_xid = pg_current_xact_id()");
    park("1", db_text(conn, "SELECT message_id FROM outbox.message"), "orders", "a", "no topic");
    answer = OUTBOX("show", db_text(conn, "SELECT message_id FROM outbox.message"), "--payload");
    EXPECT_ANSWER(answer, 0, "status          parked");
    EXPECT_ANSWER(answer, 0, "error           no topic");
    EXPECT_ANSWER(answer, 0, "headers         tenant: x, a: 1");
    EXPECT_ANSWER(answer, 0, "PAYLOAD\ntwo\nlines\n");
    db_exec(conn, "SELECT outbox.discard(message_id, 'a reason') FROM outbox.message");
    answer = OUTBOX("show", db_text(conn, "SELECT message_id FROM outbox.message"));
    EXPECT_ANSWER(answer, 0, "status          discarded");
    EXPECT_ANSWER(answer, 0, "discard  a reason");
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM outbox.local_messages"), 0);
}
END_TEST

/* By the time in its id, among many, and whatever else it has as an id. */
START_TEST(test_outbox_show_finds_a_message_among_many)
{
    const char *id, *other = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";

    db_exec(conn, "INSERT INTO outbox.message (message_id, topic, created_at) SELECT"
                  " outbox.uuid_v7(), 't', now() - (40000 - n) * interval '1 min'"
                  "  FROM generate_series(1, 30000) n");
    db_exec(conn, "INSERT INTO outbox.message (message_id, topic) VALUES ('%s', 't')", other);
    id = db_text(conn, "SELECT outbox.enqueue('t', 'x')");
    db_exec(conn, "ANALYZE outbox.message");
    EXPECT_ANSWER(OUTBOX("show", id), 0, "seq             30002");
    db_exec(conn,
            "SET enable_seqscan = off; SET enable_bitmapscan = off"); /* as if it were large */
    ck_assert_int_eq(db_int(conn, "SELECT outbox.seqs_of('%s')", id), 30002);
    ck_assert_int_lt(pages_of(text_of("SELECT outbox.seqs_of('%s')", id)), 300);
    ck_assert_int_gt(pages_of(text_of("SELECT outbox.seqs_of('%s')", other)), 500);
    EXPECT_ANSWER(OUTBOX("show", other), 0, "seq             30001");
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "ops_outbox",
        .tests = TESTS(test_outbox_status_counts_and_sums, test_outbox_status_names_who_publishes,
                       test_outbox_status_tells_the_oldest_open_transaction,
                       test_outbox_views_stay_cheap_with_many_messages,
                       test_outbox_local_messages_knows_every_status,
                       test_outbox_parked_lists_keys_and_messages,
                       test_outbox_retry_asks_for_a_key_or_all, test_outbox_discard_gives_one_up,
                       test_outbox_show_tells_all_about_a_message,
                       test_outbox_show_tells_why_a_message_is_parked_and_who_gave_it_up,
                       test_outbox_show_finds_a_message_among_many),
        .setup = given_outbox,
    });
}
