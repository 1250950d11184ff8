/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine by tables: one line for each thing that may happen.
 *
 * Three steps: reserve (compensatable), charge (pivot), ship (retriable); each
 * has two attempts. States of the steps are written as one letter each, with
 * the number of the attempt where it matters: "d1 w2 p0".
 */
#include "saga/machine.h"
#include "test/support/run.h"

#include <stdio.h>
#include <string.h>

enum { NOW = 1000000000, LATER = NOW + 60000000, EARLIER = NOW - 1 };

static int
some_function(struct saga_ctx *ctx, void *user)
{
    (void)ctx;
    (void)user;
    return 0;
}

static struct definition
given_definition(bool commands)
{
    const char *topic = commands ? "commands" : NULL;
    saga_step_fn *fn = commands ? NULL : some_function;
    const struct saga_step steps[] = {
        { .name = "reserve", .command_topic = topic, .run = fn, .compensate = fn },
        { .name = "charge", .kind = SAGA_PIVOT, .command_topic = topic, .run = fn },
        { .name = "ship", .kind = SAGA_RETRIABLE, .command_topic = topic, .run = fn },
    };
    struct saga_step with_attempts[3];
    struct saga_definition table = { SAGA_DEFINITION("order", with_attempts),
                                     .compensation_ms = 10000 };
    struct definition definition;

    for (int i = 0; i < 3; i++) {
        with_attempts[i] = steps[i];
        with_attempts[i].attempts_max = 2;
        with_attempts[i].timeout_ms = 1000;
        with_attempts[i].first_delay_ms = 100;
    }
    ck_assert_int_eq(definition_read(&definition, &table, DEFINITION_OF_SAGA, NULL), 0);
    return definition;
}

static const char letters[] = "prwdfcus"; /* c compensating, u undone */

/* Active steps are due now. */
static void
given_steps(struct instance *instance, const char *text)
{
    instance->n_steps = 3;
    for (int i = 0; i < 3; i++) {
        const char *at = text + 3 * i;
        struct step_now *step = &instance->steps[i];

        step->state = (enum step_state)(strchr(letters, at[0]) - letters);
        step->attempt = at[1] - '0';
        step->due_us = strchr("rwc", at[0]) != NULL ? NOW : 0;
    }
}

static const char *
steps_text(const struct instance *instance)
{
    const struct step_now *s = instance->steps;

    return text_of("%c%d %c%d %c%d", letters[s[0].state], s[0].attempt, letters[s[1].state],
                   s[1].attempt, letters[s[2].state], s[2].attempt);
}

#define RESERVE 0
#define CHARGE  1
#define SHIP    2
#define RUNNING INSTANCE_RUNNING
#define BACK    INSTANCE_COMPENSATING
#define PARKED  INSTANCE_PARKED
#define UNDONE  INSTANCE_COMPENSATED
#define READY   INSTANCE_COMPLETED

struct row {
    const char *name;
    bool commands;
    enum instance_state from;
    const char *steps;
    struct event event;
    enum instance_state to;
    const char *then;
    const char *what; /* of the history */
    int run;          /* 1 + the step to be run; 0: none */
    uint32_t send;
    bool alarm, stale;
    int64_t deadline_us, undo_deadline_us;
};

/* clang-format off */
static const struct row moves[] = {
    /* Beginning, going on, ending. */
    { "a new saga's local step is run", false, RUNNING, "p0 p0 p0", { EVENT_DUE }, RUNNING,
      "r1 p0 p0", .run = 1 + RESERVE },
    { "a new saga's command is sent", true, RUNNING, "p0 p0 p0", { EVENT_DUE }, RUNNING, "w1 p0 p0",
      .send = 1 << RESERVE },
    { "done: the next step is due at once", false, RUNNING, "r1 p0 p0", { EVENT_DONE, RESERVE },
      RUNNING, "d1 r0 p0", "done" },
    { "done: the next command goes out with it", true, RUNNING, "w1 p0 p0",
      { EVENT_REPLY_DONE, RESERVE }, RUNNING, "d1 w1 p0", "done", .send = 1 << CHARGE },
    { "the last step is done: completed", false, RUNNING, "d1 d1 r1", { EVENT_DONE, SHIP }, READY,
      "d1 d1 d1", "done" },
    { "a step that waits has its own time", false, RUNNING, "r1 p0 p0", { EVENT_WAIT, RESERVE },
      RUNNING, "w1 p0 p0", "wait" },

    /* Refusals. */
    { "a business refusal turns the saga round", true, RUNNING, "d1 w1 p0",
      { EVENT_REPLY_REFUSED, CHARGE, .reason = "no money" }, BACK, "c1 f1 p0", "refused",
      .send = 1 << RESERVE },
    { "a refused step is not compensated", true, RUNNING, "w1 p0 p0",
      { EVENT_REPLY_REFUSED, RESERVE, .reason = "sold out" }, UNDONE, "f1 p0 p0", "refused" },
    { "behind the pivot a refusal is only retried", false, RUNNING, "d1 d1 r1",
      { EVENT_REFUSED, SHIP, .reason = "no van" }, RUNNING, "d1 d1 r1", "refused" },
    { "behind the pivot refusals park when the attempts are used up", false, RUNNING, "d1 d1 r2",
      { EVENT_REFUSED, SHIP, .reason = "no van" }, PARKED, "d1 d1 r2", "refused", .alarm = true },

    /* Attempts. */
    { "a retry comes again", false, RUNNING, "r1 p0 p0", { EVENT_RETRY, RESERVE }, RUNNING,
      "r1 p0 p0", "retry" },
    { "an error comes again", false, RUNNING, "r1 p0 p0", { EVENT_ERROR, RESERVE }, RUNNING,
      "r1 p0 p0", "error" },
    { "attempts used up, known not done: turned round, not compensated", false, RUNNING, "r2 p0 p0",
      { EVENT_ERROR, RESERVE, .reason = "x" }, UNDONE, "f2 p0 p0", "error" },
    { "a local pivot that never worked is known not done: turned round", false, RUNNING, "d1 r2 p0",
      { EVENT_ERROR, CHARGE, .reason = "x" }, BACK, "c0 f2 p0", "error" },
    { "a retriable step's attempts used up: parked", false, RUNNING, "d1 d1 r2",
      { EVENT_ERROR, SHIP, .reason = "x" }, PARKED, "d1 d1 r2", "error", .alarm = true },

    /* Unknown outcomes. trap: S1, S17 */
    { "no answer: the command is sent again", true, RUNNING, "w1 p0 p0", { EVENT_DUE }, RUNNING,
      "w2 p0 p0", "timeout", .send = 1 << RESERVE },
    { "s1: no answer at all: possibly done, so it is compensated too", true, RUNNING, "w2 p0 p0",
      { EVENT_DUE }, BACK, "c1 p0 p0", "timeout", .send = 1 << RESERVE },
    { "s17: a pivot without an answer is asked again", true, RUNNING, "d1 w1 p0", { EVENT_DUE },
      RUNNING, "d1 w2 p0", "timeout", .send = 1 << CHARGE },
    { "s17: a pivot without any answer is parked, never undone", true, RUNNING, "d1 w2 p0",
      { EVENT_DUE }, PARKED, "d1 w2 p0", "timeout", .alarm = true },
    { "a retriable step without any answer is parked", true, RUNNING, "d1 d1 w2", { EVENT_DUE },
      PARKED, "d1 d1 w2", "timeout", .alarm = true },
    { "a local step that waited too long is possibly done", false, RUNNING, "w2 p0 p0",
      { EVENT_DUE }, BACK, "c0 p0 p0", "timeout" },
    { "a step that waited and then errs may still be done", false, RUNNING, "w2 p0 p0",
      { EVENT_ERROR, RESERVE }, BACK, "c0 p0 p0", "error" },

    /* Stale and doubled replies. trap: S2 */
    { "s2: a reply to an earlier attempt counts while the step waits", true, RUNNING, "w2 p0 p0",
      { EVENT_REPLY_DONE, RESERVE }, RUNNING, "d2 w1 p0", "done", .send = 1 << CHARGE },
    { "s2: the same reply again", true, RUNNING, "d1 w1 p0", { EVENT_REPLY_DONE, RESERVE }, RUNNING,
      "d1 w1 p0", .stale = true },
    { "s2: a refusal after the step was done", true, RUNNING, "d1 w1 p0",
      { EVENT_REPLY_REFUSED, RESERVE }, RUNNING, "d1 w1 p0", .stale = true },
    { "s2: a reply of the step while it is compensated", true, BACK, "c1 f1 p0",
      { EVENT_REPLY_DONE, RESERVE }, BACK, "c1 f1 p0", .stale = true },
    { "s2: a reply of a compensation that was not sent", true, RUNNING, "d1 w1 p0",
      { EVENT_REPLY_DONE, RESERVE, .undo = true }, RUNNING, "d1 w1 p0", .stale = true },
    { "s2: a reply to a completed saga", true, READY, "d1 d1 d1", { EVENT_REPLY_REFUSED, SHIP },
      READY, "d1 d1 d1", .stale = true },
    { "s2: a reply to a compensated saga", true, UNDONE, "u1 f1 p0",
      { EVENT_REPLY_DONE, RESERVE, .undo = true }, UNDONE, "u1 f1 p0", .stale = true },
    { "s2: a reply for a step that does not exist", true, RUNNING, "w1 p0 p0",
      { EVENT_REPLY_DONE, 7 }, RUNNING, "w1 p0 p0", .stale = true },
    /* trap: I28 */
    { "i28: a participant that has forgotten parks the saga", true, RUNNING, "d1 w1 p0",
      { EVENT_REPLY_UNKNOWN, CHARGE }, PARKED, "d1 w1 p0", "unknown", .alarm = true },
    { "i28: so does one that has forgotten what to undo", true, BACK, "c1 f1 p0",
      { EVENT_REPLY_UNKNOWN, RESERVE, .undo = true }, PARKED, "c1 f1 p0", "unknown",
      .alarm = true },
    { "i28: it is stale where the answer is known", true, RUNNING, "d1 w1 p0",
      { EVENT_REPLY_UNKNOWN, RESERVE }, RUNNING, "d1 w1 p0", .stale = true },
    { "a late answer is what a parked saga lacked", true, PARKED, "d1 w2 p0",
      { EVENT_REPLY_DONE, CHARGE }, RUNNING, "d1 d2 w1", "done", .send = 1 << SHIP },
    { "a late refusal of a parked pivot turns the saga round", true, PARKED, "d1 w2 p0",
      { EVENT_REPLY_REFUSED, CHARGE, .reason = "no" }, BACK, "c1 f2 p0", "refused",
      .send = 1 << RESERVE },

    /* Compensation. trap: S3 */
    { "a compensation is run", false, BACK, "c0 f1 p0", { EVENT_DUE }, BACK, "c1 f1 p0",
      .run = 1 + RESERVE, .undo_deadline_us = LATER },
    { "the last compensation ends it", true, BACK, "c1 f1 p0",
      { EVENT_REPLY_DONE, RESERVE, .undo = true }, UNDONE, "u1 f1 p0", "done",
      .undo_deadline_us = LATER },
    { "s3: a compensation that fails is tried again", false, BACK, "c7 f1 p0",
      { EVENT_ERROR, RESERVE }, BACK, "c7 f1 p0", "error", .undo_deadline_us = LATER },
    { "s3: a compensation cannot be refused", false, BACK, "c7 f1 p0", { EVENT_REFUSED, RESERVE },
      BACK, "c7 f1 p0", "refused", .undo_deadline_us = LATER },
    { "s3: a compensation's command is sent again", true, BACK, "c7 f1 p0", { EVENT_DUE }, BACK,
      "c8 f1 p0", "timeout", .send = 1 << RESERVE, .undo_deadline_us = LATER },
    { "s3: at the end of the budget a failure parks", false, BACK, "c7 f1 p0",
      { EVENT_ERROR, RESERVE }, PARKED, "c7 f1 p0", "error", .alarm = true,
      .undo_deadline_us = EARLIER },
    { "s3: at the end of the budget silence parks", true, BACK, "c7 f1 p0", { EVENT_DUE }, PARKED,
      "c7 f1 p0", "timeout", .alarm = true, .undo_deadline_us = EARLIER },
    { "s3: waiting does not outlive the budget", false, BACK, "c7 f1 p0", { EVENT_WAIT, RESERVE },
      PARKED, "c7 f1 p0", "wait", .alarm = true, .undo_deadline_us = EARLIER },
    { "s3: even without any budget left it is tried once", true, BACK, "d1 f1 p0", { EVENT_DUE },
      BACK, "c1 f1 p0", .send = 1 << RESERVE, .undo_deadline_us = EARLIER },

    /* Deadline. trap: S12 */
    { "s12: the deadline turns round before the pivot", true, RUNNING, "w1 p0 p0", { EVENT_DUE },
      BACK, "c1 p0 p0", "deadline", .send = 1 << RESERVE, .deadline_us = EARLIER },
    { "s12: a saga that has not begun has nothing to undo", true, RUNNING, "p0 p0 p0",
      { EVENT_DUE }, UNDONE, "p0 p0 p0", "deadline", .deadline_us = EARLIER },
    { "s12: a local pivot between two attempts is known not done", false, RUNNING, "d1 r1 p0",
      { EVENT_DUE }, BACK, "c0 f1 p0", "deadline", .deadline_us = EARLIER },
    { "s17: once the pivot was sent, the deadline only raises the alarm", true, RUNNING, "d1 w1 p0",
      { EVENT_DUE }, RUNNING, "d1 w1 p0", "deadline", .alarm = true, .deadline_us = EARLIER },
    { "s12: a step that ends after the deadline is done", false, RUNNING, "d1 r1 p0",
      { EVENT_DONE, CHARGE }, RUNNING, "d1 d1 r0", "done", .deadline_us = EARLIER },
    { "s12: compensation has a budget of its own", true, BACK, "c1 f1 p0", { EVENT_DUE }, BACK,
      "c2 f1 p0", "timeout", .send = 1 << RESERVE, .deadline_us = EARLIER,
      .undo_deadline_us = LATER },
    { "s12: a parked saga has no deadline", true, PARKED, "d1 w2 p0", { EVENT_DUE }, PARKED,
      "d1 w2 p0", .deadline_us = EARLIER },

    /* Cancel. trap: S11 */
    { "s11: cancel turns round before the pivot", true, RUNNING, "w1 p0 p0", { EVENT_CANCEL }, BACK,
      "c1 p0 p0", "cancel", .send = 1 << RESERVE },
    { "s11: a step that was never tried is as if it had never begun", false, RUNNING, "d1 r0 p0",
      { EVENT_CANCEL }, BACK, "c0 p0 p0", "cancel" },
    { "s17: once the pivot was sent, cancel only raises the alarm", true, RUNNING, "d1 w1 p0",
      { EVENT_CANCEL }, RUNNING, "d1 w1 p0", "cancel_refused", .alarm = true },
    { "s11: behind the pivot, too", true, RUNNING, "d1 d1 w1", { EVENT_CANCEL }, RUNNING,
      "d1 d1 w1", "cancel_refused", .alarm = true },
    { "s11: cancel comes too late", true, READY, "d1 d1 d1", { EVENT_CANCEL }, READY, "d1 d1 d1" },
    { "s11: cancel of what is being undone changes nothing", true, BACK, "c1 f1 p0",
      { EVENT_CANCEL }, BACK, "c1 f1 p0", .undo_deadline_us = LATER },
    { "a parked saga can be cancelled", true, PARKED, "p0 p0 p0", { EVENT_CANCEL }, UNDONE,
      "p0 p0 p0", "cancel" },
    { "s17: not if its pivot may be done", true, PARKED, "d1 w2 p0", { EVENT_CANCEL }, PARKED,
      "d1 w2 p0", "cancel_refused", .alarm = true },

    /* Parked, and going on. */
    { "a parked pivot is asked again with new attempts", true, PARKED, "d1 w2 p0", { EVENT_RESUME },
      RUNNING, "d1 w1 p0", "resumed", .send = 1 << CHARGE },
    { "a parked local step is due again", false, PARKED, "d1 d1 r2", { EVENT_RESUME }, RUNNING,
      "d1 d1 r0", "resumed" },
    { "a parked compensation goes on backwards", true, PARKED, "c9 f1 p0", { EVENT_RESUME }, BACK,
      "c1 f1 p0", "resumed", .send = 1 << RESERVE },
    { "only what is parked can go on", true, RUNNING, "w1 p0 p0", { EVENT_RESUME }, RUNNING,
      "w1 p0 p0" },

    /* Another definition. trap: S8 */
    { "s8: another definition parks before anything is done", true, RUNNING, "w1 p0 p0",
      { EVENT_MISMATCH, .reason = "differs" }, PARKED, "w1 p0 p0", "mismatch", .alarm = true },
    { "s8: backwards, too", true, BACK, "c1 f1 p0", { EVENT_MISMATCH, .reason = "differs" }, PARKED,
      "c1 f1 p0", "mismatch", .alarm = true },
    { "s8: what is over is over", true, READY, "d1 d1 d1", { EVENT_MISMATCH, .reason = "differs" },
      READY, "d1 d1 d1" },
};
/* clang-format on */

static void
check_move(const struct row *row)
{
    struct definition definition = given_definition(row->commands);
    struct instance instance = { .state = row->from, .deadline_us = row->deadline_us };
    struct outcome out;
    const char *then;

    instance.undo_deadline_us = row->undo_deadline_us;
    instance.due_us = row->from == RUNNING || row->from == BACK ? NOW : 0;
    given_steps(&instance, row->steps);
    machine_move(&definition, &instance, &row->event, NOW, 0, &out);

    then = steps_text(&instance);
    ck_assert_msg(instance.state == row->to, "%s: %s, not %s", row->name,
                  instance_state_name(instance.state), instance_state_name(row->to));
    ck_assert_msg(strcmp(then, row->then) == 0, "%s: %s, not %s", row->name, then, row->then);
    ck_assert_msg((row->what == NULL) == (out.what == NULL) &&
                      (row->what == NULL || strcmp(row->what, out.what) == 0),
                  "%s: tells '%s'", row->name, out.what != NULL ? out.what : "");
    ck_assert_msg(out.run == row->run - 1, "%s: runs %d", row->name, out.run);
    ck_assert_msg(out.send == row->send, "%s: sends %x", row->name, out.send);
    ck_assert_msg(out.alarm == row->alarm, "%s: alarm %d", row->name, out.alarm);
    ck_assert_msg(out.stale == row->stale, "%s: stale %d", row->name, out.stale);
}

START_TEST(test_machine_moves_by_its_table)
{
    for (size_t i = 0; i < sizeof moves / sizeof *moves; i++)
        check_move(&moves[i]);
}
END_TEST

/* --- times ------------------------------------------------------------------------ */

static int64_t
delay_ms(const char *steps, struct event event, uint64_t random)
{
    struct definition definition = given_definition(false);
    struct instance instance = { .state = RUNNING, .due_us = NOW };
    struct outcome out;

    given_steps(&instance, steps);
    definition.steps[0].attempts_max = 50;
    machine_move(&definition, &instance, &event, NOW, random, &out);
    return (instance.due_us - NOW) / 1000;
}

/* trap: S7 */
START_TEST(test_machine_delays_grow_are_bounded_and_differ_s7)
{
    const struct event retry = { EVENT_RETRY, RESERVE };

    ck_assert_int_eq(delay_ms("r1 p0 p0", retry, 0), 100);
    ck_assert_int_eq(delay_ms("r2 p0 p0", retry, 0), 200);
    ck_assert_int_eq(delay_ms("r5 p0 p0", retry, 0), 1600);
    ck_assert_int_le(delay_ms("r9 p0 p0", retry, 0), 30000);
    ck_assert_int_ne(delay_ms("r5 p0 p0", retry, 5), delay_ms("r5 p0 p0", retry, 77));
    ck_assert_int_ge(delay_ms("r5 p0 p0", retry, 12345), 800);
}
END_TEST

START_TEST(test_machine_delay_that_was_asked_for_is_not_shortened)
{
    const struct event retry = { EVENT_RETRY, RESERVE, .delay_ms = 5000 };

    for (uint64_t random = 0; random < 3000; random += 7) {
        int64_t ms = delay_ms("r1 p0 p0", retry, random);

        if (ms < 5000 || ms > 6250)
            ck_abort_msg("%lld ms", (long long)ms);
    }
}
END_TEST

START_TEST(test_machine_timeouts_differ_s7)
{
    const struct event wait = { EVENT_WAIT, RESERVE };

    ck_assert_int_eq(delay_ms("r1 p0 p0", wait, 0), 1000);
    ck_assert_int_eq(delay_ms("r1 p0 p0", wait, 100), 1100);
}
END_TEST

START_TEST(test_machine_looks_again_at_the_deadline)
{
    struct definition definition = given_definition(true);
    struct instance instance = { .state = RUNNING, .due_us = NOW, .deadline_us = NOW + 500000 };
    struct outcome out;

    given_steps(&instance, "p0 p0 p0");
    machine_move(&definition, &instance, &(struct event){ EVENT_DUE }, NOW, 0, &out);

    ck_assert_int_eq(instance.steps[0].due_us, NOW + 1000000);
    ck_assert_int_eq(instance.due_us, NOW + 500000);
}
END_TEST

START_TEST(test_machine_raises_the_alarm_of_a_deadline_once)
{
    struct definition definition = given_definition(true);
    struct instance instance = { .state = RUNNING, .due_us = NOW, .deadline_us = EARLIER };
    struct outcome out;

    given_steps(&instance, "d1 w1 p0");
    machine_move(&definition, &instance, &(struct event){ EVENT_DUE }, NOW, 0, &out);
    ck_assert(out.alarm);
    machine_move(&definition, &instance, &(struct event){ EVENT_DUE }, NOW, 0, &out);
    ck_assert(!out.alarm);
    ck_assert_str_eq(out.what, "timeout");
}
END_TEST

START_TEST(test_machine_reasons_stay_valid_text_when_cut)
{
    struct definition definition = given_definition(false);
    struct instance instance = { .state = RUNNING, .due_us = NOW };
    char reason[SAGA_REASON_MAX + 1];
    struct outcome out;

    memset(reason, 'x', sizeof reason);
    for (size_t i = 1; i + 1 < sizeof reason; i += 2)
        memcpy(reason + i, "\xC3\xA9", 2);
    reason[SAGA_REASON_MAX] = '\0';
    given_steps(&instance, "d1 d1 r2");
    machine_move(&definition, &instance, &(struct event){ EVENT_ERROR, SHIP, .reason = reason },
                 NOW, 0, &out);

    ck_assert_int_eq(instance.state, PARKED);
    ck_assert_int_ne((unsigned char)instance.reason[strlen(instance.reason) - 1], 0xC3);
    ck_assert_ptr_nonnull(strstr(instance.reason, "step ship: its attempts are used up: x"));
}
END_TEST

START_TEST(test_states_have_words_that_are_read_back)
{
    for (int i = INSTANCE_RUNNING; i <= INSTANCE_PARKED; i++) {
        enum instance_state read;

        ck_assert(instance_state_parse(&read, instance_state_name((enum instance_state)i)));
        ck_assert_int_eq(read, i);
    }
    for (int i = STEP_PENDING; i <= STEP_SKIPPED; i++) {
        const char *name = step_state_name((enum step_state)i);
        enum step_state read;

        ck_assert(step_state_parse(&read, name, strlen(name)));
        ck_assert_int_eq(read, i);
    }
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "saga/machine",
        .tests = TESTS(test_machine_moves_by_its_table,
                       test_machine_delays_grow_are_bounded_and_differ_s7,
                       test_machine_delay_that_was_asked_for_is_not_shortened,
                       test_machine_timeouts_differ_s7, test_machine_looks_again_at_the_deadline,
                       test_machine_raises_the_alarm_of_a_deadline_once,
                       test_machine_reasons_stay_valid_text_when_cut,
                       test_states_have_words_that_are_read_back) });
}
