/* SPDX-License-Identifier: Apache-2.0 */
/* long */
/*
 * Writing messages: from C and from SQL, what is stored and what is refused.
 */
#include "test/support/outbox.h"
#include "test/support/run.h"

#include <saga/outbox.h>
#include <stdlib.h>
#include <string.h>

static PGconn *conn;

static void
setup(void)
{
    conn = given_session(given_database());
}

static int64_t
rows(void)
{
    return db_int(conn, "SELECT count(*) FROM outbox.message");
}

/* In a transaction of its own, which is committed if the call succeeds. */
static int
enqueue_c(const struct saga_message *messages, size_t n, struct saga_error *err)
{
    int rc;

    db_exec(conn, "BEGIN");
    rc = saga_enqueue(conn, messages, n, NULL, err);
    /* A refusal before anything is sent leaves the transaction usable. */
    db_exec(conn, "COMMIT");
    return rc;
}

#define MESSAGE(...) (&(struct saga_message){ .topic = "t", __VA_ARGS__ })

static char *
text_of_length(size_t n)
{
    char *text = malloc(n + 1);

    ck_assert_ptr_nonnull(text);
    memset(text, 'x', n);
    text[n] = '\0';
    at_test_end(free, text);
    return text;
}

/* --- what is stored ---------------------------------------------------- */

START_TEST(test_enqueue_stores_messages_in_the_order_of_the_array)
{
    struct saga_message messages[50] = { 0 };
    struct saga_uuid ids[50];
    struct saga_error err;
    char id[37];

    for (int i = 0; i < 50; i++)
        messages[i] = (struct saga_message){
            .topic = text_of("topic%d", i % 3),
            .key = i % 2 == 0 ? text_of("key%d", i) : NULL,
            .payload = { text_of("value%02d", i), 7 },
        };
    db_exec(conn, "BEGIN");
    ck_assert_int_eq(saga_enqueue(conn, messages, 50, ids, &err), 0);
    db_exec(conn, "COMMIT");

    ck_assert_int_eq(rows(), 50);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM (SELECT convert_from(payload, 'UTF8') AS v,"
                                  " 'value' || lpad((row_number() OVER (ORDER BY seq) - 1)::text,"
                                  " 2, '0') AS w FROM outbox.message) o WHERE v = w"),
                     50);
    saga_uuid_text(&ids[7], id);
    ck_assert_str_eq(db_text(conn, "SELECT message_id FROM outbox.message WHERE seq = 8"), id);
    ck_assert_ptr_null(db_text(conn, "SELECT key FROM outbox.message WHERE seq = 8"));
    ck_assert_str_eq(db_text(conn, "SELECT key FROM outbox.message WHERE seq = 9"), "key8");
    ck_assert_str_eq(db_text(conn, "SELECT DISTINCT substr(message_id::text, 15, 1)"
                                   " FROM outbox.message"),
                     "7");
}
END_TEST

START_TEST(test_enqueue_keeps_payloads_and_headers_as_they_are)
{
    const struct saga_uuid id = { { 1, 2, 3, 4, 5, 6, 0x70, 8, 0x80, 10, 11, 12, 13, 14, 15, 16 } };
    const struct saga_message messages[] = {
        { .id = id, .topic = "t", .payload = { "\0\xff\n", 3 } },
        { .topic = "t", .payload = { "", 0 } },
        { .topic = "t", .payload = { NULL, 5 } },
        { .topic = "t",
          .headers = SAGA_PAIRS({ "a", "" }, { "", "b" }, { "q\"uo\\te", "{x:y} \n NULL" },
                                { "na:me", "NULL" }, { "ü", "→" }) },
    };
    struct saga_error err;

    ck_assert_int_eq(enqueue_c(messages, 4, &err), 0);
    ck_assert_str_eq(db_text(conn, "SELECT message_id FROM outbox.message WHERE seq = 1"),
                     "01020304-0506-7008-800a-0b0c0d0e0f10");
    ck_assert_str_eq(db_text(conn, "SELECT payload FROM outbox.message WHERE seq = 1"),
                     "\\x00ff0a");
    ck_assert_str_eq(db_text(conn, "SELECT payload FROM outbox.message WHERE seq = 2"), "\\x");
    ck_assert_ptr_null(db_text(conn, "SELECT payload FROM outbox.message WHERE seq = 3"));
    ck_assert_int_eq(
        db_int(conn, "SELECT count(*) FROM outbox.message WHERE seq = 4 AND headers ="
                     " E'a: \\n: b\\nq\"uo\\\\\\\\te: {x:y} \\\\n NULL\\nna\\\\:me: NULL\\nü: →'"),
        1);
}
END_TEST

START_TEST(test_enqueue_from_sql_stores_the_same)
{
    db_exec(conn,
            "SELECT outbox.enqueue('t', '\\x00ff', 'k', '{\"a\": \"1\", \"q\\\\\\n:\": \"\"}',"
            " '01020304-0506-7008-800a-0b0c0d0e0f10')");
    db_exec(conn, "SELECT outbox.enqueue('t', NULL)");
    ck_assert_str_eq(
        db_text(conn, "SELECT (message_id, topic, key, headers, payload)::text"
                      " FROM outbox.message WHERE seq = 1"),
        "(01020304-0506-7008-800a-0b0c0d0e0f10,t,k,\"a: 1\nq\\\\\\\\\\\\n\\\\:: \",\"\\\\x00ff\")");
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM outbox.message WHERE seq = 2"
                                  " AND key IS NULL AND payload IS NULL AND headers = ''"
                                  " AND substr(message_id::text, 15, 1) = '7'"),
                     1);
    /* Version 7: the first 48 bits are now, in milliseconds. */
    ck_assert_int_eq(
        db_int(conn,
               "SELECT count(*) FROM outbox.message WHERE seq = 2 AND"
               " abs(('x' || substr(replace(message_id::text, '-', ''), 1, 12))::bit(48)::bigint"
               " - extract(epoch FROM clock_timestamp()) * 1000) < 10000"),
        1);
}
END_TEST

/* --- O18: outside a transaction ---------------------------------------- */

START_TEST(test_enqueue_o18_refuses_without_a_transaction)
{
    struct saga_error err;

    ck_assert_int_eq(saga_enqueue(conn, MESSAGE(), 1, NULL, &err), SAGA_ENOTX);
    ck_assert_int_eq(err.code, SAGA_ENOTX);
    ck_assert_ptr_nonnull(strstr(err.message, "saga_begin"));
    ck_assert_int_eq(rows(), 0);
}
END_TEST

/* Sends what is queued and returns the SQLSTATE of the first error, or "". */
static const char *
flush_pipeline(void)
{
    const char *state = "";
    PGresult *result;

    ck_assert(PQpipelineSync(conn));
    for (bool synced = false; !synced;) {
        result = PQgetResult(conn);
        if (result == NULL)
            continue;
        synced = PQresultStatus(result) == PGRES_PIPELINE_SYNC;
        if (PQresultStatus(result) == PGRES_FATAL_ERROR)
            state = text_of("%s", PQresultErrorField(result, PG_DIAG_SQLSTATE));
        PQclear(result);
    }
    return state;
}

static void
queue(const char *sql)
{
    ck_assert(PQsendQueryParams(conn, sql, 0, NULL, NULL, NULL, NULL, 0));
}

START_TEST(test_enqueue_o18_in_a_pipeline_is_refused_by_the_server)
{
    struct saga_error err;

    ck_assert(PQenterPipelineMode(conn));
    ck_assert_int_eq(saga_enqueue(conn, MESSAGE(), 1, NULL, &err), 0);
    ck_assert_str_eq(flush_pipeline(), "25P01");
    ck_assert(PQexitPipelineMode(conn));
    ck_assert_int_eq(rows(), 0);
}
END_TEST

START_TEST(test_enqueue_in_a_pipeline_only_queues)
{
    struct saga_uuid ids[2];
    struct saga_message messages[] = { { .topic = "a", .headers = SAGA_PAIRS({ "h", "v" }) },
                                       { .topic = "b" } };
    struct saga_error err;

    ck_assert(PQenterPipelineMode(conn));
    queue("BEGIN");
    ck_assert_int_eq(saga_enqueue(conn, messages, 2, ids, &err), 0);
    ck_assert_int_eq(saga_enqueue(conn, messages, 0, NULL, &err), 0);
    queue("COMMIT");
    ck_assert_str_eq(flush_pipeline(), "");
    ck_assert(PQexitPipelineMode(conn));
    ck_assert_str_eq(db_text(conn, "SELECT string_agg(topic || '-' || headers, ' ' ORDER BY seq)"
                                   " FROM outbox.message"),
                     "a-h: v b-");
}
END_TEST

/* psql and others commit each statement by themselves: a transaction too. */
START_TEST(test_enqueue_from_sql_is_a_transaction_of_its_own)
{
    ck_assert_str_eq(db_refusal(conn, "SELECT outbox.enqueue('t', NULL)"), "");
    db_exec(conn, "BEGIN");
    db_exec(conn, "SELECT outbox.enqueue('t', NULL)");
    db_exec(conn, "ROLLBACK");
    ck_assert_int_eq(rows(), 1);
}
END_TEST

/* --- O15: no NOTIFY ----------------------------------------------------- */

/* A transaction that has notified somebody cannot be prepared. */
static void
expect_silence(void)
{
    const char *name = unique_name("prepared");

    db_exec(conn, "PREPARE TRANSACTION '%s'", name);
    db_exec(conn, "COMMIT PREPARED '%s'", name);
}

START_TEST(test_enqueue_o15_notifies_nobody)
{
    const struct saga_message messages[] = {
        { .topic = "t" },
        { .topic = "t" },
        { .topic = "t", .deliver_at_us = INT64_C(4102444800000000) },
    };
    struct saga_error err;

    for (size_t n = 1; n <= 3; n++) {
        db_exec(conn, "BEGIN");
        ck_assert_int_eq(saga_enqueue(conn, messages, n, NULL, &err), 0);
        expect_silence();
    }
    db_exec(conn, "BEGIN");
    db_exec(conn, "SELECT outbox.enqueue('t', NULL),"
                  " outbox.enqueue('t', NULL, deliver_at => now() + interval '1 hour')");
    expect_silence();
    ck_assert_int_eq(rows(), 6);

    /* That it would be noticed. */
    db_exec(conn, "BEGIN; NOTIFY anybody");
    ck_assert_str_eq(db_refusal(conn, "PREPARE TRANSACTION 'loud'"), "0A000");
}
END_TEST

/* --- O19: limits ------------------------------------------------------- */

struct limit {
    const char *name;
    size_t topic, key, header, payload; /* lengths; 0: none */
    bool fits;
};
static const struct limit limits[] = {
    { "the longest topic", 249, 0, 0, 0, true },
    { "a longer topic", 250, 0, 0, 0, false },
    { "the longest key", 1, 1024, 0, 0, true },
    { "a longer key", 1, 1025, 0, 0, false },
    { "the longest headers", 1, 0, 16381, 0, true },
    { "longer headers", 1, 0, 16382, 0, false },
    { "the longest payload", 1, 0, 0, 983040, true },
    { "a longer payload", 1, 0, 0, 983041, false },
    { "the longest of everything", 249, 1024, 16381, 983040, true },
};

START_TEST(test_enqueue_o19_limits_are_the_same_in_c_and_in_sql)
{
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        const struct limit *limit = &limits[i];
        struct saga_message messages[] = {
            { .topic = "first" },
            { .topic = text_of_length(limit->topic),
              .key = limit->key > 0 ? text_of_length(limit->key) : NULL,
              .headers = SAGA_PAIRS({ "n", text_of_length(limit->header) }),
              .payload = { text_of_length(limit->payload), limit->payload } },
        };
        struct saga_error err;
        int64_t before = rows();
        int rc = enqueue_c(messages, 2, &err);

        ck_assert_msg(rc == (limit->fits ? 0 : SAGA_ELIMIT), "%s in C: %d %s", limit->name, rc,
                      err.message);
        if (!limit->fits)
            ck_assert_uint_eq(err.index, 1);
        ck_assert_int_eq(rows() - before, limit->fits ? 2 : 0);
        ck_assert_msg(
            strcmp(db_refusal(conn,
                              "SELECT outbox.enqueue(repeat('x', %zu), convert_to(repeat('x', %zu),"
                              " 'UTF8'), nullif(repeat('x', %zu), ''),"
                              " jsonb_build_object('n', repeat('x', %zu)))",
                              limit->topic, limit->payload, limit->key, limit->header),
                   limit->fits ? "" : "23514") == 0,
            "%s in SQL", limit->name);
    }
}
END_TEST

START_TEST(test_enqueue_o19_the_largest_message_gets_through)
{
    const char *topic = GIVEN_TOPIC(1);
    const struct saga_message message = {
        .topic = topic,
        .key = text_of_length(1024),
        .headers = SAGA_PAIRS({ "n", text_of_length(16381) }),
        .payload = { text_of_length(983040), 983040 },
    };
    struct saga_error err;

    ck_assert_int_eq(enqueue_c(&message, 1, &err), 0);
    publish_once(text_of("dbname=%s", PQdb(conn)));
    ck_assert_uint_eq(topic_records(topic).n, 1);
    ck_assert_uint_eq(topic_records(topic).at[0].value_bytes, 983040);
}
END_TEST

/* --- malformed --------------------------------------------------------- */

static void
expect_malformed(const struct saga_message *message, const char *says)
{
    const struct saga_message messages[] = { { .topic = "t" }, *message };
    struct saga_error err;
    int rc = enqueue_c(messages, 2, &err);

    ck_assert_msg(rc == SAGA_EINVAL, "%d instead of: %s", rc, says);
    ck_assert_msg(strstr(err.message, says) != NULL, "says: %s", err.message);
    ck_assert_uint_eq(err.index, 1);
    ck_assert_int_eq(rows(), 0);
}

START_TEST(test_enqueue_names_the_malformed_message)
{
    static const char bad[] = "\xc3\x28";

    expect_malformed(&(struct saga_message){ 0 }, "no topic");
    expect_malformed(&(struct saga_message){ .topic = "" }, "no topic");
    expect_malformed(&(struct saga_message){ .topic = "a b" }, "topic");
    expect_malformed(&(struct saga_message){ .topic = "\xc3\xbc" }, "topic");
    expect_malformed(&(struct saga_message){ .topic = ".." }, "and is neither . nor ..");
    expect_malformed(MESSAGE(.key = bad), "UTF-8");
    expect_malformed(MESSAGE(.headers = SAGA_PAIRS({ "n", bad })), "UTF-8");
    expect_malformed(MESSAGE(.headers = SAGA_PAIRS({ bad, "v" })), "UTF-8");
    expect_malformed(MESSAGE(.headers = SAGA_PAIRS({ "n", NULL })), "NULL");
    expect_malformed(MESSAGE(.headers = SAGA_PAIRS({ "message-id", "1" })), "message-id");
    expect_malformed(MESSAGE(.deliver_at_us = -1), "deliver_at_us");
    expect_malformed(MESSAGE(.deliver_at_us = INT64_C(253402300800000000)), "deliver_at_us");
    expect_malformed(MESSAGE(.reserved = { 0, 0, 1 }), "reserved");
}
END_TEST

START_TEST(test_enqueue_from_sql_refuses_what_is_malformed)
{
    static const struct {
        const char *arguments, *sqlstate;
    } cases[] = {
        { "NULL, NULL", "23502" },
        { "'', NULL", "23514" },
        { "'a b', NULL", "23514" },
        { "'.', NULL", "23514" },
        { "'t', NULL, NULL, '[]'", "22023" },
        { "'t', NULL, NULL, '1'", "22023" },
        { "'t', NULL, NULL, '{\"a\": 1}'", "22023" },
        { "'t', NULL, NULL, '{\"a\": null}'", "22023" },
        { "'t', NULL, NULL, '{\"a\": {\"b\": \"c\"}}'", "22023" },
        { "'t', NULL, NULL, '{\"message-id\": \"1\"}'", "22023" },
        { "'t', NULL, NULL, '{', NULL", "22P02" },
        { "'t', NULL, NULL, '{}', NULL, 'infinity'", "23514" },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *state = db_refusal(conn, "SELECT outbox.enqueue(%s)", cases[i].arguments);

        ck_assert_msg(strcmp(state, cases[i].sqlstate) == 0, "%s: %s instead of %s",
                      cases[i].arguments, state, cases[i].sqlstate);
    }
    ck_assert_int_eq(rows(), 0);
}
END_TEST

/* Our texts are UTF-8; the server would take them for something else and convert them. */
START_TEST(test_enqueue_refuses_a_connection_of_another_encoding)
{
    struct saga_error err;

    ck_assert_int_eq(PQsetClientEncoding(conn, "LATIN1"), 0);
    ck_assert_int_eq(enqueue_c(MESSAGE(.key = "\xc3\xa4"), 1, &err), SAGA_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.message, "client_encoding"));
    ck_assert_int_eq(rows(), 0);
    ck_assert_int_eq(PQsetClientEncoding(conn, "UTF8"), 0);
    ck_assert_int_eq(enqueue_c(MESSAGE(.key = "\xc3\xa4"), 1, &err), 0);
    ck_assert_str_eq(db_text(conn, "SELECT key FROM outbox.message"), "\xc3\xa4");
}
END_TEST

START_TEST(test_enqueue_says_that_the_schema_is_missing)
{
    PGconn *empty = db_connect(given_empty_database());
    struct saga_error err;

    db_exec(empty, "BEGIN");
    ck_assert_int_eq(saga_enqueue(empty, MESSAGE(), 1, NULL, &err), SAGA_ESCHEMA);
    ck_assert_ptr_nonnull(strstr(err.message, "sagactl migrate up"));
    ck_assert(err.flags & SAGA_ERR_TX_ABORTED);
    PQfinish(empty);
}
END_TEST

/* --- rights and shape -------------------------------------------------- */

START_TEST(test_outbox_services_may_write_messages_and_nothing_else)
{
    static const char *const forbidden[] = {
        "INSERT INTO outbox.message (message_id, topic, xid)"
        " VALUES (gen_random_uuid(), 't', '5')",
        "INSERT INTO outbox.message (message_id, topic, seq) OVERRIDING SYSTEM VALUE"
        " VALUES (gen_random_uuid(), 't', 5)",
        "INSERT INTO outbox.message (message_id, topic, created_at)"
        " VALUES (gen_random_uuid(), 't', now())",
        "SELECT setval('outbox.message_seq_seq', 1)",
        "SELECT nextval('outbox.message_seq_seq')",
        "ALTER SEQUENCE outbox.message_seq_seq RESTART",
        "UPDATE outbox.message SET topic = 'x'",
        "DELETE FROM outbox.message",
        "TRUNCATE outbox.message",
        "UPDATE outbox.stream SET last_seq = 0",
    };

    db_exec(conn, "SET ROLE saga_app");
    ck_assert_str_eq(db_refusal(conn, "SELECT outbox.enqueue('t', NULL)"), "");
    for (size_t i = 0; i < sizeof forbidden / sizeof *forbidden; i++)
        ck_assert_msg(strcmp(db_refusal(conn, "%s", forbidden[i]), "42501") == 0, "%s",
                      forbidden[i]);
    db_exec(conn, "SET ROLE saga_relay");
    ck_assert_str_eq(db_refusal(conn, "SELECT outbox.enqueue('t', NULL)"), "42501");
    db_exec(conn, "RESET ROLE");
    /* Not even the owner by mistake. */
    ck_assert_str_eq(db_refusal(conn, "INSERT INTO outbox.message (message_id, topic, seq)"
                                      " VALUES (gen_random_uuid(), 't', 5)"),
                     "428C9");
}
END_TEST

START_TEST(test_outbox_o16_xid_comes_first_and_the_sequence_has_no_cache)
{
    ck_assert_str_eq(db_text(conn, "SELECT string_agg(attname, ' ' ORDER BY attnum)"
                                   " FROM pg_attribute WHERE attrelid = 'outbox.message'::regclass"
                                   " AND attnum IN (1, 2)"),
                     "xid seq");
    ck_assert_int_eq(db_int(conn, "SELECT seqcache FROM pg_sequence"
                                  " WHERE seqrelid = 'outbox.message_seq_seq'::regclass"),
                     1);
    ck_assert_str_eq(db_text(conn, "SELECT attidentity FROM pg_attribute"
                                   " WHERE attrelid = 'outbox.message'::regclass"
                                   " AND attname = 'seq'"),
                     "a");
}
END_TEST

/* Two sessions take turns on one key, under its row's lock. */
START_TEST(test_outbox_o16_sequence_ascends_for_a_key)
{
    PGconn *sides[] = { conn, db_connect(text_of("dbname=%s", PQdb(conn))) };

    db_exec(conn, "CREATE TABLE entity (n bigint)");
    db_exec(conn, "INSERT INTO entity VALUES (0)");
    for (int i = 0; i < 40; i++) {
        PGconn *side = sides[i / 3 % 2];

        db_exec(side, "BEGIN");
        db_exec(side, "UPDATE entity SET n = n + 1");
        enqueue(side, "t", "k", text_of("%03d", i));
        db_exec(side, "COMMIT");
    }
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM (SELECT payload, lag(payload)"
                                  " OVER (ORDER BY seq) AS before FROM outbox.message) o"
                                  " WHERE payload < before"),
                     0);
    PQfinish(sides[1]);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox_enqueue",
        .tests = TESTS(
            test_enqueue_stores_messages_in_the_order_of_the_array,
            test_enqueue_keeps_payloads_and_headers_as_they_are,
            test_enqueue_from_sql_stores_the_same, test_enqueue_o18_refuses_without_a_transaction,
            test_enqueue_o18_in_a_pipeline_is_refused_by_the_server,
            test_enqueue_in_a_pipeline_only_queues,
            test_enqueue_from_sql_is_a_transaction_of_its_own, test_enqueue_o15_notifies_nobody,
            test_enqueue_o19_limits_are_the_same_in_c_and_in_sql,
            test_enqueue_o19_the_largest_message_gets_through,
            test_enqueue_names_the_malformed_message,
            test_enqueue_from_sql_refuses_what_is_malformed,
            test_enqueue_refuses_a_connection_of_another_encoding,
            test_enqueue_says_that_the_schema_is_missing,
            test_outbox_services_may_write_messages_and_nothing_else,
            test_outbox_o16_xid_comes_first_and_the_sequence_has_no_cache,
            test_outbox_o16_sequence_ascends_for_a_key),
        .setup = setup,
    });
}
