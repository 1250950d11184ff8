/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The consumer killed between every two steps of its protocol, and started
 * again: each message has its effect, and has it once.
 */
#include "test/support/consumer.h"
#include "test/support/crash_points.h"
#include "test/support/redis.h"
#include "test/support/run.h"

#include <signal.h>
#include <stdbool.h>
#include <string.h>

/* How its messages go through a consumer, and at which passing of each point it dies. */
struct way {
    const char *options[2];
    int n, again, fresh; /* messages, how many of them come once more, new ones behind those */
    bool known;          /* the first n are duplicates already when it starts */
    bool unmarked;       /* and Redis does not know: in their midst it looks into the inbox */
    int hit;             /* of a point that is passed for each transaction */
    int handlers, once;  /* of the handler's; and of those that are passed once for all */
};

static int
hit_of(const struct way *way, const char *point)
{
    if (strncmp(point, "consumer.", 9) != 0 && strcmp(point, "pg.before_commit") != 0)
        return 0; /* a consumer does not pass it */
    if (strcmp(point, "consumer.after_handler") == 0)
        return way->handlers;
    if (strcmp(point, "consumer.after_look") == 0)
        return way->unmarked ? 1 : 0;
    return strcmp(point, "consumer.before_revoke") == 0 || strcmp(point, "consumer.after_gate") == 0
               ? way->once
               : way->hit;
}

/* To its end, or to its death. */
static void
consume(const struct fixture *fixture, const struct way *way, const char *redis,
        const char *const *environment)
{
    const char *const options[] = { "group.instance.id=one", way->options[0], way->options[1],
                                    NULL };
    struct process *process = start_consumer(fixture, redis, "idle", options, environment);
    int code = process_wait(process, 20000);

    if (environment != NULL)
        ck_assert_msg(code == -SIGKILL, "%s was not passed", environment[0]);
    else
        ck_assert_msg(code == 0, "ended with %d: %s", code, process_errors(process));
}

static void
kill_at(const struct fixture *fixture, const struct way *way, const char *point, int sent)
{
    const char *const environment[] = { text_of("SAGA_CRASH=%s:%d", point, hit_of(way, point)),
                                        NULL };

    produce_messages(fixture, sent, way->n);
    if (way->known)
        consume(fixture, way, way->unmarked ? NULL : redis_address(), NULL);
    produce_messages(fixture, sent, way->again);
    produce_messages(fixture, sent + way->n, way->fresh);
    consume(fixture, way, redis_address(), environment);
    consume(fixture, way, redis_address(), NULL);
    sent += way->n + way->fresh;
    ck_assert_msg(effects_are(fixture, sent, sent), "killed at %s: of %d messages %s",
                  environment[0], sent,
                  db_text(fixture->conn, "SELECT format('%%s have an effect, and there are %%s',"
                                         " count(DISTINCT message_id), count(*)) FROM effect"));
}

/* How many of the program's points it has come to. */
static int
kill_at_those_of(const char *program, const struct fixture *fixture, const struct way *way,
                 int points)
{
    for (const char *const *point = crash_points_of(program); *point != NULL; point++)
        if (hit_of(way, *point) > 0)
            kill_at(fixture, way, *point, way->n * points++);
    return points;
}

static void
kill_at_each(const struct way *way)
{
    struct fixture *fixture = given_consumer_fixture(1);
    int points = kill_at_those_of("crash/sweep", fixture, way, 0);

    points = kill_at_those_of("crash/idempotency", fixture, way, points);
    ck_assert_int_ge(points, 9);
    ck_assert_int_eq(kafka_offset(fixture, 0), (way->n + way->again) * points);
    ck_assert_int_eq(postgres_offset(fixture, 0), (way->n + way->again) * points);
}

/* trap: I1 */
START_TEST(test_consumer_killed_between_any_two_steps_applies_once_i1)
{
    kill_at_each(&(struct way){
        { "batch_rows=1" }, .n = 4, .again = 2, .hit = 3, .handlers = 3, .once = 1 });
}
END_TEST

START_TEST(test_consumer_killed_between_any_two_steps_of_a_batch_applies_once_i1)
{
    kill_at_each(&(struct way){
        { "batch_rows=100" }, .n = 4, .again = 2, .hit = 1, .handlers = 3, .once = 1 });
}
END_TEST

/* The third handler fails, and from then on each message goes alone. */
START_TEST(test_consumer_killed_after_its_batch_has_failed_applies_once_i1_i23)
{
    kill_at_each(&(struct way){
        { "batch_rows=100", "fail=3" }, .n = 4, .again = 2, .hit = 2, .handlers = 4, .once = 1 });
}
END_TEST

/* Marks tell of all of them, and only the offsets move. */
START_TEST(test_consumer_killed_while_it_only_moves_offsets_applies_once_i1)
{
    kill_at_each(&(struct way){
        { "batch_rows=100" }, .n = 4, .again = 2, .known = true, .hit = 1, .once = 1 });
}
END_TEST

/* After five batches the inbox tells of the rest at once; what it tells is marked, and the offsets
 * move without a batch. */
START_TEST(test_consumer_killed_after_a_look_into_the_inbox_applies_once_i1)
{
    kill_at_each(&(struct way){ { "batch_rows=10" },
                                .n = 150,
                                .again = 150,
                                .known = true,
                                .unmarked = true,
                                .hit = 6,
                                .once = 1 });
}
END_TEST

/* The look finds one that is new: it is as new as before. */
START_TEST(test_consumer_killed_after_a_look_that_met_a_new_one_applies_it_i1)
{
    kill_at(given_consumer_fixture(1),
            &(struct way){ { "batch_rows=10" },
                           .n = 150,
                           .again = 150,
                           .fresh = 1,
                           .known = true,
                           .unmarked = true },
            "consumer.after_look", 0);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "idempotency",
        .tests = TESTS(test_consumer_killed_between_any_two_steps_applies_once_i1,
                       test_consumer_killed_between_any_two_steps_of_a_batch_applies_once_i1,
                       test_consumer_killed_after_its_batch_has_failed_applies_once_i1_i23,
                       test_consumer_killed_while_it_only_moves_offsets_applies_once_i1,
                       test_consumer_killed_after_a_look_into_the_inbox_applies_once_i1,
                       test_consumer_killed_after_a_look_that_met_a_new_one_applies_it_i1),
        .timeout_s = 120,
    });
}
