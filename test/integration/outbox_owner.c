/* SPDX-License-Identifier: Apache-2.0 */
/* long */
/*
 * Several relays and one stream: who publishes, who waits, who stops.
 */
#include "test/support/given_outbox.h"
#include "test/support/mock.h"
#include "test/support/run.h"
#include "test/support/wait.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

static int64_t
epoch(void)
{
    return db_int(conn, "SELECT epoch FROM outbox.stream");
}

static const char *
numbered(const char *prefix, int n)
{
    const char *text = "";

    for (int i = 1; i <= n; i++)
        text = text_of("%s%s%s%d", text, i > 1 ? " " : "", prefix, i);
    return text;
}

/* --- O9 ------------------------------------------------------------------- */

START_TEST(test_relay_o9_a_sleeper_finds_a_new_owner_and_stops)
{
    struct process *a, *b;

    enqueue_many(conn, topic, "m", 60);
    mock_delay(mock, 100);
    a = start_relay_program(conninfo, "lease_ms = 1000\npage_rows = 5", NULL, NULL);
    WAIT_UNTIL(db_int(conn, "SELECT last_seq FROM outbox.stream") > 0, 10000);
    process_freeze(a); /* with messages in flight */
    mock_delay(mock, 0);
    b = start_relay_program(conninfo, "lease_ms = 1000", NULL, NULL);
    WAIT_UNTIL(epoch() == 2, 10000);
    WAIT_UNTIL(pending(conn) == 0, 10000);
    process_thaw(a);
    process_expect(a, 4, 10000);
    ck_assert_ptr_nonnull(strstr(process_errors(a), "new owner"));

    enqueue(conn, topic, "k0", "last");
    WAIT_UNTIL(pending(conn) == 0, 5000);
    process_signal(b, SIGTERM);
    process_expect(b, 0, 15000);
    ck_assert_int_eq(epoch(), 2);
    ck_assert_str_eq(published_first(topic), text_of("%s last", numbered("m", 60)));
}
END_TEST

/* --- taking over ------------------------------------------------------------ */

/* The published bound: lease_ms after the last renewal, and a little. */
START_TEST(test_relay_takes_over_from_a_killed_one_when_its_lease_has_ended)
{
    struct process *a = start_relay_program(conninfo, "lease_ms = 2000", NULL, NULL);
    struct relay_thread *b;
    int64_t killed, took_ms;

    WAIT_UNTIL(epoch() == 1, 10000);
    b = start_relay(RELAY(.conninfo = conninfo, .lease_ms = 2000));
    process_kill(a);
    killed = monotonic_us();
    enqueue(conn, topic, "k", "1");
    WAIT_UNTIL(relay_stats(b).acquired == 1, 10000);
    took_ms = (monotonic_us() - killed) / 1000;
    ck_assert_int_lt(took_ms, 2000 + 1000);
    await_published(topic, "1", 5000);
}
END_TEST

START_TEST(test_relay_once_waits_for_the_lease_of_one_that_hangs)
{
    struct process *a = start_relay_program(conninfo, "lease_ms = 1500", NULL, NULL);

    WAIT_UNTIL(epoch() == 1, 10000);
    process_freeze(a);
    enqueue(conn, topic, "k", "1");
    publish_once(conninfo);
    expect_published(topic, "1");
    process_kill(a);
}
END_TEST

START_TEST(test_relay_once_says_that_another_one_is_at_work)
{
    struct relay_thread *a = start_relay(RELAY(.conninfo = conninfo, .lease_ms = 1500));
    struct process *once;

    WAIT_UNTIL(epoch() == 1, 10000);
    once = start_relay_program(conninfo, NULL, NULL, ARGS("--once"));
    process_expect(once, 4, 10000);
    ck_assert_ptr_nonnull(strstr(process_errors(once), "another relay owns stream 0"));
    ck_assert(!relay_ended(a));
    ck_assert_int_eq(epoch(), 1);
}
END_TEST

START_TEST(test_relay_in_waiting_takes_over_when_the_owner_stops)
{
    struct relay_thread *a = start_relay(RELAY(.conninfo = conninfo)), *b;

    WAIT_UNTIL(epoch() == 1, 10000);
    b = start_relay(RELAY(.conninfo = conninfo));
    enqueue(conn, topic, "k", "1");
    await_published(topic, "1", 5000);
    ck_assert_int_eq(relay_stats(b).acquired, 0);
    ck_assert_int_eq(stop_relay(a), 0);
    WAIT_UNTIL(relay_stats(b).acquired == 1, 5000);
    enqueue(conn, topic, "k", "2");
    await_published(topic, "1 2", 5000);
}
END_TEST

START_TEST(test_relay_keeps_its_lease_while_no_acknowledgement_comes)
{
    struct relay_thread *a = start_relay(RELAY(.conninfo = conninfo, .lease_ms = 600)), *b;

    WAIT_UNTIL(epoch() == 1, 10000);
    mock_delay(mock, 4000);
    enqueue(conn, topic, "k", "1");
    WAIT_UNTIL(db_int(conn, "SELECT (cur IS NOT NULL)::int FROM outbox.stream") == 1, 5000);
    b = start_relay(RELAY(.conninfo = conninfo, .lease_ms = 600));
    STAYS_TRUE(epoch() == 1, 1500);
    ck_assert_int_eq(relay_stats(b).acquired, 0);
    mock_delay(mock, 0);
    WAIT_UNTIL(relay_stats(a).published == 1, 10000);
}
END_TEST

/* The database's clock was set back by a day: the lease seems to end tomorrow. */
START_TEST(test_relay_does_not_believe_a_lease_that_is_too_long)
{
    db_exec(conn, "UPDATE outbox.stream SET owner = gen_random_uuid(), epoch = 7,"
                  " lease_until = now() + interval '1 day'");
    enqueue(conn, topic, "k", "1");
    publish_once(conninfo);
    expect_published(topic, "1");
    ck_assert_int_eq(epoch(), 8);
}
END_TEST

/* --- another database --------------------------------------------------------- */

START_TEST(test_relay_refuses_the_cursor_of_another_cluster)
{
    struct process *once;

    enqueue(conn, topic, "k", "1");
    db_exec(conn, "UPDATE outbox.stream SET system_identifier = 4711");
    once = start_relay_program(conninfo, NULL, NULL, ARGS("--once"));
    process_expect(once, 4, 10000);
    ck_assert_ptr_nonnull(strstr(process_errors(once), "system identifier 4711"));
    ck_assert_int_eq(published_count(topic), 0);
    ck_assert_int_eq(epoch(), 0);
}
END_TEST

START_TEST(test_relay_refuses_rows_from_the_future)
{
    struct saga_error err;

    db_exec(conn, "INSERT INTO outbox.message (message_id, topic, xid)"
                  " VALUES (gen_random_uuid(), 'x', '4000000000000')");
    ck_assert_int_eq(publish_once_with(RELAY(.conninfo = conninfo), &err), SAGA_EMISMATCH);
    ck_assert_ptr_nonnull(strstr(err.message, "4000000000000"));
    ck_assert_ptr_nonnull(strstr(err.message, "restored"));
    db_exec(conn, "DELETE FROM outbox.message;"
                  "UPDATE outbox.stream SET prev = '4000000000000:4000000000000:'");
    ck_assert_int_eq(publish_once_with(RELAY(.conninfo = conninfo), &err), SAGA_EMISMATCH);
}
END_TEST

START_TEST(test_relay_goes_on_after_a_failover)
{
    publish_once(conninfo);
    db_exec(conn, "UPDATE outbox.stream SET timeline = 7");
    enqueue(conn, topic, "k", "1");
    publish_once(conninfo);
    expect_published(topic, "1");
    ck_assert_int_eq(db_int(conn, "SELECT timeline FROM outbox.stream"), 1);
}
END_TEST

/* --- rights --------------------------------------------------------------------- */

START_TEST(test_relay_needs_no_more_than_the_role_of_relays)
{
    struct saga_error err;

    enqueue(conn, topic, "k", "1");
    db_exec(conn, "CREATE ROLE \"%s\" LOGIN; GRANT saga_relay TO \"%s\"", topic, topic);
    ck_assert_msg(
        publish_once_with(RELAY(.conninfo = text_of("%s user=%s", conninfo, topic)), &err) == 0,
        "%s", err.message);
    expect_published(topic, "1");
    db_exec(conn, "DROP ROLE \"%s\"", topic);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox_owner",
        .tests = TESTS(test_relay_o9_a_sleeper_finds_a_new_owner_and_stops,
                       test_relay_takes_over_from_a_killed_one_when_its_lease_has_ended,
                       test_relay_once_waits_for_the_lease_of_one_that_hangs,
                       test_relay_once_says_that_another_one_is_at_work,
                       test_relay_in_waiting_takes_over_when_the_owner_stops,
                       test_relay_keeps_its_lease_while_no_acknowledgement_comes,
                       test_relay_does_not_believe_a_lease_that_is_too_long,
                       test_relay_refuses_the_cursor_of_another_cluster,
                       test_relay_refuses_rows_from_the_future, test_relay_goes_on_after_a_failover,
                       test_relay_needs_no_more_than_the_role_of_relays),
        .setup = given_outbox_and_mock,
        .timeout_s = 40,
    });
}
