/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What each role may do, and above all what it must not: a table of statements.
 */
#include "test/support/db.h"
#include "test/support/run.h"

#include <saga/outbox.h>
#include <saga/saga.h>
#include <string.h>

#define DENIED "42501"

#define ORDER_ID "'019a5b2e-7c00-7a10-8000-0000000000aa'"

static const char *conninfo;
static PGconn *conn;

static void
given_some_rows(void)
{
    conninfo = given_database();
    conn = given_session(conninfo);
    db_exec(conn, "INSERT INTO saga.definition (name, digest, steps)"
                  " VALUES ('order', 'digest', '[{\"name\": \"reserve\"}]')");
    db_exec(conn, "SELECT saga.start('order', 'order-1'), outbox.enqueue('t', 'payload')");
    db_exec(conn, "INSERT INTO outbox.parked (seq, message_id, topic, key, headers, created_at,"
                  "                           error, attempts)"
                  " VALUES (1, " ORDER_ID ", 't', 'k', '', now(), 'why', 1)");
    db_exec(conn, "INSERT INTO outbox.parked_key (topic, key, error) VALUES ('t', 'k', 'why')");
    db_exec(conn, "CREATE TABLE public.theirs (a int)");
}

struct attempt {
    const char *sql;
};

/* Each in a transaction of its own that is rolled back. */
static void
expect_all(const char *role, const struct attempt *attempts, size_t n, const char *sqlstate)
{
    for (size_t i = 0; i < n; i++) {
        const char *refusal;

        db_exec(conn, "BEGIN; SET LOCAL ROLE %s", role);
        refusal = db_refusal(conn, "%s", attempts[i].sql);
        ck_assert_msg(strcmp(refusal, sqlstate) == 0, "%s: %s: %s", role, attempts[i].sql,
                      *refusal != '\0' ? refusal : "allowed");
        db_exec(conn, "ROLLBACK");
    }
}

#define MAY(role, list)      expect_all((role), (list), sizeof(list) / sizeof *(list), "")
#define MUST_NOT(role, list) expect_all((role), (list), sizeof(list) / sizeof *(list), DENIED)

/* --- services ---------------------------------------------------------------- */

static const struct attempt app_may[] = {
    { "SELECT outbox.enqueue('t', 'payload', 'key', '{\"a\": \"b\"}')" },
    { "INSERT INTO outbox.message (message_id, topic, payload)"
      " VALUES (" ORDER_ID ", 't', 'payload')" },
    { "SELECT status FROM outbox.local_messages" },
    { "SELECT saga.start('order', 'order-2', '{\"sku\": \"lamp\"}')" },
    { "SELECT saga.cancel((SELECT id FROM saga.instance), 'because')" },
    { "SELECT FROM saga.instance FOR UPDATE" },
    { "UPDATE saga.instance SET state = 'compensating'" },
    { "SELECT FROM saga.history" },
    { "SELECT FROM saga.audit" },
    { "SELECT FROM saga.migration" },
    { "SELECT FROM idempotency.inbox" },
    { "SELECT FROM outbox.parked, outbox.parked_key, outbox.audit" },
    { "SELECT FROM outbox.status" },
    { "SELECT FROM outbox.show(" ORDER_ID "), outbox.where_in_kafka(" ORDER_ID ")" },
    { "SELECT outbox.retry('t', 'k', 'because')" },
    { "SELECT outbox.discard(" ORDER_ID ", 'because')" },
};
static const struct attempt app_must_not[] = {
    /* What is parked is the relay's and the verbs'. */
    { "DELETE FROM outbox.parked" },
    { "INSERT INTO outbox.watched VALUES ('g', 't', 0, 5)" },
    { "DELETE FROM outbox.published_range" },
    { "SELECT outbox.seqs_of(" ORDER_ID ")" },
    { "UPDATE outbox.parked SET payload = 'other'" },
    { "INSERT INTO outbox.parked_key (topic, key, error) VALUES ('t', 'x', 'forged')" },
    { "UPDATE outbox.parked_key SET request = 1" },
    { "INSERT INTO outbox.audit (verb, reason) VALUES ('retry', 'forged')" },
    { "DELETE FROM outbox.audit" },
    /* The relay rests on xid and seq being drawn by the server, in this order,
     * and on rows that never change. */
    { "INSERT INTO outbox.message (xid, message_id, topic) VALUES ('5', " ORDER_ID ", 't')" },
    { "INSERT INTO outbox.message (seq, message_id, topic) OVERRIDING SYSTEM VALUE"
      " VALUES (1, " ORDER_ID ", 't')" },
    { "UPDATE outbox.message SET payload = 'other'" },
    { "DELETE FROM outbox.message" },
    { "TRUNCATE outbox.message" },
    { "INSERT INTO outbox.message_0 (message_id, topic) VALUES (" ORDER_ID ", 't')" },
    { "DELETE FROM outbox.message_0" },
    { "SELECT setval('outbox.message_seq_seq', 1)" },
    { "SELECT nextval('outbox.message_seq_seq')" },
    { "ALTER SEQUENCE outbox.message_seq_seq RESTART" },
    { "UPDATE outbox.stream SET epoch = 7" },
    { "SELECT FROM outbox.stream" },
    /* History and audit are only ever added to; the audit by the verbs. */
    { "UPDATE saga.history SET reason = 'other'" },
    { "DELETE FROM saga.history" },
    { "INSERT INTO saga.audit (verb, reason) VALUES ('retry', 'forged')" },
    { "UPDATE saga.audit SET who = 'somebody else'" },
    { "DELETE FROM saga.audit" },
    { "SELECT saga.ask((SELECT id FROM saga.instance), 'retry', ARRAY['running'], 'because')" },
    { "DELETE FROM saga.instance" },
    { "DELETE FROM saga.business_key" },
    { "UPDATE saga.business_key SET saga_id = " ORDER_ID },
    { "DELETE FROM saga.definition" },
    /* What was seen stays seen. */
    { "DELETE FROM idempotency.inbox" },
    { "UPDATE idempotency.inbox SET message_id = " ORDER_ID },
    { "DELETE FROM idempotency.barrier" },
    { "UPDATE idempotency.barrier SET step = 'other'" },
    { "DELETE FROM idempotency.quarantine" },
    { "INSERT INTO saga.migration (number, name, sha256) VALUES (1, 'a', 'b')" },
    { "DELETE FROM saga.migration" },
    { "CREATE TABLE outbox.mine ()" },
    { "CREATE TABLE saga.mine ()" },
    { "DROP TABLE saga.instance" },
    { "SELECT FROM public.theirs" },
};

START_TEST(test_rights_of_services)
{
    MAY("saga_app", app_may);
    MUST_NOT("saga_app", app_must_not);
}
END_TEST

/* --- the relay ---------------------------------------------------------------- */

static const struct attempt relay_may[] = {
    { "SELECT xid, seq, payload FROM outbox.message" },
    { "SELECT name FROM outbox.migration" },
    { "SELECT last_value, is_called FROM outbox.message_seq_seq" },
    { "UPDATE outbox.stream SET epoch = epoch + 1" },
    { "SELECT pg_logical_emit_message(true, 'saga', '')" },
};
static const struct attempt relay_must_not[] = {
    { "SELECT outbox.retry('t', 'k', 'because')" },
    { "SELECT outbox.discard(" ORDER_ID ", 'because')" },
    { "UPDATE outbox.parked SET payload = 'other'" },
    { "INSERT INTO outbox.audit (verb, reason) VALUES ('retry', 'forged')" },
    { "INSERT INTO outbox.message (message_id, topic) VALUES (" ORDER_ID ", 't')" },
    { "SELECT outbox.enqueue('t', 'payload')" },
    { "UPDATE outbox.message SET payload = 'other'" },
    { "DELETE FROM outbox.message" },
    { "SELECT setval('outbox.message_seq_seq', 1)" },
    { "SELECT nextval('outbox.message_seq_seq')" },
    { "INSERT INTO outbox.stream (stream, prev, floor_seq, floor_xid)"
      " VALUES (0, '3:3:', 0, '3')" },
    { "DELETE FROM outbox.stream" },
    { "SELECT FROM saga.instance" },
    { "SELECT FROM saga.migration" },
    { "SELECT data FROM saga.instance" },
    { "SELECT FROM saga.history" },
    { "SELECT FROM saga.audit" },
    { "SELECT saga.start('order', 'order-2')" },
    { "SELECT saga.cancel(" ORDER_ID ", 'because')" },
    { "SELECT FROM idempotency.inbox" },
    { "SELECT FROM public.theirs" },
    { "CREATE TABLE outbox.mine ()" },
};

START_TEST(test_rights_of_the_relay)
{
    MAY("saga_relay", relay_may);
    MUST_NOT("saga_relay", relay_must_not);
}
END_TEST

/* --- those who look ----------------------------------------------------------- */

static const struct attempt monitor_may[] = {
    { "SELECT FROM saga.instance" },
    { "SELECT FROM saga.history" },
    { "SELECT FROM saga.audit" },
    { "SELECT FROM saga.definition" },
    { "SELECT FROM saga.migration" },
    { "SELECT FROM outbox.message" },
    { "SELECT FROM outbox.stream" },
    { "SELECT FROM outbox.local_messages" },
    { "SELECT FROM outbox.status" },
    { "SELECT FROM outbox.published_range, outbox.watched" },
    { "SELECT FROM outbox.show(" ORDER_ID ", true)" },
    { "SELECT FROM idempotency.inbox" },
    { "SELECT FROM idempotency.barrier" },
    { "SELECT FROM idempotency.quarantine" },
};
static const struct attempt monitor_must_not[] = {
    { "SELECT outbox.retry('t', 'k', 'because')" },
    { "SELECT outbox.discard(" ORDER_ID ", 'because')" },
    { "SELECT outbox.enqueue('t', 'payload')" },
    { "INSERT INTO outbox.message (message_id, topic) VALUES (" ORDER_ID ", 't')" },
    { "DELETE FROM outbox.message" },
    { "UPDATE outbox.stream SET epoch = 7" },
    { "SELECT setval('outbox.message_seq_seq', 1)" },
    { "SELECT saga.start('order', 'order-2')" },
    { "SELECT saga.cancel((SELECT id FROM saga.instance), 'because')" },
    { "SELECT saga.retry((SELECT id FROM saga.instance), 'because')" },
    { "UPDATE saga.instance SET state = 'compensating'" },
    { "SELECT FROM saga.instance FOR UPDATE" },
    { "INSERT INTO saga.audit (verb, reason) VALUES ('retry', 'forged')" },
    { "DELETE FROM idempotency.inbox" },
    { "DELETE FROM saga.migration" },
    { "CREATE TABLE saga.mine ()" },
};

START_TEST(test_rights_of_those_who_look)
{
    MAY("saga_monitor", monitor_may);
    MUST_NOT("saga_monitor", monitor_must_not);
}
END_TEST

/* Also for tables that are yet to come. */
START_TEST(test_rights_of_those_who_look_hold_for_every_table)
{
    ck_assert_ptr_null(db_text(
        conn, "SELECT string_agg(c.oid::regclass::text, ' ') FROM pg_class c"
              " WHERE relnamespace IN ('saga'::regnamespace, 'outbox'::regnamespace,"
              " 'idempotency'::regnamespace) AND relkind IN ('r', 'p', 'v') AND"
              " has_table_privilege('saga_monitor', c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')"));
    ck_assert_ptr_null(db_text(
        conn,
        "SELECT string_agg(c.oid::regclass::text, ' ') FROM pg_class c"
        " WHERE relnamespace IN ('saga'::regnamespace, 'outbox'::regnamespace,"
        " 'idempotency'::regnamespace) AND relkind IN ('r', 'p', 'v')"
        " AND NOT relispartition AND NOT has_table_privilege('saga_monitor', c.oid, 'SELECT')"));
}
END_TEST

START_TEST(test_rights_of_the_owner_are_nobody_elses)
{
    ck_assert_ptr_null(
        db_text(conn, "SELECT string_agg(rolname, ' ') FROM pg_roles"
                      " WHERE rolname IN ('saga_app', 'saga_relay', 'saga_monitor')"
                      " AND (pg_has_role(oid, 'saga_owner', 'MEMBER') OR rolcanlogin OR rolsuper"
                      " OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)"));
}
END_TEST

/* Who is in none of the roles has no business here. */
START_TEST(test_rights_of_a_stranger_are_none)
{
    static const struct attempt attempts[] = {
        { "SELECT FROM saga.instance" },
        { "SELECT FROM outbox.local_messages" },
        { "SELECT outbox.enqueue('t', 'payload')" },
        { "SELECT saga.start('order', 'order-2')" },
    };
    const char *stranger = unique_name("stranger");

    db_exec(conn, "CREATE ROLE %s NOLOGIN", stranger);
    MUST_NOT(stranger, attempts);
    db_exec(conn, "DROP ROLE %s", stranger);
}
END_TEST

static int
do_nothing(struct saga_ctx *ctx, void *user)
{
    (void)ctx;
    (void)user;
    return SAGA_DONE;
}

/* Whose connection it is, the library's own or the caller's. */
START_TEST(test_who_has_no_right_is_told_by_the_library_which_role_it_needs)
{
    static const struct saga_step steps[] = {
        { .name = "a", .run = do_nothing, .compensate = do_nothing }
    };
    static const struct saga_definition definition = { SAGA_DEFINITION("mine", steps) };
    const struct saga_message message = { .topic = "t" };
    const struct saga_worker_options options = {
        SAGA_WORKER_OPTIONS, .conninfo = text_of("%s options='-c role=saga_monitor'", conninfo)
    };
    struct saga_worker *worker;
    struct saga_error err = { 0 };

    ck_assert_int_eq(saga_worker_new(&worker, &options, &err), 0);
    ck_assert_int_ne(saga_worker_add(worker, &definition, NULL, &err), 0);
    ck_assert_msg(strstr(err.message, "this login needs saga_app") != NULL, "%s", err.message);
    saga_worker_free(worker);

    db_exec(conn, "BEGIN; SET LOCAL ROLE saga_monitor");
    memset(&err, 0, sizeof err);
    ck_assert_int_eq(saga_enqueue(conn, &message, 1, NULL, &err), SAGA_EDB);
    ck_assert_str_eq(err.sqlstate, DENIED);
    ck_assert_msg(strstr(err.message, "this login needs saga_app") != NULL, "%s", err.message);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "ops/rights",
        .setup = given_some_rows,
        .timeout_s = 60,
        .tests =
            TESTS(test_rights_of_services, test_rights_of_the_relay, test_rights_of_those_who_look,
                  test_rights_of_those_who_look_hold_for_every_table,
                  test_rights_of_the_owner_are_nobody_elses, test_rights_of_a_stranger_are_none,
                  test_who_has_no_right_is_told_by_the_library_which_role_it_needs),
    });
}
