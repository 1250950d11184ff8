/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The statements of the barrier, and reading their answers.
 */
#include "idempotency/barrier.h"

#include "idempotency/barrier_sql.h"

#include <string.h>

static const char *const action_names[] = {
    [BARRIER_RUN] = "run", [BARRIER_COMPENSATE] = "compensate"
};

size_t
barrier_enter(struct barrier *barrier, const struct barrier_key *key, struct pg_statement *into)
{
    size_t n = 0;

    *barrier = (struct barrier){ .key = key };
    barrier->args[0] = PG_TEXT(key->consumer);
    barrier->args[1] = PG_UUID(&key->saga_id);
    barrier->args[2] = PG_TEXT(key->step);
    barrier->args[3] = PG_TEXT(action_names[key->action]);
    barrier->args[4] = PG_UUID(&key->message_id);
    into[n++] = (struct pg_statement){
        .sql = key->action == BARRIER_RUN ? SQL_BARRIER_RUN : SQL_BARRIER_COMPENSATE,
        .args = barrier->args,
        .n_args = 5,
        .rows = &barrier->inserted,
    };
    if (key->action == BARRIER_COMPENSATE)
        into[n++] = (struct pg_statement){ .sql = SQL_BARRIER_OVERTAKE,
                                           .args = barrier->args,
                                           .n_args = 3,
                                           .rows = &barrier->overtaken };
    into[n++] = (struct pg_statement){
        .sql = SQL_BARRIER_STEP, .args = barrier->args, .n_args = 4, .rows = &barrier->found
    };
    return n;
}

static bool
wrote(const struct barrier *barrier, enum barrier_action action)
{
    for (int i = 0; i < barrier->inserted.n; i++)
        if (strcmp(pg_text(&barrier->inserted, i, 0), action_names[action]) == 0)
            return true;
    return false;
}

static enum barrier_step
step_before(const struct barrier *barrier)
{
    if (barrier->overtaken.n > 0)
        return BARRIER_STEP_WAITING;
    if (wrote(barrier, BARRIER_RUN) || pg_is_null(&barrier->found, 0, 0))
        return BARRIER_STEP_ABSENT;
    return strcmp(pg_text(&barrier->found, 0, 0), "done") == 0 ? BARRIER_STEP_DONE
                                                               : BARRIER_STEP_REFUSED;
}

static enum barrier_own
own_before(const struct barrier *barrier)
{
    if (wrote(barrier, barrier->key->action))
        return BARRIER_OWN_NEW;
    return pg_bool(&barrier->found, 0, 2) ? BARRIER_OWN_WAITING : BARRIER_OWN_ANSWERED;
}

enum barrier_verdict
barrier_verdict(const struct barrier *barrier)
{
    /* A step that was overtaken was not forgotten then, and was there. */
    bool forgotten = pg_bool(&barrier->found, 0, 1) && barrier->overtaken.n == 0;

    return barrier_judge(barrier->key->action, own_before(barrier), forgotten,
                         step_before(barrier));
}

struct pg_statement
barrier_answer(struct barrier *barrier, bool refused, const char *reason, struct pg_array *names,
               struct pg_array *values)
{
    barrier->args[4] = PG_TEXT(refused ? "refused" : "done");
    barrier->args[5] = PG_TEXT(reason);
    barrier->args[6] = PG_ARRAY(names);
    barrier->args[7] = PG_ARRAY(values);
    return (struct pg_statement){ .sql = SQL_BARRIER_ANSWER, .args = barrier->args, .n_args = 8 };
}

struct pg_statement
barrier_wait(struct barrier *barrier, const char *reply_to, const char *traceparent,
             struct pg_array *names, struct pg_array *values)
{
    barrier->args[4] = PG_TEXT(reply_to);
    barrier->args[5] = PG_TEXT(traceparent);
    barrier->args[6] = PG_ARRAY(names);
    barrier->args[7] = PG_ARRAY(values);
    return (struct pg_statement){ .sql = SQL_BARRIER_WAIT, .args = barrier->args, .n_args = 8 };
}

struct pg_statement
barrier_forgotten(struct barrier *barrier)
{
    return (
        struct pg_statement){ .sql = SQL_BARRIER_FORGOTTEN, .args = barrier->args, .n_args = 5 };
}

void
barrier_clear(struct barrier *barrier)
{
    pg_rows_clear(&barrier->inserted);
    pg_rows_clear(&barrier->overtaken);
    pg_rows_clear(&barrier->found);
}
