/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The consumer and the database at the other end of its connection: another one
 * than before, behind a pooler.
 */
#include "test/support/consumer.h"
#include "test/support/redis.h"
#include "test/support/run.h"
#include "test/support/server.h"
#include "test/support/wait.h"

#include <signal.h>
#include <stdio.h>

/* Whoever asks the pooler for `name` gets `target` from now on; transactions that are open are
 * finished where they are. */
static void
lead_to(const struct server *pooler, PGconn *name, PGconn *target)
{
    FILE *file = fopen(text_of("%s/databases.ini", pooler->dir), "w");

    ck_assert_ptr_nonnull(file);
    fprintf(file, "%s = host=127.0.0.1 port=%s dbname=%s user=postgres\n", PQdb(name),
            PQport(target), PQdb(target));
    ck_assert_int_eq(fclose(file), 0);
    ck_assert_int_eq(kill(pooler->pid, SIGHUP), 0);
}

/* trap: I26: what only the first database has is applied in the second, and no new message comes
 * that would show it. */
static void
expect_all_again_elsewhere(const char *redis)
{
    struct fixture *before = given_consumer_fixture(2), *now = given_consumer_fixture(1);
    struct server *pooler = GIVEN_SERVER("pgbouncer", text_of("upstream=%s", PQport(before->conn)));
    struct saga_consumer *consumer =
        GIVEN_CONSUMER(before, .redis = redis,
                       .conninfo = text_of("host=127.0.0.1 port=%d dbname=%s user=postgres",
                                           pooler->port, PQdb(before->conn)));

    produce_messages(before, 0, 20);
    start_running(consumer);
    WAIT_UNTIL(effects_are(before, 20, 20), 20000);
    lead_to(pooler, before->conn, now->conn);
    WAIT_UNTIL(effects_are(now, 20, 20), 20000);
    stop_running(consumer);
    expect_effects(before, 20, 20);
}

START_TEST(test_consumer_reads_again_when_a_pooler_leads_to_another_database_i26)
{
    expect_all_again_elsewhere(NULL);
}
END_TEST

/* trap: I9 */
START_TEST(test_consumer_believes_no_mark_when_a_pooler_leads_to_another_database_i9_i26)
{
    expect_all_again_elsewhere(redis_address());
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "idempotency_database",
        .tests =
            TESTS(test_consumer_reads_again_when_a_pooler_leads_to_another_database_i26,
                  test_consumer_believes_no_mark_when_a_pooler_leads_to_another_database_i9_i26),
        .timeout_s = 60,
    });
}
