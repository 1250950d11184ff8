/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Relays that publish in transactions of Kafka, for compacted topics: what an
 * owner that was succeeded still has on its way is never seen.
 */
#include "test/support/outbox.h"
#include "test/support/run.h"
#include "test/support/sagactl.h"
#include "test/support/wait.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define TRANSACTIONAL "lease_ms = 600\ntransactional = on"

static const char *conninfo;
static PGconn *conn;
static const char *topic;

static void
setup(void)
{
    conninfo = given_database();
    conn = given_session(conninfo);
    topic = GIVEN_TOPIC(1);
}

static void
relay_published(int n)
{
    struct relay_thread *relay =
        start_relay(RELAY(.conninfo = conninfo, .transactional = 1, .lease_ms = 600));

    WAIT_UNTIL(relay_stats(relay).published == n, 15000);
    ck_assert_int_eq(stop_relay(relay), 0);
}

START_TEST(test_transactions_publish_everything_once_and_in_order)
{
    struct records records;

    enqueue_many(conn, topic, "a", 100);
    relay_published(100);
    enqueue_many(conn, topic, "b", 100);
    relay_published(100);
    records = topic_records(topic);
    ck_assert_uint_eq(records.n, 200);
    for (size_t i = 0; i < records.n; i++)
        ck_assert_str_eq(records.at[i].value,
                         text_of("%c%d", i < 100 ? 'a' : 'b', (int)(i % 100) + 1));
}
END_TEST

/* The value that compaction would leave. */
static const char *
last_of(struct records records, const char *key)
{
    const char *value = NULL;

    for (size_t i = 0; i < records.n; i++)
        if (strcmp(records.at[i].key, key) == 0)
            value = records.at[i].value;
    return value;
}

/* trap: O9, where repetitions are not enough. */
START_TEST(test_transactions_o9_of_a_sleeper_are_never_seen)
{
    struct process *a;
    struct records records;

    db_exec(conn,
            "INSERT INTO outbox.message (message_id, topic, key, payload)"
            " SELECT gen_random_uuid(), '%s', 'k' || g %% 10,"
            "        convert_to(rpad('old' || g, 1000, '.'), 'UTF8')"
            "   FROM generate_series(1, 6000) g",
            topic);
    a = start_relay_program(conninfo, TRANSACTIONAL "\npage_rows = 300", "batch.num.messages = 5",
                            NULL);
    WAIT_UNTIL(db_int(conn, "SELECT last_seq FROM outbox.stream") > 0, 20000);
    process_freeze(a); /* with a transaction open, and messages in its queue */
    ck_assert_int_gt(pending(conn), 0);

    start_relay(RELAY(.conninfo = conninfo, .transactional = 1, .lease_ms = 600));
    WAIT_UNTIL(pending(conn) == 0, 20000);
    for (int i = 0; i < 10; i++)
        enqueue(conn, topic, text_of("k%d", i), "new");
    WAIT_UNTIL(pending(conn) == 0, 10000);
    process_thaw(a);
    WAIT_UNTIL(strstr(process_errors(a), "new owner") != NULL, 20000);

    records = topic_records(topic);
    for (int i = 0; i < 10; i++)
        ck_assert_str_eq(last_of(records, text_of("k%d", i)), "new");
}
END_TEST

/* Who reads committed messages need not wait until its transaction times out. */
START_TEST(test_transactions_of_a_killed_one_end_with_its_successor)
{
    struct process *a;
    const char *arrived;

    enqueue_many(conn, topic, "m", 2000);
    a = start_relay_program(conninfo, TRANSACTIONAL "\npage_rows = 50", "batch.num.messages = 1",
                            NULL);
    WAIT_UNTIL(db_int(conn, "SELECT last_seq FROM outbox.stream") > 0, 20000);
    process_kill(a);
    start_relay(RELAY(.conninfo = conninfo, .transactional = 1, .lease_ms = 600));
    WAIT_UNTIL(pending(conn) == 0, 15000);
    arrived = text_of("%s ", published(topic));
    for (int i = 1; i <= 2000; i += 37)
        ck_assert_ptr_nonnull(strstr(arrived, text_of("m%d ", i)));
}
END_TEST

/* The streams' new owners have other transactional.ids, which do not fence the old. */
START_TEST(test_transactions_o32_the_number_of_streams_is_changed_without_relays)
{
    struct relay_thread *relay =
        start_relay(RELAY(.conninfo = conninfo, .transactional = 1, .lease_ms = 5000));

    WAIT_UNTIL(relay_stats(relay).state == SAGA_RELAY_OWNER, 10000);
    EXPECT_ANSWER(SAGACTL(conninfo, "outbox", "streams", "2", "--dry-run"), 0, "would have");
    EXPECT_ANSWER(SAGACTL(conninfo, "outbox", "streams", "2"), 4, "stop all relays");
    ck_assert_int_eq(stop_relay(relay), 0);
    EXPECT_ANSWER(SAGACTL(conninfo, "outbox", "streams", "2"), 0, "2 streams");
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox_transaction",
        .tests = TESTS(test_transactions_publish_everything_once_and_in_order,
                       test_transactions_o9_of_a_sleeper_are_never_seen,
                       test_transactions_of_a_killed_one_end_with_its_successor,
                       test_transactions_o32_the_number_of_streams_is_changed_without_relays),
        .setup = setup,
        .timeout_s = 60,
    });
}
