/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The consumer killed between every two steps of trying parked messages again, and
 * started again: each of them has its effect once, and its key stays in order.
 */
#include "test/support/consumer.h"
#include "test/support/crash_points.h"
#include "test/support/run.h"

#include <signal.h>
#include <string.h>

enum { END_MS = 20000 };

static struct fixture *fixture;
static int sent;

static void
send(const char *key, const char *value)
{
    produce_one(fixture->topic, id_of(sent++), key, value);
}

/* To its end, or to its death at `crash`; whether it died. */
static bool
consume(const char *handler, const char *crash)
{
    const char *const options[] = { "group.instance.id=one", "attempts_max=1", handler, NULL };
    const char *const environment[] = { text_of("SAGA_CRASH=%s", crash), NULL };
    struct process *process = start_consumer(fixture, NULL, "idle", options, environment);
    int code = process_wait(process, END_MS);

    ck_assert_msg(code == 0 || code == -SIGKILL, "%s: it ended with %d: %s", crash, code,
                  process_errors(process));
    return code != 0;
}

static void
ask_for_retry(const char *key)
{
    db_exec(fixture->conn, "SELECT idempotency.retry('%s', '%s', '%s', 'mended')", fixture->group,
            fixture->topic, key);
}

static void
expect_parked(const char *key, const char *crash, int n)
{
    int64_t parked = db_int(fixture->conn,
                            "SELECT count(*) FROM idempotency.parked WHERE key = '%s'::bytea", key);

    ck_assert_msg(parked == n, "%s: %d are parked", crash, (int)parked);
}

/* With what came while they were tried again, and with what came afterwards. */
static void
expect_applied(const char *key, const char *crash, const char *values)
{
    const char *applied = db_text(
        fixture->conn,
        "SELECT coalesce(string_agg(value, ' ' ORDER BY at), '') FROM effect WHERE key = '%s'",
        key);

    ck_assert_msg(strcmp(applied, values) == 0, "%s: %s", crash, applied);
}

/* The retry fails, and another one works: who dies in the first one, or in the
 * second one. Whether he did. */
static bool
killed_at(const char *key, const char *first, const char *second)
{
    const char *crash = text_of("%s%s", first, second);
    bool died;

    ask_for_retry(key);
    died = consume("poison", first);
    if (died)
        consume("poison", "");
    expect_parked(key, crash, 3);
    ask_for_retry(key);
    send(key, "d");
    if (consume("many", second)) {
        died = true;
        consume("many", "");
    }
    expect_parked(key, crash, 0);
    expect_applied(key, crash, "bad b c d");
    return died;
}

static void
given_parked(int keys)
{
    fixture = given_consumer_fixture(1);
    for (int i = 0; i < keys; i++) {
        send(text_of("k%d", i), "bad");
        send(text_of("k%d", i), "b");
        send(text_of("k%d", i), "c");
        send("other", "o");
    }
    consume("poison", "");
    ck_assert_int_eq(db_int(fixture->conn, "SELECT count(*) FROM effect"), keys);
}

/* trap: I23 */
START_TEST(test_consumer_killed_while_parked_messages_are_tried_again_applies_once_i23)
{
    const char *const *points = crash_points_of("crash/idempotency_parked");
    int n = 0, keys, in_working_ones = 0;

    while (points[n] != NULL)
        n++;
    keys = 3 * n;
    given_parked(keys);
    for (int i = 0; i < keys; i++) {
        const char *point = points[i / 3], *key = text_of("k%d", i);
        /* In the retry that fails, and at the first and the last passing in the one that works. */
        bool died = i % 3 == 0 ? killed_at(key, text_of("%s:1", point), "")
                               : killed_at(key, "", text_of("%s:%d", point, i % 3 == 1 ? 1 : 3));

        if (i % 3 == 0)
            ck_assert_msg(died, "nobody died at %s", point);
        else
            in_working_ones += died;
    }
    /* At all, but the one that only a failed retry passes. */
    ck_assert_int_ge(in_working_ones, 2 * (n - 1));
    ck_assert_int_eq(db_int(fixture->conn, "SELECT count(*) FROM idempotency.parked_key"), 0);
    expect_effects(fixture, sent, sent);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "crash/idempotency_parked",
        .tests = TESTS(test_consumer_killed_while_parked_messages_are_tried_again_applies_once_i23),
        .timeout_s = 110,
    });
}
