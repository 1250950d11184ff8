/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sagactl list, show, why, retry, cancel, audit and outbox status: what people and
 * programs get to see, and the exit codes that scripts rest on.
 */
#include "test/support/db.h"
#include "test/support/run.h"
#include "test/support/sagactl.h"
#include "test/support/wait.h"

#include <string.h>

#define NOBODY "00000000-0000-7000-8000-000000000000"

static const char *database;
static PGconn *conn;

/* No worker runs here: sagas stay as the tests put them. */
static void
given_definitions(void)
{
    database = given_database();
    conn = given_session(database);
    db_exec(conn, "INSERT INTO saga.definition (name, digest, steps) VALUES"
                  " ('order', 'one', '[{\"name\": \"reserve\", \"kind\": \"compensatable\","
                  "                     \"topic\": \"inventory.commands\"},"
                  "                    {\"name\": \"charge\", \"kind\": \"pivot\"}]'),"
                  " ('refund', 'two', '[{\"name\": \"pay\", \"kind\": \"pivot\"}]')");
}

/* "The newest first" goes by the id, which tells a millisecond. */
static const char *
given_saga(const char *definition, const char *key)
{
    WAIT_UNTIL(db_int(conn, "SELECT count(*) FROM saga.instance"
                            " WHERE created_at > clock_timestamp() - interval '1 ms'") == 0,
               1000);
    return db_text(conn, "SELECT saga.start('%s', '%s', '{\"sku\": \"lamp\"}')", definition, key);
}

static const char *
given_parked_saga(const char *key)
{
    const char *id = given_saga("order", key);

    db_exec(
        conn,
        "UPDATE saga.instance SET state = 'parked', reason = 'charge: no answer', due_at = NULL,"
        " step_states = '{done,waiting}', step_attempts = '{1,5}' WHERE id = '%s'",
        id);
    db_exec(conn,
            "INSERT INTO saga.history (saga_id, version, event, step, action, attempt, step_state,"
            " state, reason) VALUES ('%s', 1, 'timeout', 'charge', 'run', 5, 'waiting', 'parked',"
            " 'charge: no answer')",
            id);
    return id;
}

/* A value out of what sagactl has printed as JSON. */
static const char *
json(struct answer answer, const char *path)
{
    ck_assert_int_eq(answer.code, 0);
    return db_text(conn, "SELECT $json$%s$json$::jsonb #>> '{%s}'", answer.out, path);
}

/* --- looking ----------------------------------------------------------------- */

START_TEST(test_list_filters_and_limits)
{
    const char *first = given_saga("order", "order-1"), *parked = given_parked_saga("order-2"),
               *refund = given_saga("refund", "order-1");
    struct answer all = SAGACTL(database, "list", "--json");

    ck_assert_str_eq(json(all, "0,id"), refund);
    ck_assert_str_eq(json(all, "1,state"), "parked");
    ck_assert_str_eq(json(all, "1,at_step"), "charge");
    ck_assert_str_eq(json(all, "2,id"), first);
    ck_assert_ptr_null(json(all, "3"));
    ck_assert_str_eq(json(SAGACTL(database, "list", "--json", "--limit", "1"), "0,id"), refund);
    ck_assert_ptr_null(json(SAGACTL(database, "list", "--json", "--limit", "1"), "1"));
    ck_assert_str_eq(json(SAGACTL(database, "list", "--json", "--state", "parked"), "0,id"),
                     parked);
    ck_assert_ptr_null(json(SAGACTL(database, "list", "--json", "--definition", "refund"), "1"));
    EXPECT_ANSWER(SAGACTL(database, "list"), 0, "business_key");
    EXPECT_ANSWER(SAGACTL(database, "list"), 0, "charge: no answer");
    EXPECT_ANSWER(SAGACTL(database, "list", "--state", "completed"), 0, "(none)");
    EXPECT_ANSWER(SAGACTL(database, "list", "--state", "completed", "--json"), 0, "[]");
}
END_TEST

START_TEST(test_list_wrong_usage_is_explained)
{
    EXPECT_ANSWER(SAGACTL(database, "list", "--state", "stuck"), 2, "running, compensating,");
    EXPECT_ANSWER(SAGACTL(database, "list", "--limit", "0"), 2, "number from 1");
    EXPECT_ANSWER(SAGACTL(database, "list", "--limit", "ten"), 2, "number from 1");
    EXPECT_ANSWER(SAGACTL(database, "list", "order"), 2, "usage: sagactl list");
    EXPECT_ANSWER(SAGACTL(database, "list", "--reason", "x"), 2, "does not know --reason");
}
END_TEST

START_TEST(test_show_tells_steps_history_and_operators)
{
    const char *id = given_parked_saga("order-1");
    struct answer text, answer;

    EXPECT_ANSWER(SAGACTL(database, "retry", id, "--reason", "the bank is back"), 0, "retry");
    answer = SAGACTL(database, "show", id, "--json");
    ck_assert_str_eq(json(answer, "instance,state"), "parked");
    ck_assert_str_eq(json(answer, "instance,request"), "retry");
    ck_assert_str_eq(json(answer, "instance,data,sku"), "lamp");
    ck_assert_str_eq(json(answer, "steps,0,topic"), "inventory.commands");
    ck_assert_str_eq(json(answer, "steps,0,state"), "done");
    ck_assert_str_eq(json(answer, "steps,1,kind"), "pivot");
    ck_assert_str_eq(json(answer, "steps,1,attempts"), "5");
    ck_assert_str_eq(json(answer, "history,0,event"), "started");
    ck_assert_str_eq(json(answer, "history,1,event"), "timeout");
    ck_assert_str_eq(json(answer, "audit,0,reason"), "the bank is back");

    text = SAGACTL(database, "show", "order-1");
    EXPECT_ANSWER(text, 0, id);
    EXPECT_ANSWER(text, 0, "inventory.commands");
    EXPECT_ANSWER(text, 0, "timeout");
    EXPECT_ANSWER(text, 0, "the bank is back");
}
END_TEST

START_TEST(test_show_finds_by_business_key)
{
    const char *order = given_saga("order", "42"), *refund = given_saga("refund", "42"),
               *odd = given_saga("order", NOBODY);

    EXPECT_ANSWER(SAGACTL(database, "show", "42"), 2, "add --definition");
    ck_assert_str_eq(
        json(SAGACTL(database, "show", "42", "--definition", "refund", "--json"), "instance,id"),
        refund);
    EXPECT_ANSWER(SAGACTL(database, "show", "42", "--definition", "order"), 0, order);
    EXPECT_ANSWER(SAGACTL(database, "show", NOBODY), 0, odd);
    EXPECT_ANSWER(SAGACTL(database, "show", "nix"), 3, "no saga with the id or business key nix");
    EXPECT_ANSWER(SAGACTL(database, "show", "nix", "--json"), 3, "nix");
    EXPECT_ANSWER(SAGACTL(database, "show"), 2, "usage: sagactl show ID|KEY");
}
END_TEST

static void
expect_waits_for(const char *id, const char *text)
{
    EXPECT_ANSWER(SAGACTL(database, "why", id), 0, text);
}

START_TEST(test_why_tells_what_a_saga_waits_for)
{
    const char *id = given_saga("order", "order-1");
    struct answer answer;

    expect_waits_for(id, "a worker of order: it is due since");
    db_exec(conn, "UPDATE saga.instance SET due_at = now() + interval '1 min',"
                  " step_due_at = ARRAY[now() + interval '1 min', NULL],"
                  " step_states = '{waiting,pending}'");
    expect_waits_for(id, "the time to go on, ");
    db_exec(conn,
            "INSERT INTO saga.history (saga_id, version, event, step, action, attempt, state,"
            " message_id) VALUES ('%s', 1, 'sent', 'reserve', 'run', 2, 'running',"
            " outbox.enqueue('inventory.commands', 'x', '%s'))",
            id, id);
    expect_waits_for(id, "the reply of inventory.commands to attempt 2 (run) of step reserve");
    expect_waits_for(id, "which outbox-relay has not published yet");
    db_exec(conn, "UPDATE outbox.stream SET prev = pg_current_snapshot()");
    expect_waits_for(id, "which is published (has its participant parked it? sagactl inbox parked");
    db_exec(conn, "INSERT INTO outbox.parked_key (topic, key, error)"
                  " SELECT topic, key, 'unknown' FROM outbox.message;"
                  "INSERT INTO outbox.parked (seq, message_id, topic, key, headers, payload,"
                  " created_at, error, attempts) SELECT seq, message_id, topic, key, headers,"
                  " payload, created_at, 'no such topic', 1 FROM outbox.message");
    expect_waits_for(id, text_of("which is parked (no such topic): sagactl outbox retry"
                                 " inventory.commands %s --reason",
                                 id));
    db_exec(conn, "SELECT outbox.discard(message_id, 'because') FROM outbox.parked");
    expect_waits_for(id, "which an operator has discarded");
    EXPECT_ANSWER(SAGACTL(database, "cancel", id, "--reason", "because"), 0, "");
    expect_waits_for(id, "an operator has asked for cancel (because)");
    db_exec(conn, "UPDATE saga.instance SET request = NULL, state = 'parked', reason = 'stuck'");
    expect_waits_for(id, "a person: ");
    db_exec(conn, "UPDATE saga.instance SET state = 'completed', due_at = NULL");
    answer = SAGACTL(database, "why", "order-1", "--json");
    ck_assert_str_eq(json(answer, "waits_for"), "nothing: it has ended");
    EXPECT_ANSWER(SAGACTL(database, "why", "nix"), 3, "nix");
}
END_TEST

/* A saga that waits for the reply of "reserve"; its command is published. */
static const char *
given_sent_saga(void)
{
    const char *id = given_saga("order", "order-1");

    db_exec(conn,
            "UPDATE saga.instance SET due_at = now() + interval '1 min',"
            " step_due_at = ARRAY[now() + interval '1 min', NULL],"
            " step_states = '{waiting,pending}';"
            "INSERT INTO saga.history (saga_id, version, event, step, action, attempt, state,"
            " message_id) VALUES ('%s', 1, 'sent', 'reserve', 'run', 2, 'running',"
            " outbox.enqueue('inventory.commands', 'x', '%s'))",
            id, id);
    db_exec(conn, "UPDATE outbox.stream SET prev = pg_current_snapshot()");
    return id;
}

static void
park_record(const char *topic, const char *key, const char *headers, const char *error)
{
    db_exec(conn,
            "SELECT idempotency.park('%s', '%s', '%s', gen_random_uuid(), '', 0, 1, '%s', 'x', %s,"
            " 1)",
            strcmp(topic, "order.replies") == 0 ? "order" : "inventory", topic, key, headers,
            error);
}

/* Where they share the database. An earlier attempt is parked, the present one behind it. */
START_TEST(test_why_tells_what_the_participant_has_made_of_the_command)
{
    const char *id = given_sent_saga(), *none = "which is published; until";

    db_exec(conn,
            "INSERT INTO idempotency.consumer_offset (consumer, topic, partition, next_offset)"
            " VALUES ('inventory', 'inventory.commands', 0, 7)");
    park_record("inventory.commands", NOBODY, "{}", "'of another saga'");
    park_record("elsewhere", id, "{}", "'of something else'");
    expect_waits_for(id, none);
    park_record("inventory.commands", id, "{}", "'stock is broken'");
    park_record("inventory.commands", id, "{}", "NULL");
    expect_waits_for(id, text_of("which consumer inventory has parked (stock is broken): sagactl"
                                 " inbox retry inventory inventory.commands %s --reason",
                                 id));
    EXPECT_ANSWER(SAGACTL(database, "inbox", "retry", "inventory", "inventory.commands", id,
                          "--reason", "mended"),
                  0, "");
    expect_waits_for(id, "has parked (stock is broken): a retry is asked for");
    db_exec(conn, "DELETE FROM idempotency.parked; DELETE FROM idempotency.parked_key");

    db_exec(conn,
            "SELECT idempotency.enter('inventory', '%s', 'reserve', 'run', '" NOBODY "'),"
            " idempotency.wait('inventory', '%s', 'reserve', 'run', 'order.replies')",
            id, id);
    expect_waits_for(id, "which consumer inventory has taken in hand (sagactl inbox waiting "
                         "inventory)");
    park_record("order.replies", id, "{saga-outcome,done}", "'no room'");
    expect_waits_for(id, text_of("whose reply consumer order has parked (no room): sagactl inbox"
                                 " retry order order.replies %s --reason",
                                 id));
}
END_TEST

START_TEST(test_why_tells_that_the_command_is_quarantined_or_discarded)
{
    const char *id = given_sent_saga();

    db_exec(conn, "INSERT INTO idempotency.audit (verb, consumer, topic, message_id, reason)"
                  " SELECT 'discard', 'inventory', 'inventory.commands', message_id, 'because'"
                  "   FROM saga.history WHERE event = 'sent'");
    expect_waits_for(id, "which an operator has discarded at consumer inventory (because)");
    db_exec(conn, "INSERT INTO idempotency.quarantine (consumer, reason, message_id, topic,"
                  " partition, \"offset\", hash, headers) SELECT 'inventory', 'no such step',"
                  " message_id, 'inventory.commands', 0, 1, '', '{}' FROM saga.history"
                  "  WHERE event = 'sent'");
    expect_waits_for(id,
                     "which is number 1 in the quarantine of consumer inventory (no such step)");
}
END_TEST

/* What a service has written must not move the cursor of the operator's
 * terminal, or worse. */
START_TEST(test_show_keeps_control_characters_from_the_terminal)
{
    const char *id = given_saga("order", "order-1");
    struct answer answer;

    db_exec(conn,
            "UPDATE saga.instance SET reason = 'a' || chr(27) || '[2Jb' || chr(155) || 'c' ||"
            " chr(7) || chr(13) || chr(127) || chr(233) || chr(10) || 'd' WHERE id = '%s'",
            id);
    answer = SAGACTL(database, "show", id);
    EXPECT_ANSWER(answer, 0, "a?[2Jb?c???\xC3\xA9 d\n");
    EXPECT_ANSWER(SAGACTL(database, "list"), 0, "a?[2Jb?c???\xC3\xA9 d\n");
    ck_assert_str_eq(json(SAGACTL(database, "show", id, "--json"), "instance,reason"),
                     "a\033[2Jb\xC2\x9B"
                     "c\a\r\177\xC3\xA9\nd");
}
END_TEST

START_TEST(test_outbox_status_tells_what_waits)
{
    struct answer answer;

    db_exec(conn, "SELECT outbox.enqueue('t', 'a'), outbox.enqueue('t', 'b')");
    answer = SAGACTL(database, "outbox", "status", "--json");
    ck_assert_str_eq(json(answer, "0,pending"), "2");
    ck_assert_str_eq(json(answer, "0,relay"), "none");
    ck_assert_ptr_nonnull(json(answer, "0,oldest_pending"));
    db_exec(conn, "UPDATE outbox.stream SET owner = gen_random_uuid(),"
                  " lease_until = now() + interval '1 min',"
                  " prev = pg_current_snapshot()");
    answer = SAGACTL(database, "outbox", "status", "--json");
    ck_assert_str_eq(json(answer, "0,pending"), "0");
    ck_assert_str_eq(json(answer, "0,relay"), "running");
    ck_assert_ptr_null(json(answer, "0,lag"));
    EXPECT_ANSWER(SAGACTL(database, "outbox", "status"), 0, "pending");
}
END_TEST

/* --- doing -------------------------------------------------------------------- */

START_TEST(test_retry_asks_once_and_keeps_the_reason)
{
    const char *id = given_parked_saga("order-1");
    struct answer answer = SAGACTL(database, "retry", id, "--reason", "it's back", "--json");

    ck_assert_str_eq(json(answer, "id"), id);
    ck_assert_str_eq(json(answer, "request"), "retry");
    ck_assert_str_eq(db_text(conn, "SELECT request FROM saga.instance"), "retry");
    ck_assert_str_eq(db_text(conn, "SELECT reason FROM saga.audit WHERE saga_id = '%s'", id),
                     "it's back");
    ck_assert_str_eq(json(SAGACTL(database, "audit", id, "--json"), "0,who"), "postgres");
    EXPECT_ANSWER(SAGACTL(database, "audit"), 0, "it's back");
    EXPECT_ANSWER(SAGACTL(database, "audit", NOBODY), 0, "(none)");
    EXPECT_ANSWER(SAGACTL(database, "audit", "nonsense"), 2, "not the id of a saga");
}
END_TEST

START_TEST(test_cancel_of_a_running_saga_is_asked_for)
{
    const char *id = given_saga("order", "order-1");

    EXPECT_ANSWER(SAGACTL(database, "cancel", id, "--reason", "customer called"), 0,
                  "cancel is asked for");
    ck_assert_str_eq(db_text(conn, "SELECT request FROM saga.instance"), "cancel");
}
END_TEST

/* The pivot's reply may still come: a worker would only say so in the history. trap: S17 */
START_TEST(test_cancel_of_a_parked_saga_s17_behind_its_pivot_is_refused_at_once)
{
    static const char *const states[] = { "{done,waiting}", "{done,done}" };
    const char *id = given_parked_saga("order-1");
    struct answer answer;

    for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
        db_exec(conn, "UPDATE saga.instance SET step_states = '%s'", states[i]);
        answer = SAGACTL(database, "cancel", id, "--reason", "customer called");
        EXPECT_ANSWER(answer, 4, "point of no return, step \"charge\", which is done or may be");
        EXPECT_ANSWER(answer, 4, "retry lets it go on");
        ck_assert_str_eq(db_refusal(conn, "SELECT saga.cancel('%s', 'x')", id), "55000");
    }
    EXPECT_ANSWER(SAGACTL(database, "why", id), 0, "cannot be undone any more (step charge)");
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM saga.audit"), 0);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM saga.instance WHERE request IS NOT NULL"),
                     0);
    EXPECT_ANSWER(SAGACTL(database, "retry", id, "--reason", "the bank is back"), 0, "asked for");
}
END_TEST

START_TEST(test_cancel_of_a_parked_saga_before_its_pivot_is_asked_for)
{
    static const char *const states[] = { "{waiting,pending}", "{done,running}" };

    for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
        const char *id = given_parked_saga(text_of("order-%zu", i));

        db_exec(conn, "UPDATE saga.instance SET step_states = '%s' WHERE id = '%s'", states[i], id);
        EXPECT_ANSWER(SAGACTL(database, "why", id), 0, "sagactl retry or sagactl cancel");
        EXPECT_ANSWER(SAGACTL(database, "cancel", id, "--reason", "x"), 0, "cancel is asked for");
    }
}
END_TEST

START_TEST(test_cancel_of_what_is_being_undone_says_what_to_do)
{
    const char *id = given_parked_saga("order-1");

    db_exec(conn, "UPDATE saga.instance SET step_states = '{compensating,failed}'");
    EXPECT_ANSWER(SAGACTL(database, "cancel", id, "--reason", "x"), 4, "retry lets it go on");
    EXPECT_ANSWER(SAGACTL(database, "why", id), 0, "then sagactl retry, and it is undone further");
}
END_TEST

static const char *const changing[] = { "retry", "cancel" };

START_TEST(test_verbs_refusals_have_their_exit_codes)
{
    const char *running = given_saga("order", "order-1"), *done = given_saga("order", "order-2");

    db_exec(conn, "UPDATE saga.instance SET state = 'completed', due_at = NULL WHERE id = '%s'",
            done);
    for (int i = 0; i < 2; i++) {
        const char *verb = changing[i];

        EXPECT_ANSWER(SAGACTL(database, verb, running), 2, "needs --reason");
        EXPECT_ANSWER(SAGACTL(database, verb, running, "--reason", "  "), 2, "needs --reason");
        EXPECT_ANSWER(SAGACTL(database, verb, running, "--reason"), 2, "--reason");
        EXPECT_ANSWER(SAGACTL(database, verb), 2, text_of("usage: sagactl %s ID", verb));
        EXPECT_ANSWER(SAGACTL(database, verb, "order-1", "--reason", "x"), 2,
                      "\"order-1\" is not the id of a saga");
        EXPECT_ANSWER(SAGACTL(database, verb, NOBODY, "--reason", "x"), 3, "no saga " NOBODY);
        EXPECT_ANSWER(SAGACTL(database, verb, done, "--reason", "x"), 4, "it is completed");
    }
    EXPECT_ANSWER(SAGACTL(database, "retry", running, "--reason", "x"), 4,
                  "it is running, not parked");
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM saga.audit"), 0);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM saga.instance WHERE request IS NOT NULL"),
                     0);
}
END_TEST

START_TEST(test_verbs_without_schema_or_server_say_so)
{
    static const char *const words[][4] = { { "list" },
                                            { "show", "order-1" },
                                            { "why", "order-1" },
                                            { "audit" },
                                            { "outbox", "status" },
                                            { "retry", NOBODY, "--reason", "x" },
                                            { "cancel", NOBODY, "--reason", "x" } };
    const char *empty = given_empty_database();

    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        const char *args[] = { "sagactl",   "--database", empty,       words[i][0],
                               words[i][1], words[i][2],  words[i][3], NULL };

        EXPECT_ANSWER(sagactl(args), 1, "run \"sagactl migrate up\"");
        args[2] = "host=127.0.0.1 port=1";
        EXPECT_ANSWER(sagactl(args), 1, "Connection refused");
    }
}
END_TEST

START_TEST(test_verbs_without_rights_say_so)
{
    const char *id = given_parked_saga("order-1"), *login = unique_name("watcher");
    const char *theirs = text_of("%s user=%s", database, login);

    db_exec(conn, "CREATE ROLE %s LOGIN IN ROLE saga_monitor", login);
    EXPECT_ANSWER(SAGACTL(theirs, "list"), 0, "order-1");
    EXPECT_ANSWER(SAGACTL(theirs, "show", id), 0, "order-1");
    EXPECT_ANSWER(SAGACTL(theirs, "why", id), 0, "a person");
    EXPECT_ANSWER(SAGACTL(theirs, "audit"), 0, "(none)");
    EXPECT_ANSWER(SAGACTL(theirs, "outbox", "status"), 0, "pending");
    EXPECT_ANSWER(SAGACTL(theirs, "migrate", "status"), 0, "0001_schemas");
    EXPECT_ANSWER(SAGACTL(theirs, "retry", id, "--reason", "x"), 1, "this login needs saga_app\n");
    EXPECT_ANSWER(SAGACTL(theirs, "migrate", "up"), 1, "this login needs saga_owner, and CREATE");
    EXPECT_ANSWER(SAGACTL(theirs, "outbox", "streams", "2"), 1, "this login needs saga_owner\n");
    db_exec(conn, "REVOKE saga_monitor FROM %s", login);
    EXPECT_ANSWER(SAGACTL(theirs, "list"), 1, "this login needs saga_monitor\n");
    db_exec(conn, "GRANT saga_app TO %s", login);
    EXPECT_ANSWER(SAGACTL(theirs, "retry", id, "--reason", "x"), 0, "asked for");
    ck_assert_str_eq(db_text(conn, "SELECT who FROM saga.audit"), login);
    db_exec(conn, "DROP ROLE %s", login);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "ops/sagas",
        .setup = given_definitions,
        .timeout_s = 60,
        .tests =
            TESTS(test_list_filters_and_limits, test_list_wrong_usage_is_explained,
                  test_show_tells_steps_history_and_operators, test_show_finds_by_business_key,
                  test_why_tells_what_a_saga_waits_for,
                  test_why_tells_what_the_participant_has_made_of_the_command,
                  test_why_tells_that_the_command_is_quarantined_or_discarded,
                  test_show_keeps_control_characters_from_the_terminal,
                  test_outbox_status_tells_what_waits, test_retry_asks_once_and_keeps_the_reason,
                  test_cancel_of_a_running_saga_is_asked_for,
                  test_cancel_of_a_parked_saga_s17_behind_its_pivot_is_refused_at_once,
                  test_cancel_of_a_parked_saga_before_its_pivot_is_asked_for,
                  test_cancel_of_what_is_being_undone_says_what_to_do,
                  test_verbs_refusals_have_their_exit_codes,
                  test_verbs_without_schema_or_server_say_so, test_verbs_without_rights_say_so),
    });
}
