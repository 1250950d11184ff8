/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A relay that publishes in transactions of Kafka dies before and after it
 * commits one.
 */
#include "test/support/crash_points.h"
#include "test/support/outbox.h"
#include "test/support/run.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

static struct process *
relay_once(const char *conninfo)
{
    return start_relay_program(conninfo, "transactional = on\nlease_ms = 500", NULL,
                               ARGS("--once"));
}

/* All messages are published again, or none was published before. */
static void
dies_at(const char *point, int committed)
{
    const char *conninfo = given_database(), *topic = GIVEN_TOPIC(1);
    PGconn *conn = db_connect(conninfo);
    struct process *relay;

    enqueue_many(conn, topic, "m", 20);
    setenv("SAGA_CRASH", point, 1);
    relay = relay_once(conninfo);
    unsetenv("SAGA_CRASH");
    ck_assert_int_eq(process_wait(relay, 20000), -SIGKILL);
    ck_assert_int_eq(published_count(topic), committed);
    ck_assert_int_eq(pending(conn), 20);

    process_expect(relay_once(conninfo), 0, 20000);
    ck_assert_int_eq(pending(conn), 0);
    ck_assert_int_eq(published_count(topic), committed + 20);
    PQfinish(conn);
}

START_TEST(test_transactions_killed_before_a_commit_show_nothing_and_after_it_come_again)
{
    const char *const *point = crash_points_of("crash/outbox_transaction");

    for (; *point != NULL; point++)
        dies_at(*point, strstr(*point, ".before_") != NULL ? 0 : 20);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "crash/outbox_transaction",
        .tests =
            TESTS(test_transactions_killed_before_a_commit_show_nothing_and_after_it_come_again),
        .timeout_s = 60,
    });
}
