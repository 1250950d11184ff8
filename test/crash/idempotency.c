/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The consumer killed between every two steps of its protocol, and started
 * again: each message has its effect, and has it once.
 */
#include "test/support/consumer.h"
#include "test/support/redis.h"
#include "test/support/run.h"

#include <signal.h>
#include <stdbool.h>
#include <string.h>

/* The points that a consumer passes, from the source. */
static const char *
next_point(const char **list)
{
    const char *end, *line = *list;

    while (strncmp(line, "consumer.", 9) != 0 && strncmp(line, "pg.before_commit", 16) != 0) {
        end = strchr(line, '\n');
        if (end == NULL)
            return NULL;
        line = end + 1;
    }
    end = strchr(line, '\n');
    *list = end != NULL ? end + 1 : line + strlen(line);
    return text_of("%.*s", (int)strcspn(line, " \n"), line);
}

/* Four new messages, and the first two of them once more. */
static void
kill_at(const struct fixture *fixture, const char *rows, const char *point, int hit, int sent)
{
    const char *const one[] = { "group.instance.id=one", rows, NULL };
    const char *const environment[] = { text_of("SAGA_CRASH=%s:%d", point, hit), NULL };
    struct process *process;

    produce_messages(fixture, sent, 4);
    produce_messages(fixture, sent, 2);
    process = start_consumer(fixture, redis_address(), "idle", one, environment);
    ck_assert_msg(process_wait(process, 20000) == -SIGKILL, "%s was not passed %d times", point,
                  hit);
    process = start_consumer(fixture, redis_address(), "idle", one, NULL);
    process_expect(process, 0, 20000);
    ck_assert_msg(effects_are(fixture, sent + 4, sent + 4), "killed at %s: %s", environment[0],
                  db_text(fixture->conn, "SELECT string_agg(message_id::text, ' ') FROM effect"));
}

/* How often it is passed before: by each message, by each transaction, or once for all. */
static int
hit_of(const char *point, bool batches)
{
    if (strcmp(point, "consumer.after_handler") == 0)
        return 3;
    return batches || strcmp(point, "consumer.before_revoke") == 0 ||
                   strcmp(point, "consumer.after_gate") == 0
               ? 1
               : 3;
}

static void
kill_at_each(bool batches)
{
    const char *list = run_process(ARGS(text_of("%s/tools/crash-points", source_dir()))), *point;
    struct fixture *fixture = given_consumer_fixture(1);
    int points = 0;

    for (; (point = next_point(&list)) != NULL; points++)
        kill_at(fixture, batches ? "batch_rows=100" : "batch_rows=1", point, hit_of(point, batches),
                4 * points);
    ck_assert_int_ge(points, 10);
    ck_assert_int_eq(kafka_offset(fixture, 0), 6 * points);
}

/* trap: I1 */
START_TEST(test_consumer_killed_between_any_two_steps_applies_once_i1)
{
    kill_at_each(false);
}
END_TEST

START_TEST(test_consumer_killed_between_any_two_steps_of_a_batch_applies_once_i1)
{
    kill_at_each(true);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "idempotency",
        .tests = TESTS(test_consumer_killed_between_any_two_steps_applies_once_i1,
                       test_consumer_killed_between_any_two_steps_of_a_batch_applies_once_i1),
        .timeout_s = 120,
    });
}
