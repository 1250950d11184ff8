/* SPDX-License-Identifier: Apache-2.0 */
/* long */
/*
 * An outbox of several streams: which message belongs where, how processes share
 * them, and what happens when their number changes.
 */
#include "test/support/given_outbox.h"
#include "test/support/mock.h"
#include "test/support/run.h"
#include "test/support/sagactl.h"
#include "test/support/wait.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static void
set_streams(int n)
{
    db_exec(conn, "SELECT * FROM outbox.set_streams(%d)", n);
}

static void
publish_streams_once(int first, int end)
{
    struct saga_error err;

    for (int i = first; i < end; i++)
        ck_assert_msg(
            publish_once_with(RELAY(.conninfo = conninfo, .stream = i, .page_rows = 7), &err) == 0,
            "%s", err.message);
}

/* A process with a relay for each stream. */
struct instance {
    struct relay_thread *relays[8];
    int n;
};

static struct instance
start_instance(const char *name, int n, int lease_ms)
{
    struct instance instance = { .n = n };

    for (int i = 0; i < n; i++)
        instance.relays[i] = start_relay(
            RELAY(.conninfo = conninfo, .stream = i, .lease_ms = lease_ms, .instance = name));
    return instance;
}

static void
stop_instance(const struct instance *instance)
{
    for (int i = 0; i < instance->n; i++)
        ck_assert_int_eq(stop_relay(instance->relays[i]), 0);
}

static int
owned_by(const char *instance)
{
    return (int)db_int(conn,
                       "SELECT count(*) FROM outbox.stream WHERE instance = '%s'"
                       " AND lease_until > clock_timestamp()",
                       instance);
}

/* --- O30 ------------------------------------------------------------------ */

START_TEST(test_streams_o30_belong_to_keys_and_ids_by_this_table)
{
    static const struct {
        const char *key, *id; /* key: its UTF-8 bytes in hex, or NULL: none */
        int of_2, of_4, of_7, of_64;
    } cases[] = {
        { "\\x", "01890a5d-ac96-774b-bcce-b302099a8057", 0, 0, 3, 4 },                /* empty */
        { "\\x61", "01890a5d-ac96-774b-bcce-b302099a8057", 1, 1, 0, 17 },             /* a */
        { "\\x6f726465722d31", "01890a5d-ac96-774b-bcce-b302099a8057", 0, 2, 1, 34 }, /* order-1 */
        { "\\x6f726465722d32", "01890a5d-ac96-774b-bcce-b302099a8057", 0, 0, 2, 16 }, /* order-2 */
        { "\\x3432", "01890a5d-ac96-774b-bcce-b302099a8057", 1, 3, 5, 11 },           /* 42 */
        { "\\xc39c6ec3af636f64652dd0bad0bbd18ed187", "01890a5d-ac96-774b-bcce-b302099a8057", 1, 3,
          5, 23 }, /* Ünïcode-ключ */
        { "\\xe98db5", "01890a5d-ac96-774b-bcce-b302099a8057", 0, 0, 6, 36 },   /* 鍵 */
        { "\\xf09f9880", "01890a5d-ac96-774b-bcce-b302099a8057", 1, 3, 6, 35 }, /* 😀 */
        { NULL, "01890a5d-ac96-774b-bcce-b302099a8057", 1, 3, 6, 23 },
        { NULL, "00000000-0000-7000-8000-000000000001", 1, 3, 4, 47 },
        { NULL, "ffffffff-ffff-7fff-bfff-ffffffffffff", 1, 3, 5, 59 },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *key = cases[i].key != NULL
                              ? text_of("convert_from('%s'::bytea, 'UTF8')", cases[i].key)
                              : "NULL";
        const char *of = text_of(
            "SELECT concat_ws(' ', outbox.stream_of(k, i, 1), outbox.stream_of(k, i, 2),"
            " outbox.stream_of(k, i, 4), outbox.stream_of(k, i, 7), outbox.stream_of(k, i, 64))"
            " FROM (SELECT %s AS k, '%s'::uuid AS i) AS x",
            key, cases[i].id);

        ck_assert_str_eq(
            db_text(conn, "%s", of),
            text_of("0 %d %d %d %d", cases[i].of_2, cases[i].of_4, cases[i].of_7, cases[i].of_64));
    }
}
END_TEST

/* With and without keys, late ones too, and each in its own stream only. */
START_TEST(test_streams_o30_everything_arrives_from_four)
{
    PGconn *late = open_transaction(conninfo);

    set_streams(4);
    enqueue_many(late, topic, "late", 20);
    for (int round = 0; round < 2; round++) {
        db_exec(conn,
                "INSERT INTO outbox.message (message_id, topic, key, payload)"
                " SELECT gen_random_uuid(), '%s', CASE g %% 3 WHEN 0 THEN 'k' || g WHEN 1 THEN ''"
                "        END, convert_to('r%dm' || g, 'UTF8') FROM generate_series(1, 60) g",
                topic, round);
        publish_streams_once(0, 4);
        if (round == 0)
            db_exec(late, "COMMIT");
    }
    ck_assert_int_eq(published_count(topic), 140);
    ck_assert_int_eq(pending(conn), 0);
    for (int i = 0; i < 4; i++)
        ck_assert_int_gt(db_int(conn,
                                "SELECT count(*) FROM outbox.message"
                                " WHERE outbox.stream_of(key, message_id, 4) = %d AND key IS NULL",
                                i),
                         0);
}
END_TEST

START_TEST(test_streams_publish_nothing_of_the_others)
{
    set_streams(4);
    enqueue_many(conn, topic, "m", 50);
    publish_streams_once(2, 3);
    ck_assert_int_eq(published_count(topic),
                     db_int(conn, "SELECT count(*) FROM outbox.message"
                                  " WHERE outbox.stream_of(key, message_id, 4) = 2"));
    ck_assert_int_eq(pending(conn), 50 - published_count(topic));
    ck_assert_int_gt(published_count(topic), 0);
}
END_TEST

/* --- O32 ------------------------------------------------------------------ */

START_TEST(test_streams_o32_go_on_where_the_last_of_the_old_ones_stood)
{
    const char *arrived;

    set_streams(4);
    enqueue_many(conn, topic, "a", 40);
    publish_streams_once(0, 4);
    enqueue_many(conn, topic, "b", 40);
    publish_streams_once(0, 3); /* nobody publishes stream 3 */
    enqueue_many(conn, topic, "c", 40);
    publish_streams_once(0, 1);
    ck_assert_int_gt(pending(conn), 0);
    set_streams(2);
    publish_streams_once(0, 2);
    ck_assert_int_eq(pending(conn), 0);
    arrived = text_of("%s ", published(topic));
    for (int i = 1; i <= 40; i++)
        for (const char *prefix = "abc"; *prefix != '\0'; prefix++)
            ck_assert_ptr_nonnull(strstr(arrived, text_of("%c%d ", *prefix, i)));
}
END_TEST

enum { WRITERS = 3, KEYS = 10, MOST = 4000 };
static atomic_bool writers_stop;

/* Each writer has keys of its own, and writes each one's numbers in order. */
static void *
write_numbers(void *arg)
{
    int writer = (int)(intptr_t)arg, next[KEYS] = { 0 };
    PGconn *session = db_connect(conninfo);
    unsigned seed = (unsigned)writer;

    while (!atomic_load(&writers_stop)) {
        db_exec(session, "BEGIN");
        for (int i = rand_r(&seed) % 5; i >= 0; i--) {
            int n = (int)(rand_r(&seed) % KEYS);
            char key[32], value[48]; /* text_of() is for one thread */

            snprintf(key, sizeof key, "w%dk%d", writer, n);
            snprintf(value, sizeof value, "%s:%d", key, ++next[n]);
            enqueue(session, topic, key, value);
        }
        db_exec(session, "COMMIT");
    }
    PQfinish(session);
    return NULL;
}

/* Every number of every key has arrived, the first time in order. */
static void
expect_all_in_order(void)
{
    struct records records = topic_records(topic);
    int seen[WRITERS][KEYS] = { { 0 } }, different = 0;

    for (size_t i = 0; i < records.n; i++) {
        int writer, key, number;

        ck_assert_int_eq(sscanf(records.at[i].value, "w%dk%d:%d", &writer, &key, &number), 3);
        ck_assert_msg(number <= seen[writer][key] + 1, "%s came after %d", records.at[i].value,
                      seen[writer][key]);
        if (number == seen[writer][key] + 1) {
            seen[writer][key]++;
            different++;
        }
    }
    ck_assert_int_eq(different, db_int(conn, "SELECT count(*) FROM outbox.message"));
}

static void
expect_fenced(struct relay_thread *relay)
{
    WAIT_UNTIL(relay_ended(relay), 10000);
    ck_assert_int_eq(relay_answer(relay), SAGA_EFENCED);
}

static int
published_by(const struct instance *instance)
{
    int64_t sum = 0;

    for (int i = 0; i < instance->n; i++)
        sum += relay_stats(instance->relays[i]).published;
    return (int)sum;
}

START_TEST(test_streams_o32_may_change_their_number_under_load)
{
    struct process *sleeper;
    struct instance one, four, two;
    pthread_t writers[WRITERS];

    for (int i = 0; i < WRITERS; i++)
        pthread_create(&writers[i], NULL, write_numbers, (void *)(intptr_t)i);

    /* One that falls asleep with messages in flight, and one that lives. */
    mock_delay(mock, 50);
    sleeper = start_relay_program(conninfo, "lease_ms = 400\npage_rows = 20", NULL, NULL);
    WAIT_UNTIL(db_int(conn, "SELECT last_seq FROM outbox.stream") > 0, 10000);
    process_freeze(sleeper);
    mock_delay(mock, 0);
    one = start_instance("one", 1, 1000);
    WAIT_UNTIL(published_by(&one) > 100, 10000);
    ck_assert_int_eq(relay_stats(one.relays[0]).streams, 1);

    set_streams(4);
    expect_fenced(one.relays[0]);
    four = start_instance("four", 4, 1000);
    WAIT_UNTIL(published_by(&four) > 200, 10000);
    process_thaw(sleeper);
    ck_assert_int_eq(relay_stats(four.relays[3]).streams, 4);

    set_streams(2);
    for (int i = 0; i < 4; i++)
        expect_fenced(four.relays[i]);
    two = start_instance("two", 2, 1000);
    WAIT_UNTIL(published_by(&two) > 200, 10000);
    atomic_store(&writers_stop, true);
    for (int i = 0; i < WRITERS; i++)
        pthread_join(writers[i], NULL);
    WAIT_UNTIL(pending(conn) == 0, 10000);
    stop_instance(&two);
    expect_all_in_order();
}
END_TEST

START_TEST(test_relay_of_a_stream_that_no_longer_exists_says_so)
{
    struct relay_thread *waits;
    struct saga_error err;

    db_exec(conn, "SELECT outbox.set_streams(2)");
    db_exec(conn, "UPDATE outbox.stream SET owner = gen_random_uuid(),"
                  " lease_until = now() + interval '1 min'");
    waits = start_relay(RELAY(.conninfo = conninfo, .stream = 1, .lease_ms = 500));
    WAIT_UNTIL(relay_stats(waits).streams == 2, 5000);
    set_streams(1);
    WAIT_UNTIL(relay_ended(waits), 5000);
    ck_assert_int_eq(relay_answer(waits), SAGA_ENOTFOUND);
    ck_assert_int_eq(publish_once_with(RELAY(.conninfo = conninfo, .stream = 3), &err),
                     SAGA_ENOTFOUND);
    ck_assert_ptr_nonnull(strstr(err.message, "no stream 3"));
}
END_TEST

START_TEST(test_sagactl_streams_says_how_many_messages_come_again)
{
    EXPECT_ANSWER(SAGACTL(conninfo, "outbox", "streams", "4"), 0, "has 4 streams instead of 1");
    enqueue_many(conn, topic, "m", 40);
    publish_streams_once(0, 3);
    EXPECT_ANSWER(SAGACTL(conninfo, "outbox", "streams", "2", "--dry-run"), 0,
                  text_of("\n%d messages", published_count(topic)));
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM outbox.stream"), 4);
    EXPECT_ANSWER(SAGACTL(conninfo, "outbox", "streams", "2", "--json"), 0,
                  text_of("\"published_again\" : %d", published_count(topic)));
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM outbox.stream"), 2);
    EXPECT_ANSWER(SAGACTL(conninfo, "outbox", "streams", "2"), 0, "2 already");
    EXPECT_ANSWER(SAGACTL(conninfo, "outbox", "streams", "0"), 2, "from 1 to 64");
    EXPECT_ANSWER(SAGACTL(conninfo, "outbox", "streams", "two"), 2, "two");
    EXPECT_ANSWER(SAGACTL(conninfo, "outbox", "status"), 0, "oldest_pending");
    ck_assert_str_eq(db_text(conn, "SELECT string_agg(concat_ws(' ', verb, who = session_user,"
                                   " at < now(), reason), ', ' ORDER BY id) FROM outbox.audit"),
                     "streams t t from 1 to 4, streams t t from 4 to 2");
}
END_TEST

/* A crash must not bring the old owners' rows back. */
START_TEST(test_set_streams_commits_to_the_disk)
{
    db_exec(conn, "SET synchronous_commit = off; BEGIN; SELECT outbox.set_streams(2)");
    ck_assert_str_eq(db_text(conn, "SHOW synchronous_commit"), "on");
    db_exec(conn, "COMMIT");
    ck_assert_str_eq(db_text(conn, "SHOW synchronous_commit"), "off");
}
END_TEST

/* --- sharing ---------------------------------------------------------------- */

START_TEST(test_instances_share_streams_and_give_them_back)
{
    struct instance a, b;
    int64_t began;

    set_streams(4);
    a = start_instance("a", 4, 1000);
    WAIT_UNTIL(owned_by("a") == 4, 10000);
    b = start_instance("b", 4, 1000);
    WAIT_UNTIL(owned_by("a") == 2 && owned_by("b") == 2, 10000);
    STAYS_TRUE(owned_by("a") == 2 && owned_by("b") == 2, 500);
    enqueue_many(conn, topic, "m", 40);
    WAIT_UNTIL(published_count(topic) == 40, 5000);
    ck_assert_int_gt(published_by(&a), 0);
    ck_assert_int_gt(published_by(&b), 0);

    stop_instance(&b);
    began = monotonic_us();
    WAIT_UNTIL(owned_by("a") == 4, 10000);
    ck_assert_int_lt(monotonic_us() - began, 1000000); /* who waits looks five times a lease */
    ck_assert_int_eq(published_count(topic), 40);
}
END_TEST

/* The published bound, for two programs: lease_ms after the last renewal, and a
 * little. */
START_TEST(test_programs_share_streams_and_succeed_one_that_is_killed)
{
    const char *counts = "SELECT string_agg(n::text, ' ' ORDER BY n) FROM (SELECT count(*) AS n"
                         "  FROM outbox.stream WHERE lease_until > clock_timestamp()"
                         "  AND owner IS NOT NULL GROUP BY instance) AS x";
    struct process *a, *b;
    int64_t killed;

    set_streams(4);
    a = start_relay_program(conninfo, "lease_ms = 1500", NULL, NULL);
    WAIT_UNTIL(strcmp(text_of("%s", db_text(conn, "%s", counts)), "4") == 0, 10000);
    b = start_relay_program(conninfo, "lease_ms = 1500", NULL, NULL);
    WAIT_UNTIL(strcmp(text_of("%s", db_text(conn, "%s", counts)), "2 2") == 0, 15000);

    process_kill(a);
    killed = monotonic_us();
    WAIT_UNTIL(strcmp(text_of("%s", db_text(conn, "%s", counts)), "4") == 0, 10000);
    ck_assert_int_lt((monotonic_us() - killed) / 1000, 1500 + 1000);
    enqueue_many(conn, topic, "m", 40);
    WAIT_UNTIL(pending(conn) == 0, 5000);
    ck_assert_int_eq(published_count(topic), 40);
    process_signal(b, SIGTERM);
    process_expect(b, 0, 15000);
}
END_TEST

/* What another instance has asked for is nobody else's, unless it does not come. */
START_TEST(test_a_stream_that_was_asked_for_is_not_kept_for_ever)
{
    struct instance a;

    set_streams(2);
    a = start_instance("a", 2, 900);
    WAIT_UNTIL(owned_by("a") == 2, 10000);
    db_exec(conn, "UPDATE outbox.stream SET wanted = 'gone' WHERE stream = 1");
    WAIT_UNTIL(owned_by("a") == 1, 5000);
    WAIT_UNTIL(owned_by("a") == 2, 5000);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM outbox.stream WHERE wanted <> ''"), 0);
    ck_assert_int_eq(relay_stats(a.relays[1]).acquired, 2);
    ck_assert_int_eq(relay_stats(a.relays[0]).acquired, 1);
}
END_TEST

START_TEST(test_a_relay_in_waiting_costs_one_statement_a_fifth_of_its_lease)
{
    const char *seen = "SELECT max(query_start)::text FROM pg_stat_activity"
                       " WHERE datname = current_database() AND application_name LIKE 'outbox%'";
    struct deadline deadline;
    struct relay_thread *relay;
    const char *last = "", *now;
    int statements = 0;

    db_exec(conn, "UPDATE outbox.stream SET owner = gen_random_uuid(),"
                  " lease_until = now() + interval '1 min'");
    relay = start_relay(RELAY(.conninfo = conninfo, .lease_ms = 1500));
    WAIT_UNTIL(relay_stats(relay).state == SAGA_RELAY_STANDBY, 5000);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM pg_stat_activity WHERE datname ="
                                  " current_database() AND application_name LIKE 'outbox%%'"),
                     1);
    deadline = deadline_exactly_in(1800);
    while (wait_a_little(&deadline)) {
        now = db_text(conn, "%s", seen);
        statements += strcmp(now, last) != 0;
        last = now;
    }
    ck_assert_int_ge(statements, 3);
    ck_assert_int_le(statements, 8); /* 1800 / 300, and the one that was seen first */
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox_streams",
        .tests = TESTS(test_streams_o30_belong_to_keys_and_ids_by_this_table,
                       test_streams_o30_everything_arrives_from_four,
                       test_streams_publish_nothing_of_the_others,
                       test_streams_o32_go_on_where_the_last_of_the_old_ones_stood,
                       test_streams_o32_may_change_their_number_under_load,
                       test_relay_of_a_stream_that_no_longer_exists_says_so,
                       test_sagactl_streams_says_how_many_messages_come_again,
                       test_set_streams_commits_to_the_disk,
                       test_instances_share_streams_and_give_them_back,
                       test_programs_share_streams_and_succeed_one_that_is_killed,
                       test_a_stream_that_was_asked_for_is_not_kept_for_ever,
                       test_a_relay_in_waiting_costs_one_statement_a_fifth_of_its_lease),
        .setup = given_outbox_and_mock,
        .timeout_s = 60,
    });
}
