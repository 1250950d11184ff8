/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The relay killed between every two steps of parking and of a retry, and
 * started again: nothing is lost, and each key stays in order.
 */
#include "test/support/crash_points.h"
#include "test/support/outbox.h"
#include "test/support/run.h"
#include "test/support/wait.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { END_MS = 20000, HITS = 2 };

static const char *conninfo;
static PGconn *conn;

/* Until it ends well; at first it may die. Whether it did. */
static bool
relay_runs(const char *crash)
{
    bool died = false;

    setenv("SAGA_CRASH", crash, 1);
    for (;;) {
        struct process *relay =
            start_relay_program(conninfo, "lease_ms = 300\npage_rows = 2", NULL, ARGS("--once"));
        int code = process_wait(relay, END_MS);

        unsetenv("SAGA_CRASH");
        if (code == 0)
            return died;
        ck_assert_msg(code == -SIGKILL && !died, "%s: the relay ended with %d: %s", crash, code,
                      process_errors(relay));
        died = true;
    }
}

static void
write_next(const char *topic, const char *name, int bytes)
{
    db_exec(conn, "SELECT outbox.enqueue('%s', convert_to(rpad('%s', %d, '.'), 'UTF8'), 'k')",
            topic, name, bytes);
    enqueue(conn, topic, "other", text_of("o%s", name));
}

/* The key's messages in the order of their first appearance. */
static const char *
first_of(const char *topic, const char *key)
{
    struct records records = topic_records(topic);
    const char *text = "";

    for (size_t i = 0; i < records.n; i++) {
        const char *name =
            text_of("%.*s", (int)strcspn(records.at[i].value, "."), records.at[i].value);

        if (strcmp(records.at[i].key, key) == 0 && strstr(text, text_of(" %s", name)) == NULL)
            text = text_of("%s %s", text, name);
    }
    return text;
}

/* Whether anybody died. */
static bool
killed_at(const char *crash)
{
    const char *topic = GIVEN_TOPIC(1, "max.message.bytes=2000");
    bool died;

    write_next(topic, "a", 20);
    write_next(topic, "b", 3000);
    write_next(topic, "c", 20);
    write_next(topic, "d", 20);
    died = relay_runs(crash);
    ck_assert_msg(db_int(conn, "SELECT count(*) FROM outbox.parked WHERE topic = '%s'", topic) == 3,
                  "%s: not three are parked", crash);
    ALTER_TOPIC(topic, "max.message.bytes=100000");
    db_exec(conn, "SELECT outbox.retry('%s', 'k', 'mended')", topic);
    write_next(topic, "e", 20);
    died = relay_runs(crash) || died;
    write_next(topic, "f", 20);
    relay_runs("");
    ck_assert_msg(strcmp(first_of(topic, "k"), " a b c d e f") == 0, "%s: %s", crash,
                  first_of(topic, "k"));
    ck_assert_msg(strcmp(first_of(topic, "other"), " oa ob oc od oe of") == 0, "%s: %s", crash,
                  first_of(topic, "other"));
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM outbox.parked_key"), 0);
    ck_assert_int_eq(db_int(conn, "SELECT count(*) FROM outbox.parked"), 0);
    return died;
}

/* trap: O27 */
START_TEST(test_relay_killed_between_any_two_steps_of_parking_and_retry_o27)
{
    const char *const *point = crash_points_of("crash/outbox_parked");

    conninfo = given_database();
    conn = db_connect(conninfo);
    for (; *point != NULL; point++) {
        ck_assert_msg(killed_at(text_of("%s:1", *point)), "nobody died at %s", *point);
        for (int hit = 2; hit <= HITS; hit++)
            killed_at(text_of("%s:%d", *point, hit));
    }
    PQfinish(conn);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "crash/outbox_parked",
        .tests = TESTS(test_relay_killed_between_any_two_steps_of_parking_and_retry_o27),
        .timeout_s = 110,
    });
}
