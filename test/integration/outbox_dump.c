/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trap: O8. The disaster itself, as it happens: pg_dump of a database with an
 * outbox, restored into a new cluster.
 */
#include "test/support/mock.h"
#include "test/support/outbox.h"
#include "test/support/run.h"
#include "test/support/sagactl.h"
#include "test/support/server.h"

#include <stdlib.h>
#include <string.h>

START_TEST(test_rebase_o8_after_pg_dump_and_restore)
{
    const char *original = given_database(), *copy, *topic = unique_name("topic");
    PGconn *conn = db_connect(original), *there;

    mock_topic(given_mock(), topic, 1);
    db_exec(conn, "DO $$ BEGIN FOR i IN 1..1000 LOOP PERFORM pg_current_xact_id(); COMMIT;"
                  " END LOOP; END $$");
    enqueue(conn, topic, "k", "1");
    publish_once(original);
    enqueue(conn, topic, "k", "2");

    copy = given_empty_database_in(GIVEN_SERVER("pg", "autovacuum=off"));
    there = db_connect(copy);
    db_exec(there, "CREATE ROLE saga_owner; CREATE ROLE saga_app; CREATE ROLE saga_relay;"
                   " CREATE ROLE saga_monitor");
    run_process(ARGS("bash", "-c",
                     "set -eo pipefail; pg_dump -d \"$1\" | psql -Xqd \"$2\" -v ON_ERROR_STOP=1",
                     "restore", original, copy));
    enqueue(there, topic, "k", "3");

    process_expect(start_relay_program(copy, NULL, NULL, ARGS("--once")), 4, 10000);
    EXPECT_ANSWER(SAGACTL(copy, "outbox", "rebase", "--json"), 0,
                  "{\"unpublished\":1,\"written_here\":1,\"doubtful\":0,\"published\":1}");
    publish_once(copy);
    expect_published(topic, "1 2 3");
    PQfinish(there);
    PQfinish(conn);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox_dump",
        .tests = TESTS(test_rebase_o8_after_pg_dump_and_restore),
        .timeout_s = 60,
    });
}
