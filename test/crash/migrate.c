/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kills sagactl before each of its commits, on the way up and on the way down:
 * whoever runs it again finishes the work, and the schema is as if nobody had
 * died.
 */
#include "test/support/db.h"
#include "test/support/process.h"
#include "test/support/run.h"

#include <signal.h>

enum { END_MS = 20000, KILLS_MAX = 100 };

static const char *
schema_of(const char *conninfo)
{
    /* What begins with a backslash is different each time. */
    return run_process(ARGS("sh", "-c", "pg_dump --schema-only --dbname=\"$1\" | grep -v '^[\\]'",
                            "sh", conninfo));
}

/* Runs it again and again, to die before its first commit, then before its
 * second and so on, until there are fewer. How often it died. */
static int
kill_at_each_commit(const char *const *args)
{
    for (int n = 1; n <= KILLS_MAX; n++) {
        const char *const environment[] = { text_of("SAGA_CRASH=pg.before_commit:%d", n), NULL };
        struct process *sagactl = start_process(args, environment);
        int ended_with = process_wait(sagactl, END_MS);

        if (ended_with == 0)
            return n - 1;
        ck_assert_msg(ended_with == -SIGKILL, "sagactl ended with %d: %s", ended_with,
                      process_errors(sagactl));
    }
    ck_abort_msg("sagactl does not come to an end");
    return 0;
}

START_TEST(test_migrate_killed_before_each_commit_ends_with_the_same_schema)
{
    const char *expected = schema_of(given_database());
    const char *conninfo = given_empty_database();
    const char *empty = schema_of(conninfo);

    ck_assert_int_ge(kill_at_each_commit(ARGS("sagactl", "migrate", "up", "--database", conninfo)),
                     2);
    run_process(ARGS("sagactl", "migrate", "up", "--database", conninfo));
    ck_assert_str_eq(schema_of(conninfo), expected);

    ck_assert_int_ge(
        kill_at_each_commit(ARGS("sagactl", "migrate", "down", "--all", "--database", conninfo)),
        2);
    run_process(ARGS("sagactl", "migrate", "down", "--all", "--database", conninfo));
    ck_assert_str_eq(schema_of(conninfo), empty);
}
END_TEST

int
main(void)
{
    const struct tests tests = {
        .name = "crash/migrate",
        .tests = TESTS(test_migrate_killed_before_each_commit_ends_with_the_same_schema),
        .timeout_s = 60,
    };

    return run_tests(&tests);
}
