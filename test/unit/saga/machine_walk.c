/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random walks of the machine through a world that does everything at the wrong
 * time: answers of every kind, commands and replies that are late, doubled or
 * lost, cancels, deadlines, operators. After every move the rules are checked
 * that must hold whatever happens; and from every state that is reached, every
 * event is tried.
 *
 * The world knows the truth: how often each step was really done and undone,
 * counted without any help of the machine.
 */
#include "saga/machine.h"
#include "test/support/run.h"

#include <stdio.h>
#include <string.h>

enum { STEPS = 4, WALKS = 4000, MOVES_MAX = 400 };

/* A participant with its barrier, or the local database. */
struct truth {
    int done, undone;            /* effects */
    bool ran, refused_run;       /* the barrier's row of the step */
    bool compensated;            /* the barrier's row of its compensation */
    int commands, undo_commands; /* in flight */
    bool told_refused;           /* the machine has been told */
};

struct world {
    struct definition definition;
    struct instance instance;
    struct truth truth[STEPS];
    int64_t now_us;
    uint64_t seed;
    int resumed, moves;
};

static uint64_t
chance(struct world *w)
{
    w->seed ^= w->seed << 13;
    w->seed ^= w->seed >> 7;
    w->seed ^= w->seed << 17;
    return w->seed;
}

static bool
one_in(struct world *w, unsigned n)
{
    return chance(w) % n == 0;
}

/* --- the rules ------------------------------------------------------------------- */

static bool
reachable(enum step_state from, enum step_state to)
{
    if (from == to || step_move_legal(from, to))
        return true;
    for (int via = STEP_PENDING; via <= STEP_SKIPPED; via++)
        if (step_move_legal(from, (enum step_state)via) &&
            step_move_legal((enum step_state)via, to))
            return true;
    return false;
}

static bool
instance_reachable(enum instance_state from, enum instance_state to)
{
    if (from == to || instance_move_legal(from, to))
        return true;
    for (int via = INSTANCE_RUNNING; via <= INSTANCE_PARKED; via++)
        if (instance_move_legal(from, (enum instance_state)via) &&
            instance_move_legal((enum instance_state)via, to))
            return true;
    /* A parked saga is cancelled before anything was done. */
    return from == INSTANCE_PARKED && to == INSTANCE_COMPENSATED;
}

static const char *
rule_of_states(const struct world *w, const struct instance *before, const struct instance *after)
{
    bool over = before->state == INSTANCE_COMPLETED || before->state == INSTANCE_COMPENSATED;

    if (over && memcmp(before, after, sizeof *before) != 0)
        return "what is over stays as it is";
    if (!instance_reachable(before->state, after->state))
        return "the instance's change of state is not legal";
    for (size_t i = 0; i < after->n_steps; i++) {
        if (!reachable(before->steps[i].state, after->steps[i].state))
            return "a step's change of state is not legal";
        if (after->steps[i].state != STEP_COMPENSATING &&
            after->steps[i].state != STEP_COMPENSATED &&
            after->steps[i].attempt > w->definition.steps[i].attempts_max)
            return "more attempts than there are";
    }
    if ((after->state == INSTANCE_RUNNING || after->state == INSTANCE_COMPENSATING) !=
        (after->due_us != 0))
        return "a saga that goes on is due some day, and no other is";
    if (after->state == INSTANCE_PARKED && after->reason[0] == '\0')
        return "a parked saga has a reason";
    return NULL;
}

static const char *
rule_of_compensation(const struct world *w, const struct instance *after)
{
    bool back = after->state == INSTANCE_COMPENSATING || after->state == INSTANCE_COMPENSATED;

    for (size_t i = 0; i < after->n_steps; i++) {
        enum step_state state = after->steps[i].state;
        bool open = state == STEP_DONE || state == STEP_WAITING || state == STEP_COMPENSATING;
        bool undone = state == STEP_COMPENSATING || state == STEP_COMPENSATED;

        if (undone && w->definition.steps[i].kind != SAGA_COMPENSATABLE)
            return "only compensatable steps are undone"; /* trap: S17 */
        if (back && open && w->definition.steps[i].kind != SAGA_COMPENSATABLE)
            return "behind the point of no return nothing is undone"; /* trap: S17 */
        if (undone && w->truth[i].told_refused)
            return "a step that was refused is not compensated"; /* trap: I27 */
        for (size_t j = i + 1; undone && j < after->n_steps; j++) {
            enum step_state later = after->steps[j].state;

            if (later == STEP_DONE || later == STEP_WAITING || later == STEP_COMPENSATING ||
                later == STEP_RUNNING)
                return "steps are undone in reverse order"; /* trap: S4 */
        }
    }
    return NULL;
}

static const char *
rule_of_the_end(const struct world *w, const struct instance *after)
{
    for (size_t i = 0; i < after->n_steps; i++) {
        const struct truth *t = &w->truth[i];

        if (t->done > 1 || t->undone > t->done)
            return "an effect happened twice"; /* trap: S16 */
        if (after->state == INSTANCE_COMPLETED && (t->done != 1 || t->undone != 0))
            return "completed, and a step is not done";
        if (after->state == INSTANCE_COMPENSATED && t->done != t->undone)
            return "compensated, and something done is not undone"; /* trap: S1 */
    }
    return NULL;
}

static void
check_rules(const struct world *w, const struct instance *before, const struct instance *after,
            const char *event)
{
    const char *broken = rule_of_states(w, before, after);

    broken = broken != NULL ? broken : rule_of_compensation(w, after);
    broken = broken != NULL ? broken : rule_of_the_end(w, after);
    if (broken == NULL)
        return;
    for (size_t i = 0; i < after->n_steps; i++)
        printf("  step %zu: %s(%d) -> %s(%d), done %d undone %d\n", i,
               step_state_name(before->steps[i].state), before->steps[i].attempt,
               step_state_name(after->steps[i].state), after->steps[i].attempt, w->truth[i].done,
               w->truth[i].undone);
    ck_abort_msg("%s: after %s, %s -> %s, seed %llu", broken, event,
                 instance_state_name(before->state), instance_state_name(after->state),
                 (unsigned long long)w->seed);
}

/* --- moves ------------------------------------------------------------------------- */

static struct outcome
move(struct world *w, struct event event, const char *name)
{
    struct instance before = w->instance;
    struct outcome out;

    machine_move(&w->definition, &w->instance, &event, w->now_us, chance(w), &out);
    for (size_t i = 0; i < STEPS; i++) {
        if ((out.send & (1U << i)) == 0)
            continue;
        if (w->instance.steps[i].state == STEP_COMPENSATING)
            w->truth[i].undo_commands++;
        else
            w->truth[i].commands++;
    }
    /* An attempt that is being run is saved with its answer only. */
    if (out.run == NO_STEP)
        check_rules(w, &before, &w->instance, name);
    if (out.stale && memcmp(&before, &w->instance, sizeof before) != 0)
        ck_abort_msg("a stale reply has changed something"); /* trap: S2 */
    return out;
}

static void
answer_step(struct world *w, size_t i)
{
    static const enum event_kind kinds[] = { EVENT_DONE,  EVENT_DONE,    EVENT_DONE, EVENT_WAIT,
                                             EVENT_RETRY, EVENT_REFUSED, EVENT_ERROR };
    struct event event = { .kind = kinds[chance(w) % 7], .step = i, .reason = "as it happens" };
    bool undo = w->instance.steps[i].state == STEP_COMPENSATING;
    struct truth *t = &w->truth[i];

    /* A local step that has waited may have been done by then. */
    if (event.kind == EVENT_DONE && undo)
        t->undone += t->done - t->undone;
    else if (event.kind == EVENT_DONE || (event.kind == EVENT_WAIT && !undo && one_in(w, 2)))
        t->done = 1;
    else if (event.kind == EVENT_REFUSED && !undo && t->done)
        event.kind = EVENT_RETRY; /* what is done cannot be refused truthfully */
    if (event.kind == EVENT_REFUSED && !undo && w->definition.steps[i].kind != SAGA_RETRIABLE)
        t->told_refused = true;
    move(w, event, "an answer");
}

static void
look(struct world *w)
{
    struct instance before = w->instance;
    struct outcome out = move(w, (struct event){ .kind = EVENT_DUE }, "due");

    if (out.run == NO_STEP)
        return;
    if (one_in(w, 6))
        w->instance = before; /* the worker died: nothing has happened */
    else
        answer_step(w, (size_t)out.run);
}

/* The participant gets a command, and its answer may get back. */
static void
deliver(struct world *w, size_t i)
{
    struct truth *t = &w->truth[i];
    bool undo = t->undo_commands > 0 && (t->commands == 0 || one_in(w, 2));
    struct event event = { .step = i, .undo = undo, .reason = "the participant says so" };

    if (!undo && t->commands == 0)
        return;
    if (undo) {
        t->undo_commands -= one_in(w, 2);
        if (!t->compensated && t->ran && !t->refused_run)
            t->undone++;
        else if (!t->ran)
            t->ran = t->refused_run = true; /* the tombstone */
        t->compensated = true;
    } else {
        t->commands -= one_in(w, 2);
        if (!t->ran) {
            t->refused_run = one_in(w, 5);
            t->done += !t->refused_run;
        }
        t->ran = true;
    }
    event.kind = !undo && t->refused_run ? EVENT_REPLY_REFUSED : EVENT_REPLY_DONE;
    if (one_in(w, 3))
        return; /* the reply is lost, or late: it comes with the next delivery */
    if (event.kind == EVENT_REPLY_REFUSED && w->instance.steps[i].state == STEP_WAITING &&
        w->definition.steps[i].kind != SAGA_RETRIABLE)
        t->told_refused = true;
    move(w, event, "a reply");
}

/* From here, everything that could happen, on a copy. */
static void
try_every_event(const struct world *w)
{
    for (int kind = EVENT_REPLY_DONE; kind <= EVENT_MISMATCH; kind++) {
        for (size_t i = 0; i < STEPS * 2; i++) {
            struct event event = {
                .kind = (enum event_kind)kind, .step = i / 2, .undo = i % 2 != 0, .reason = "tried"
            };
            struct instance copy = w->instance;
            struct outcome out;
            const char *broken;

            machine_move(&w->definition, &copy, &event, w->now_us, 7, &out);
            broken = rule_of_states(w, &w->instance, &copy);
            if (broken == NULL && kind != EVENT_REPLY_REFUSED)
                broken = rule_of_compensation(w, &copy);
            if (broken != NULL)
                ck_abort_msg("%s: event %d, step %zu, from %s", broken, kind, i / 2,
                             instance_state_name(w->instance.state));
        }
    }
}

static void
happen(struct world *w)
{
    size_t i = chance(w) % STEPS;

    switch (chance(w) % 8) {
    case 0:
    case 1:
    case 2:
        if (w->instance.due_us > w->now_us)
            w->now_us = w->instance.due_us;
        look(w);
        break;
    case 3:
        w->now_us += (int64_t)(chance(w) % 2000000);
        break;
    case 4:
        if (one_in(w, 10))
            move(w, (struct event){ .kind = EVENT_CANCEL, .reason = "changed my mind" }, "cancel");
        break;
    case 5:
        if (w->instance.state == INSTANCE_PARKED && w->resumed++ < 3)
            move(w, (struct event){ .kind = EVENT_RESUME }, "resume");
        break;
    default:
        deliver(w, i);
    }
}

/* --- walks --------------------------------------------------------------------------- */

static int
never(struct saga_ctx *ctx, void *user)
{
    (void)ctx;
    (void)user;
    return 0;
}

/* Every mixture of kinds, local steps and commands comes up. */
static void
given_world(struct world *w, uint64_t seed)
{
    static const char *const names[STEPS] = { "one", "two", "three", "four" };
    struct saga_step steps[STEPS] = { { 0 } };
    struct saga_definition definition = { SAGA_DEFINITION("walk", steps), .compensation_ms = 3000 };
    int32_t kind = SAGA_COMPENSATABLE;

    *w = (struct world){ .seed = seed * 2654435761U + 1, .now_us = 1000000 };
    for (size_t i = 0; i < STEPS; i++) {
        if (kind == SAGA_PIVOT || (kind != SAGA_RETRIABLE && one_in(w, 4)))
            kind++;
        steps[i] = (struct saga_step){ .name = names[i],
                                       .kind = kind,
                                       .attempts_max = (int32_t)(1 + chance(w) % 3),
                                       .timeout_ms = 300 };
        if (one_in(w, 2)) {
            steps[i].command_topic = "commands";
        } else {
            steps[i].run = never;
            steps[i].compensate = kind == SAGA_COMPENSATABLE ? never : NULL;
        }
    }
    ck_assert_int_eq(definition_read(&w->definition, &definition, DEFINITION_OF_SAGA, NULL), 0);
    w->instance.n_steps = STEPS;
    w->instance.due_us = w->now_us;
    w->instance.deadline_us = one_in(w, 3) ? w->now_us + 1500000 : 0;
}

static bool
over(const struct world *w)
{
    return w->instance.state == INSTANCE_COMPLETED || w->instance.state == INSTANCE_COMPENSATED;
}

START_TEST(test_walks_keep_every_rule_s1_s2_s4_s16_s17)
{
    int ends[INSTANCE_PARKED + 1] = { 0 };

    for (uint64_t seed = 1; seed <= WALKS; seed++) {
        struct world w;

        given_world(&w, seed);
        while (!over(&w) && w.moves++ < MOVES_MAX) {
            happen(&w);
            try_every_event(&w);
        }
        ends[w.instance.state]++;
    }
    /* The walks went everywhere, and hardly one did not end. */
    ck_assert_int_gt(ends[INSTANCE_COMPLETED], WALKS / 20);
    ck_assert_int_gt(ends[INSTANCE_COMPENSATED], WALKS / 20);
    ck_assert_int_gt(ends[INSTANCE_PARKED], 10);
    ck_assert_int_lt(ends[INSTANCE_RUNNING] + ends[INSTANCE_COMPENSATING], WALKS / 100);
}
END_TEST

/* trap: S3. Nobody answers, everything fails, nobody helps: it ends all the same. */
START_TEST(test_walks_without_any_success_end_s3)
{
    for (uint64_t seed = 1; seed <= WALKS; seed++) {
        struct world w;
        int moves = 0;

        given_world(&w, seed);
        while (!over(&w) && w.instance.state != INSTANCE_PARKED) {
            struct outcome out;

            if (++moves > 2000)
                ck_abort_msg("still %s after %d moves, seed %llu",
                             instance_state_name(w.instance.state), moves,
                             (unsigned long long)seed);
            if (w.instance.due_us > w.now_us)
                w.now_us = w.instance.due_us;
            out = move(&w, (struct event){ .kind = EVENT_DUE }, "due");
            if (out.run != NO_STEP)
                move(&w,
                     (struct event){ .kind = one_in(&w, 2) ? EVENT_ERROR : EVENT_WAIT,
                                     .step = (size_t)out.run,
                                     .reason = "no" },
                     "a failure");
        }
    }
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){ .name = "saga/machine_walk",
                                      .tests = TESTS(test_walks_keep_every_rule_s1_s2_s4_s16_s17,
                                                     test_walks_without_any_success_end_s3) });
}
