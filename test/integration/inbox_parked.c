/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a consumer has put aside: parked messages and their keys, the quarantine,
 * and sagactl's verbs for both.
 */
#include "test/support/db.h"
#include "test/support/run.h"
#include "test/support/sagactl.h"
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

#define INBOX(...) SAGACTL(database, "inbox", __VA_ARGS__)

/* --- as a consumer does ------------------------------------------------------------ */

static const char *
new_id(void)
{
    return db_text(conn, "SELECT outbox.uuid_v7()");
}

static const char *
receive(PGconn *tx, const char *id)
{
    return db_text(
        tx, "SELECT verdict FROM idempotency.receive('c', '{%s}', '{x}', '{t}', '{0}', '{7}')", id);
}

/* `error` is SQL. */
static bool
park(PGconn *tx, const char *key, const char *id, const char *error)
{
    return db_int(tx,
                  "SELECT idempotency.park('c', 't', %s, '%s', 'x', 0, 7, '{a,1}', 'payload', %s,"
                  " 1)::int",
                  key, id, error) == 1;
}

static const char *
take(PGconn *tx, int at_most)
{
    return db_text(tx,
                   "SELECT coalesce(string_agg(message_id::text, ',' ORDER BY id), '')"
                   " FROM idempotency.take_retried('c', '{t}', %d)",
                   at_most);
}

static void
retry(const char *key)
{
    db_exec(conn, "SELECT idempotency.retry('c', 't', %s, 'because')", key);
}

/* --- keys and their order ------------------------------------------------------------ */

/* trap: I23: in order, later ones behind, and the key flows when the last is gone. */
START_TEST(test_parked_key_is_retried_in_order_and_flows_again_i23)
{
    const char *a = new_id(), *b = new_id(), *c = new_id();

    ck_assert(!park(conn, "'k'", a, "NULL"));
    ck_assert_str_eq(receive(conn, a), "fresh");
    ck_assert(park(conn, "'k'", a, "'broken'"));
    ck_assert(park(conn, "'k'", b, "NULL"));
    ck_assert(!park(conn, "'other'", c, "NULL"));
    ck_assert_str_eq(receive(conn, a), "duplicate");
    ck_assert_str_eq(take(conn, 10), "");

    retry("'k'");
    db_exec(other, "BEGIN");
    ck_assert_str_eq(take(other, 1), a);
    ck_assert_str_eq(take(conn, 1), ""); /* it is in other hands */
    db_exec(other, "ROLLBACK");
    db_exec(other, "BEGIN");
    ck_assert_str_eq(take(other, 1), a);
    ck_assert_str_eq(take(other, 5), b);
    db_exec(other, "COMMIT");
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM idempotency.parked_key"), 0);
    ck_assert(!park(conn, "'k'", c, "NULL"));
}
END_TEST

START_TEST(test_parked_message_that_fails_again_waits_for_the_next_retry)
{
    const char *a = new_id();

    park(conn, "'k'", a, "'broken'");
    retry("'k'");
    db_exec(conn, "SELECT idempotency.park_again(id, 'still broken') FROM idempotency.parked");
    ck_assert_str_eq(take(conn, 1), "");
    ck_assert_str_eq(db_text(conn, "SELECT error || attempts FROM idempotency.parked"),
                     "still broken2");
    ck_assert_str_eq(db_text(conn, "SELECT error FROM idempotency.parked_key"), "still broken");
}
END_TEST

START_TEST(test_parked_messages_without_a_key_hold_nobody_up)
{
    const char *a = new_id(), *b = new_id();

    ck_assert(park(conn, "NULL", a, "'broken'"));
    ck_assert(park(conn, "NULL", b, "'broken'"));
    retry("NULL");
    db_exec(other, "BEGIN");
    ck_assert_str_eq(take(other, 1), a);
    ck_assert_str_eq(take(conn, 5), b);
    db_exec(other, "COMMIT");
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM idempotency.parked"), 0);
}
END_TEST

struct late {
    pthread_t thread;
    const char *id;
    bool parked;
};

static void *
park_behind(void *arg)
{
    struct late *late = arg;

    late->parked = park(conn, "'k'", late->id, "NULL");
    return NULL;
}

/* trap: I23: one that comes while the last one of its key is being applied. */
START_TEST(test_message_that_comes_during_the_last_retry_is_not_left_behind_i23)
{
    struct late late = { .id = new_id() };
    PGconn *third = db_connect(database);

    park(conn, "'k'", new_id(), "'broken'");
    retry("'k'");
    db_exec(other, "BEGIN");
    take(other, 1);
    pthread_create(&late.thread, NULL, park_behind, &late);
    WAIT_UNTIL(db_int(third, "SELECT count(*) FROM pg_locks WHERE NOT granted") > 0, 10000);
    db_exec(other, "COMMIT");
    pthread_join(late.thread, NULL);
    ck_assert(!late.parked);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM idempotency.parked"), 0);
    PQfinish(third);
}
END_TEST

/* --- the quarantine -------------------------------------------------------------------- */

static void
quarantine(const char *id)
{
    db_exec(conn,
            "INSERT INTO idempotency.quarantine (consumer, reason, message_id, topic, partition,"
            " \"offset\", hash, key, payload, headers) VALUES ('c', 'old', %s, 't', 0,"
            " (SELECT count(*) FROM idempotency.quarantine), 'x', 'k', 'payload', '{a,1}')",
            id);
}

/* trap: I29: applied once, whatever the mark says. */
START_TEST(test_released_message_is_applied_once_from_its_copy_i29)
{
    const char *old = "00000000-0000-7000-8000-000000000001";

    quarantine(text_of("'%s'", old));
    EXPECT_ANSWER(INBOX("quarantine", "c"), 0, old);
    EXPECT_ANSWER(INBOX("release", "1", "--reason", "known to be missing"), 0, "released");
    EXPECT_ANSWER(INBOX("release", "1", "--reason", "again"), 4, "released already");
    ck_assert_str_eq(take(conn, 10), old);
    ck_assert_str_eq(take(conn, 10), "");
    ck_assert_str_eq(receive(conn, old), "below");
    ck_assert_str_eq(db_text(conn, "SELECT string_agg(verb || ' ' || reason, ',') FROM"
                                   " idempotency.audit"),
                     "release known to be missing");
}
END_TEST

START_TEST(test_released_message_is_a_duplicate_when_it_is_read_again)
{
    const char *id = new_id(), *soon = db_text(conn, "SELECT outbox.uuid_v7(now() + '2 days')"),
               *late = db_text(conn, "SELECT outbox.uuid_v7(now() + '90 days')");

    db_exec(conn, "SELECT idempotency.clean_up()");
    quarantine(text_of("'%s'", id));
    quarantine(text_of("'%s'", soon));
    quarantine(text_of("'%s'", late));
    quarantine("NULL");
    EXPECT_ANSWER(INBOX("release", "1", "--reason", "x"), 0, "");
    ck_assert_str_eq(receive(conn, id), "duplicate");
    EXPECT_ANSWER(INBOX("release", "2", "--reason", "x"), 0, "");
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM idempotency.inbox"), 2);
    EXPECT_ANSWER(INBOX("release", "3", "--reason", "x"), 4, "further ahead");
    EXPECT_ANSWER(INBOX("release", "4", "--reason", "x"), 4,
                  "consumer could not tell it from others. Reject it and send it again with one.");
    EXPECT_ANSWER(INBOX("release", "5", "--reason", "x"), 3, "no message 5");
    EXPECT_ANSWER(INBOX("reject", "4", "--reason", "x"), 0, "rejected");
    EXPECT_ANSWER(INBOX("reject", "3"), 2, "--reason");

    /* Applied meanwhile, through Kafka. */
    id = new_id();
    quarantine(text_of("'%s'", id));
    ck_assert_str_eq(receive(conn, id), "fresh");
    EXPECT_ANSWER(INBOX("release", "5", "--reason", "x"), 4, "applied meanwhile");
    EXPECT_ANSWER(INBOX("--json", "quarantine"), 0, id);
}
END_TEST

/* --- commands in hand ----------------------------------------------------------------- */

/* Its token. */
static const char *
given_waiting_command(const char *consumer, const char *step)
{
    const char *saga = new_id(), *token;

    db_exec(conn, "BEGIN");
    db_exec(conn, "SELECT FROM idempotency.enter('%s', '%s', '%s', 'run', '%s')", consumer, saga,
            step, new_id());
    token = db_text(conn, "SELECT idempotency.wait('%s', '%s', '%s', 'run', 'replies')", consumer,
                    saga, step);
    db_exec(conn, "COMMIT");
    return token;
}

START_TEST(test_commands_in_hand_are_shown_until_they_are_answered)
{
    const char *bank = given_waiting_command("payment", "transfer");
    const char *truck = given_waiting_command("shipping", "deliver");
    struct answer answer;

    db_exec(conn, "UPDATE idempotency.barrier SET created_at = now() - interval '3 days 4 hours'"
                  " WHERE consumer = 'shipping'");
    answer = INBOX("waiting");
    EXPECT_ANSWER(answer, 0, bank);
    EXPECT_ANSWER(answer, 0, "3 days 04:00:0");
    ck_assert(strstr(answer.out, truck) < strstr(answer.out, bank)); /* longest first */
    answer = INBOX("waiting", "payment", "--json");
    EXPECT_ANSWER(answer, 0, bank);
    EXPECT_ANSWER(answer, 0, "\"reply_to\":\"replies\"");
    ck_assert_ptr_null(strstr(answer.out, truck));
    db_exec(conn, "SELECT idempotency.reply('%s', 'done')", bank);
    EXPECT_ANSWER(INBOX("waiting", "payment"), 0, "(none)");
}
END_TEST

START_TEST(test_commands_in_hand_are_found_without_reading_the_whole_barrier)
{
    const char *plan;

    given_waiting_command("payment", "transfer");
    db_exec(conn, "INSERT INTO idempotency.barrier (consumer, saga_id, step, action, outcome,"
                  "                                 message_id, saga_started_at)"
                  " SELECT 'c', gen_random_uuid(), 's', 'run', 'done', gen_random_uuid(), now()"
                  "   FROM generate_series(1, 3000); ANALYZE idempotency.barrier");
    plan = db_text(conn, "EXPLAIN (FORMAT JSON) SELECT * FROM idempotency.waiting"
                         " ORDER BY since LIMIT 50");
    ck_assert_msg(strstr(plan, "barrier_waiting") != NULL, "%s", plan);
}
END_TEST

/* --- sagactl's other verbs ------------------------------------------------------------- */

START_TEST(test_parked_messages_are_shown_retried_and_discarded_by_sagactl)
{
    const char *a = new_id(), *b = new_id();

    park(conn, "'k'", a, "'the stock is broken'");
    park(conn, "'k'", b, "NULL");
    EXPECT_ANSWER(INBOX("parked"), 0, "the stock is broken");
    EXPECT_ANSWER(INBOX("parked", "c", "elsewhere"), 0, "");
    EXPECT_ANSWER(INBOX("retry", "c", "t", "k", "--reason", "mended"), 0, "asked for");
    EXPECT_ANSWER(INBOX("retry", "c", "t", "l", "--reason", "mended"), 3, "\"l\"");
    EXPECT_ANSWER(INBOX("retry", "c", "t", "--reason", "mended"), 3, "without a key");
    EXPECT_ANSWER(INBOX("retry", "c", "t", "k"), 2, "--reason");

    db_exec(other, "BEGIN");
    take(other, 1);
    EXPECT_ANSWER(INBOX("discard", "c", b, "--reason", "x"), 4,
                  "just now. Once it has tried, the message is applied");
    db_exec(other, "ROLLBACK");
    EXPECT_ANSWER(INBOX("discard", "c", a, "--reason", "nobody wants it"), 0, "discarded");
    ck_assert_str_eq(db_text(conn, "SELECT error FROM idempotency.parked_key"),
                     "the message before it was discarded; it needs a retry");
    EXPECT_ANSWER(INBOX("discard", "c", a, "--reason", "x"), 3, a);
    EXPECT_ANSWER(INBOX("discard", "c", "nonsense", "--reason", "x"), 2, "nonsense");
    EXPECT_ANSWER(INBOX("discard", "c", b, "--reason", "x"), 0, "discarded");
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM idempotency.parked_key"), 0);
    EXPECT_ANSWER(INBOX("horizon"), 0, "oldest");
    ck_assert_str_eq(db_text(conn, "SELECT string_agg(verb, ',' ORDER BY id) FROM"
                                   " idempotency.audit"),
                     "retry,discard,discard");
}
END_TEST

/* What was in it only where that is asked for. */
START_TEST(test_show_tells_what_each_consumer_has_made_of_a_message)
{
    const char *id = new_id(), *behind = new_id(), *applied = new_id();
    struct answer answer;

    ck_assert_str_eq(receive(conn, id), "fresh");
    park(conn, "'k'", id, "'the stock is broken'");
    park(conn, "'k'", behind, "NULL");
    quarantine(text_of("'%s'", id));
    answer = INBOX("show", id);
    EXPECT_ANSWER(answer, 0, "status         parked\n");
    EXPECT_ANSWER(answer, 0, "error          the stock is broken\n");
    EXPECT_ANSWER(answer, 0, "headers        a: 1\n");
    EXPECT_ANSWER(answer, 0, "payload_bytes  7\n");
    EXPECT_ANSWER(answer, 0, "status         quarantined\n");
    ck_assert_ptr_null(strstr(answer.out, "PAYLOAD"));
    ck_assert_ptr_null(strstr(answer.out, "applied"));
    EXPECT_ANSWER(INBOX("show", id, "--payload"), 0, "PAYLOAD\npayload\n");
    EXPECT_ANSWER(INBOX("show", behind), 0, "its key waits: the stock is broken");
    EXPECT_ANSWER(INBOX("show", "1"), 0, "number         1\n");

    answer = INBOX("show", id, "--json");
    EXPECT_ANSWER(answer, 0, "\"headers\":[\"a\",\"1\"]");
    EXPECT_ANSWER(answer, 0, "\"payload\":null");
    EXPECT_ANSWER(INBOX("show", id, "--json", "--payload"), 0, "\"payload\":\"payload\"");
    db_exec(conn, "UPDATE idempotency.quarantine SET payload = '\\xff00'");
    EXPECT_ANSWER(INBOX("show", "1", "--payload"), 0, "in hexadecimal)\nff00\n");
    db_exec(conn, "UPDATE idempotency.quarantine SET payload = NULL");
    EXPECT_ANSWER(INBOX("show", "1", "--payload"), 0, "PAYLOAD: none");
    db_exec(conn, "UPDATE idempotency.quarantine SET headers = ARRAY['message-id', NULL, 'a', '']");
    EXPECT_ANSWER(INBOX("show", "1"), 0, "headers        message-id, a: \n");

    ck_assert_str_eq(receive(conn, applied), "fresh");
    answer = INBOX("show", applied, "--payload");
    EXPECT_ANSWER(answer, 0, "status         applied\n");
    ck_assert_ptr_null(strstr(answer.out, "PAYLOAD")); /* nobody has kept it */
    EXPECT_ANSWER(INBOX("discard", "c", id, "--reason", "nobody wants it"), 0, "");
    EXPECT_ANSWER(INBOX("show", id), 0, "status         discarded\n");
    EXPECT_ANSWER(INBOX("show", new_id()), 3, "no consumer of this database knows");
    EXPECT_ANSWER(INBOX("show", "2"), 3, "no consumer of this database knows");
    EXPECT_ANSWER(INBOX("show", "k"), 2, "neither the id of a message nor a number");

    answer = INBOX("audit");
    EXPECT_ANSWER(answer, 0, id);
    EXPECT_ANSWER(answer, 0, "nobody wants it");
    EXPECT_ANSWER(INBOX("audit", "--json"), 0, "\"key\":\"k\"");
}
END_TEST

/* As the login of somebody who only looks. */
START_TEST(test_show_and_why_need_no_more_than_the_right_to_look)
{
    const char *login = unique_name("looker"), *looker, *id = new_id();

    db_exec(conn, "CREATE ROLE %s LOGIN IN ROLE saga_monitor", login);
    looker = text_of("%s user=%s", database, login);
    park(conn, "'k'", id, "'the stock is broken'");
    EXPECT_ANSWER(SAGACTL(looker, "inbox", "show", id, "--payload"), 0, "PAYLOAD\npayload\n");
    EXPECT_ANSWER(SAGACTL(looker, "inbox", "audit"), 0, "(none)");
    db_exec(conn, "INSERT INTO saga.definition (name, digest, steps) VALUES"
                  " ('order', 'one', '[{\"name\": \"reserve\", \"kind\": \"pivot\"}]')");
    db_exec(conn, "SELECT saga.start('order', 'order-1')");
    EXPECT_ANSWER(SAGACTL(looker, "why", "order-1"), 0, "a worker of order");
    db_exec(conn, "DROP ROLE %s", login);
}
END_TEST

START_TEST(test_horizon_shows_how_long_everything_is_kept_under_the_names_that_set_it)
{
    static const char *const what[] = { "inbox", "foreign", "barrier", "guard" };
    struct answer answer;

    for (int i = 0; i < 4; i++)
        db_exec(conn, "SELECT idempotency.keep('%s', '%d days', 'test')", what[i], 11 + i);
    answer = INBOX("horizon", "--json");
    for (int i = 0; i < 4; i++)
        EXPECT_ANSWER(answer, 0, text_of("\"keep_%s\":\"%d days\"", what[i], 11 + i));
}
END_TEST

/* After an outage: each key, those without one, and one that was released and failed. */
START_TEST(test_all_that_a_topic_has_parked_is_retried_at_once)
{
    const char *a = new_id(), *b = new_id(), *c = new_id(), *none = new_id(), *released = new_id();
    struct answer answer;

    EXPECT_ANSWER(INBOX("retry", "c", "t", "--all", "--reason", "x"), 3, "nothing of topic");
    park(conn, "'k'", a, "'broken'");
    park(conn, "'k'", b, "NULL");
    park(conn, "'l'", c, "'broken'");
    park(conn, "NULL", none, "'broken'");
    park(conn, "'m'", released, "'broken'");
    db_exec(conn, "DELETE FROM idempotency.parked_key WHERE key = 'm'");
    db_exec(conn, "SELECT idempotency.park(x.c, x.t, 'k', outbox.uuid_v7(), 'x', 0, 7, '{a,1}',"
                  " 'payload', 'broken', 1) FROM (VALUES ('c', 'other'), ('other', 't')) x (c, t)");
    EXPECT_ANSWER(INBOX("retry", "c", "t", "k", "--all", "--reason", "x"), 2, "or --all");
    EXPECT_ANSWER(INBOX("retry", "c", "t", "--all"), 2, "--reason");
    answer = INBOX("retry", "c", "t", "--all", "--reason", "the bank is back");
    EXPECT_ANSWER(answer, 0, "(keys: 3; messages without a key: 1)");
    EXPECT_ANSWER(INBOX("retry", "c", "t", "--all", "--reason", "again", "--json"), 0,
                  "\"keys\" : 3");
    ck_assert_str_eq(take(conn, 10), text_of("%s,%s", a, b)); /* in the order of their key */
    ck_assert_str_eq(take(conn, 10), c);
    ck_assert_str_eq(take(conn, 10), text_of("%s,%s", none, released));
    ck_assert_str_eq(take(conn, 10), "");
    ck_assert_str_eq(db_text(conn, "SELECT string_agg(consumer || '/' || topic, ',' ORDER BY id)"
                                   " FROM idempotency.parked"),
                     "c/other,other/t");
    ck_assert_int_eq(db_int(conn, "SELECT count(request) FROM idempotency.parked_key"), 0);
    ck_assert_str_eq(db_text(conn, "SELECT string_agg(verb || ' ' || reason, ', ' ORDER BY id)"
                                   " FROM idempotency.audit"),
                     "retry all keys (3), messages without a key (1): the bank is back,"
                     " retry all keys (3), messages without a key (1): again");
}
END_TEST

/* However its session finds the keys. */
static struct process *
start_retry_of_all(const char *plans)
{
    const char *there = text_of("%s options='-c enable_bitmapscan=off -c %s=off'", database, plans);

    return start_process(ARGS("sagactl", "--database", there, "inbox", "retry", "c", "t", "--all",
                              "--reason", "the bank is back"),
                         NULL);
}

static bool
so_many_wait(int n)
{
    return db_int(conn, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                        " AND wait_event_type = 'Lock'") == n;
}

static void
park_keys(int from, int to)
{
    for (int i = from; i >= to; i--)
        park(conn, text_of("'%03d'", i), new_id(), "'broken'");
}

/* Parked in another order than that of their keys, and one in the middle is being applied: it is
 * waited for, and gone. trap: I23 */
START_TEST(test_many_keys_are_retried_by_two_at_once_while_one_is_at_work_i23)
{
    enum { KEYS = 250 };
    struct process *retries[2];

    park_keys(KEYS, KEYS / 2);
    retry("'125'");
    park_keys(KEYS / 2 - 1, 1);
    db_exec(other, "BEGIN");
    take(other, 1);
    retries[0] = start_retry_of_all("enable_indexscan");
    WAIT_UNTIL(so_many_wait(1), 10000);
    retries[1] = start_retry_of_all("enable_seqscan");
    WAIT_UNTIL(so_many_wait(2), 10000);
    db_exec(other, "COMMIT");
    for (int i = 0; i < 2; i++) {
        process_expect(retries[i], 0, 10000);
        ck_assert_ptr_nonnull(strstr(process_output(retries[i]), "(keys: 249; messages without"));
    }
    ck_assert_int_eq(db_int(conn, "SELECT count(request) FROM idempotency.parked_key"), KEYS - 1);
    ck_assert_int_eq(db_int(conn, "SELECT count(DISTINCT request) FROM idempotency.parked_key"), 1);
    for (int i = 1; i < KEYS; i++)
        ck_assert_str_ne(take(conn, 1), "");
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM idempotency.parked_key"), 0);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "inbox_parked",
        .tests = TESTS(test_parked_key_is_retried_in_order_and_flows_again_i23,
                       test_parked_message_that_fails_again_waits_for_the_next_retry,
                       test_parked_messages_without_a_key_hold_nobody_up,
                       test_message_that_comes_during_the_last_retry_is_not_left_behind_i23,
                       test_released_message_is_applied_once_from_its_copy_i29,
                       test_released_message_is_a_duplicate_when_it_is_read_again,
                       test_commands_in_hand_are_shown_until_they_are_answered,
                       test_commands_in_hand_are_found_without_reading_the_whole_barrier,
                       test_parked_messages_are_shown_retried_and_discarded_by_sagactl,
                       test_all_that_a_topic_has_parked_is_retried_at_once,
                       test_show_tells_what_each_consumer_has_made_of_a_message,
                       test_show_and_why_need_no_more_than_the_right_to_look,
                       test_many_keys_are_retried_by_two_at_once_while_one_is_at_work_i23,
                       test_horizon_shows_how_long_everything_is_kept_under_the_names_that_set_it),
        .setup = setup,
    });
}
