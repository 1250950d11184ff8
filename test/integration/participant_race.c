/* SPDX-License-Identifier: Apache-2.0 */
/* long */
/*
 * A step and its compensation at once (trap I19): every interleaving of the
 * two transactions, each of four parts, with each of them committing or dying.
 *
 *     begin    BEGIN and the inbox row
 *     enter    saga_command_handle() up to the call of the step's function
 *     answer   the rest of it
 *     end      COMMIT, or the connection's death
 *
 * Each side has a thread and a connection; its function stops in the middle
 * of saga_command_handle(). Where a part has to wait for the other side's
 * lock, the parts of its own side that follow wait with it.
 */
#include "test/support/db.h"
#include "test/support/participant.h"
#include "test/support/run.h"
#include "test/support/wait.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum { PARTS = 4, SIDES = 2 };

struct side {
    const char *action;
    PGconn *conn;
    int pid;
    bool dies;
    struct saga_record record;
    struct script script;
    pthread_t thread;
    sem_t go;         /* once for each part that may begin */
    atomic_int begun; /* parts that were allowed */
    atomic_int ended; /* parts that are over */
    int rc;
};

static const char *conninfo;
static PGconn *watcher;
static struct side sides[SIDES];

static void
part_ends(struct side *side)
{
    side->ended++;
}

static void
part_begins(struct side *side)
{
    while (sem_wait(&side->go) != 0)
        ;
}

/* Inside the function: "enter" is over, "answer" begins. */
static int
stop_in_function(struct saga_ctx *ctx, void *arg)
{
    (void)ctx;
    part_ends(arg);
    part_begins(arg);
    return SAGA_DONE;
}

static void *
play(void *arg)
{
    struct side *side = arg;
    int32_t verdict;
    struct saga_error err;

    part_begins(side);
    side->rc = saga_begin(side->conn, &err);
    if (side->rc == 0)
        side->rc = saga_inbox_enter(side->conn, GROUP, &side->record, &verdict, &err);
    part_ends(side);

    part_begins(side);
    if (side->rc == 0)
        side->rc = saga_command_handle(side->conn, GROUP, &inventory, &side->record, 0,
                                       &side->script, &err);
    if (side->ended < 2) { /* the function was not called: there is nothing to stop in */
        part_ends(side);
        part_begins(side);
    }
    part_ends(side);

    part_begins(side);
    if (side->rc == 0 && !side->dies)
        side->rc = saga_commit(side->conn, &err);
    else
        saga_rollback(side->conn);
    part_ends(side);
    return NULL;
}

static bool
blocked(const struct side *side)
{
    return db_int(watcher, "SELECT cardinality(pg_blocking_pids(%d))", side->pid) > 0;
}

static bool
over_or_blocked(const struct side *side)
{
    return side->ended == side->begun || blocked(side);
}

static void
let(struct side *side)
{
    side->begun++;
    sem_post(&side->go);
    WAIT_UNTIL(over_or_blocked(side), 5000);
}

static void
start_side(struct side *side, const char *action, bool dies)
{
    side->action = action;
    side->dies = dies;
    side->record = a_command(SAGA_1, "scripted", action, "{}");
    side->script = (struct script){ .then = stop_in_function, .arg = side };
    side->begun = side->ended = 0;
    sem_init(&side->go, 0, 0);
    ck_assert_int_eq(pthread_create(&side->thread, NULL, play, side), 0);
}

/* What was not committed comes again, as Kafka would have it, with nobody to
 * race with. */
static void
finish_side(struct side *side, const char *order)
{
    struct script plain = { 0 };

    pthread_join(side->thread, NULL);
    sem_destroy(&side->go);
    if (side->dies)
        ck_assert_msg(deliver(watcher, &side->record, &plain) == 0, "%s: %s", order,
                      deliver_error.message);
    else
        ck_assert_msg(side->rc == 0, "%s: %s ended with %d", order, side->action, side->rc);
}

/* Both or neither, never one; and both sides got their answer. */
static void
expect_consistent(const char *order)
{
    const char *seen =
        db_text(watcher, "SELECT count(*) FILTER (WHERE action = 'run') || ' runs, '"
                         " || count(*) FILTER (WHERE action = 'compensate') || ' compensations'"
                         " FROM effect");
    const char *answers =
        db_text(watcher, "SELECT string_agg(DISTINCT concat_ws(' ', h ->> 'saga-action',"
                         "  h ->> 'saga-outcome', h ->> 'saga-reason'), ', ')"
                         " FROM (SELECT jsonb_object(regexp_split_to_array(headers, ': |\\n')) AS h"
                         "         FROM outbox.message) m");
    const char *expected = strcmp(seen, "1 runs, 1 compensations") == 0
                               ? "compensate done, run done"
                               : "compensate done nothing to undo, run refused compensated before "
                                 "it came";

    ck_assert_msg(strcmp(seen, "1 runs, 1 compensations") == 0 ||
                      strcmp(seen, "0 runs, 0 compensations") == 0,
                  "%s: %s", order, seen);
    ck_assert_msg(strcmp(answers, expected) == 0, "%s: %s, and the answers are %s", order, seen,
                  answers);
    ck_assert_int_eq(reply_count(watcher), 2);
}

/* `order`: "ABAABBAB". */
static void
play_order(const char *order, bool run_dies, bool compensation_dies)
{
    const char *name = text_of("%s%s%s", order, run_dies ? " run dies" : "",
                               compensation_dies ? " compensation dies" : "");

    db_exec(watcher, "TRUNCATE effect, idempotency.barrier, idempotency.inbox; DELETE FROM"
                     " outbox.message");
    start_side(&sides[0], "run", run_dies);
    start_side(&sides[1], "compensate", compensation_dies);
    for (const char *p = order; *p != '\0'; p++)
        let(&sides[*p - 'A']);
    finish_side(&sides[0], name);
    finish_side(&sides[1], name);
    expect_consistent(name);
}

/* All words of so many As and Bs, in their order. */
static int
play_all(char *order, size_t n, int as, int bs, bool run_dies, bool compensation_dies)
{
    int played = 0;

    if (as == 0 && bs == 0) {
        play_order(order, run_dies, compensation_dies);
        return 1;
    }
    if (as > 0) {
        order[n] = 'A';
        played += play_all(order, n + 1, as - 1, bs, run_dies, compensation_dies);
    }
    if (bs > 0) {
        order[n] = 'B';
        played += play_all(order, n + 1, as, bs - 1, run_dies, compensation_dies);
    }
    order[n] = '\0';
    return played;
}

static void
setup(void)
{
    conninfo = given_inventory(&watcher);
    for (int i = 0; i < SIDES; i++) {
        sides[i].conn = db_connect(conninfo);
        sides[i].pid = PQbackendPID(sides[i].conn);
        /* A part that waits for more than the other side fails, and does not hang. */
        db_exec(sides[i].conn, "SET statement_timeout = '15s'");
    }
}

static void
teardown(void)
{
    for (int i = 0; i < SIDES; i++)
        PQfinish(sides[i].conn);
}

#define ALL_ORDERS(run_dies, compensation_dies)                                                    \
    do {                                                                                           \
        char order[PARTS * SIDES + 1] = "";                                                        \
        ck_assert_int_eq(play_all(order, 0, PARTS, PARTS, (run_dies), (compensation_dies)), 70);   \
    } while (0)

/* trap: I19 */
START_TEST(test_race_i19_all_orders_both_commit)
{
    ALL_ORDERS(false, false);
}
END_TEST

START_TEST(test_race_i19_all_orders_step_dies)
{
    ALL_ORDERS(true, false);
}
END_TEST

START_TEST(test_race_i19_all_orders_compensation_dies)
{
    ALL_ORDERS(false, true);
}
END_TEST

START_TEST(test_race_i19_all_orders_both_die)
{
    ALL_ORDERS(true, true);
}
END_TEST

/* --- many at once ------------------------------------------------------------------ */

enum { CROWD = 6, CROWD_SAGAS = 25 };

struct member {
    pthread_t thread;
    PGconn *conn;
    int number, failures;
};

/* Everybody hands in the same sagas in the same order: steps, compensations,
 * and all of them more than once. */
static void *
jostle(void *arg)
{
    struct member *member = arg;
    int32_t verdict;

    for (int i = 0; i < CROWD_SAGAS; i++) {
        char saga_id[37];
        struct saga_pair headers[] = { { "saga-id", saga_id },
                                       { "saga-definition", "order" },
                                       { "saga-step", "reserve" },
                                       { "saga-action", member->number % 2 ? "run" : "compensate" },
                                       { "saga-reply-to", "order.replies" },
                                       { NULL, NULL } };
        struct saga_record record = { .topic = "t",
                                      .payload = { "{\"sku\": \"lamp\"}", 15 },
                                      .headers = headers };

        snprintf(saga_id, sizeof saga_id, "019a5b2e-7c00-7a10-8000-%012d", i);
        if (saga_uuid_make(&record.id, NULL) != 0 || saga_begin(member->conn, NULL) != 0 ||
            saga_inbox_enter(member->conn, GROUP, &record, &verdict, NULL) != 0 ||
            saga_command_handle(member->conn, GROUP, &inventory, &record, 0, NULL, NULL) != 0 ||
            saga_commit(member->conn, NULL) != 0) {
            saga_rollback(member->conn);
            member->failures++;
        }
    }
    return NULL;
}

/* No deadlock, no step twice, and each undone as often as done. trap: I19 */
START_TEST(test_race_i19_crowd_neither_deadlocks_nor_doubles)
{
    struct member members[CROWD];

    db_exec(watcher, "UPDATE stock SET free = 1000");
    for (int i = 0; i < CROWD; i++) {
        members[i] = (struct member){ .conn = db_connect(conninfo), .number = i };
        ck_assert_int_eq(pthread_create(&members[i].thread, NULL, jostle, &members[i]), 0);
    }
    for (int i = 0; i < CROWD; i++) {
        pthread_join(members[i].thread, NULL);
        ck_assert_int_eq(members[i].failures, 0);
        PQfinish(members[i].conn);
    }
    ck_assert_int_eq(reply_count(watcher), CROWD * CROWD_SAGAS);
    ck_assert_int_eq(db_int(watcher, "SELECT free FROM stock"), 1000);
    ck_assert_int_eq(db_int(watcher, "SELECT count(*) FROM (SELECT FROM effect"
                                     " GROUP BY saga_id, action HAVING count(*) > 1) doubled"),
                     0);
    ck_assert_int_eq(db_int(watcher, "SELECT count(*) FILTER (WHERE action = 'run') -"
                                     " count(*) FILTER (WHERE action = 'compensate') FROM effect"),
                     0);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "participant/race",
        .setup = setup,
        .teardown = teardown,
        .timeout_s = 60,
        .tests =
            TESTS(test_race_i19_all_orders_both_commit, test_race_i19_all_orders_step_dies,
                  test_race_i19_all_orders_compensation_dies, test_race_i19_all_orders_both_die,
                  test_race_i19_crowd_neither_deadlocks_nor_doubles) });
}
