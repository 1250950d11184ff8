/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saving what the machine made of instances: one statement for any number of
 * them, with their history and their commands.
 */
#include "base/crash.h"
#include "saga/sql.h"
#include "saga/store.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* The parameters of SQL_SAVE, in its order: first one element for each change,
 * then one for each command. */
enum {
    SAVE_ID,
    SAVE_VERSION,
    SAVE_STATE,
    SAVE_REASON,
    SAVE_STEP_STATES,
    SAVE_STEP_ATTEMPTS,
    SAVE_STEP_DUE,
    SAVE_DUE,
    SAVE_UNDO_DEADLINE,
    SAVE_OVERDUE,
    SAVE_ALARM,
    SAVE_PATCH,
    SAVE_HOLD_MS,
    SAVE_REQUEST_DONE,
    SAVE_EVENT,
    SAVE_STEP,
    SAVE_ACTION,
    SAVE_ATTEMPT,
    SAVE_STEP_STATE,
    SAVE_EVENT_REASON,
    COMMAND_SAGA_ID,
    COMMAND_MESSAGE_ID,
    COMMAND_TOPIC,
    COMMAND_STEP,
    COMMAND_ACTION,
    COMMAND_ATTEMPT,
    N_ARRAYS,
    N_ARGS = N_ARRAYS + 2
};

static const Oid types[N_ARRAYS] = {
    [SAVE_ID] = PG_OID_UUID_ARRAY,
    [SAVE_VERSION] = PG_OID_INT8_ARRAY,
    [SAVE_DUE] = PG_OID_INT8_ARRAY,
    [SAVE_UNDO_DEADLINE] = PG_OID_INT8_ARRAY,
    [SAVE_OVERDUE] = PG_OID_INT4_ARRAY,
    [SAVE_ALARM] = PG_OID_INT4_ARRAY,
    [SAVE_HOLD_MS] = PG_OID_INT8_ARRAY,
    [SAVE_REQUEST_DONE] = PG_OID_INT4_ARRAY,
    [SAVE_ATTEMPT] = PG_OID_INT4_ARRAY,
    [COMMAND_SAGA_ID] = PG_OID_UUID_ARRAY,
    [COMMAND_MESSAGE_ID] = PG_OID_UUID_ARRAY,
    [COMMAND_ATTEMPT] = PG_OID_INT4_ARRAY,
    /* the others are texts */
};

struct save {
    struct pg_array arrays[N_ARRAYS];
    struct pg_arg args[N_ARGS];
};

static const char *
action_name(bool undo)
{
    return undo ? WIRE_COMPENSATE : WIRE_RUN;
}

/* --- one change ------------------------------------------------------------------ */

static void
add_time(struct pg_array *array, int64_t us)
{
    if (us == 0)
        pg_array_add(array, NULL, 0);
    else
        pg_array_add_int8(array, us);
}

/* As the texts of arrays: an array of arrays of different lengths does not exist. */
static void
add_steps(struct save *save, const struct instance *instance)
{
    char states[SAGA_STEPS_MAX * 16], attempts[SAGA_STEPS_MAX * 12], dues[SAGA_STEPS_MAX * 22];
    size_t s = 0, a = 0, d = 0;

    for (size_t i = 0; i < instance->n_steps; i++) {
        const struct step_now *step = &instance->steps[i];
        char before = i == 0 ? '{' : ',';

        s += (size_t)sprintf(states + s, "%c%s", before, step_state_name(step->state));
        a += (size_t)sprintf(attempts + a, "%c%" PRId32, before, step->attempt);
        if (step->due_us == 0)
            d += (size_t)sprintf(dues + d, "%cNULL", before);
        else
            d += (size_t)sprintf(dues + d, "%c%" PRId64, before, step->due_us);
    }
    strcpy(states + s, "}");
    strcpy(attempts + a, "}");
    strcpy(dues + d, "}");
    pg_array_add_text(&save->arrays[SAVE_STEP_STATES], states);
    pg_array_add_text(&save->arrays[SAVE_STEP_ATTEMPTS], attempts);
    pg_array_add_text(&save->arrays[SAVE_STEP_DUE], dues);
}

static void
add_event(struct save *save, const struct definition *definition, const struct store_change *change)
{
    const struct outcome *outcome = change->outcome;
    struct pg_array *arrays = save->arrays;

    pg_array_add_text(&arrays[SAVE_EVENT], outcome->what);
    pg_array_add_text(&arrays[SAVE_EVENT_REASON],
                      outcome->reason != NULL && outcome->reason[0] != '\0' ? outcome->reason
                                                                            : NULL);
    if (outcome->step == NO_STEP) {
        pg_array_add_text(&arrays[SAVE_STEP], NULL);
        pg_array_add_text(&arrays[SAVE_ACTION], NULL);
        pg_array_add(&arrays[SAVE_ATTEMPT], NULL, 0);
        pg_array_add_text(&arrays[SAVE_STEP_STATE], NULL);
        return;
    }
    pg_array_add_text(&arrays[SAVE_STEP], definition->steps[outcome->step].name);
    pg_array_add_text(&arrays[SAVE_ACTION], action_name(outcome->undo));
    pg_array_add_int4(&arrays[SAVE_ATTEMPT], outcome->attempt);
    pg_array_add_text(&arrays[SAVE_STEP_STATE],
                      step_state_name(change->instance->steps[outcome->step].state));
}

static int
add_commands(struct save *save, const struct definition *definition,
             const struct store_change *change, struct saga_error *err)
{
    struct pg_array *arrays = save->arrays;

    for (size_t i = 0; i < change->instance->n_steps; i++) {
        const struct step_now *step = &change->instance->steps[i];
        struct saga_uuid message_id;
        int rc;

        if ((change->outcome->send & (1U << i)) == 0)
            continue;
        if ((rc = saga_uuid_make(&message_id, err)) != 0)
            return rc;
        pg_array_add(&arrays[COMMAND_SAGA_ID], change->id->bytes, sizeof change->id->bytes);
        pg_array_add(&arrays[COMMAND_MESSAGE_ID], message_id.bytes, sizeof message_id.bytes);
        pg_array_add_text(&arrays[COMMAND_TOPIC], definition->steps[i].command_topic);
        pg_array_add_text(&arrays[COMMAND_STEP], definition->steps[i].name);
        pg_array_add_text(&arrays[COMMAND_ACTION], action_name(step->state == STEP_COMPENSATING));
        pg_array_add_int4(&arrays[COMMAND_ATTEMPT], step->attempt);
    }
    return 0;
}

static int
add_change(struct save *save, const struct definition *definition,
           const struct store_change *change, struct saga_error *err)
{
    const struct instance *instance = change->instance;
    struct pg_array *arrays = save->arrays;

    pg_array_add(&arrays[SAVE_ID], change->id->bytes, sizeof change->id->bytes);
    pg_array_add_int8(&arrays[SAVE_VERSION], change->version);
    pg_array_add_text(&arrays[SAVE_STATE], instance_state_name(instance->state));
    pg_array_add_text(&arrays[SAVE_REASON], instance->reason[0] != '\0' ? instance->reason : NULL);
    add_steps(save, instance);
    add_time(&arrays[SAVE_DUE], instance->due_us);
    add_time(&arrays[SAVE_UNDO_DEADLINE], instance->undo_deadline_us);
    pg_array_add_int4(&arrays[SAVE_OVERDUE], instance->overdue);
    pg_array_add_int4(&arrays[SAVE_ALARM], change->outcome->alarm);
    pg_array_add(&arrays[SAVE_PATCH], change->patch.data, change->patch.len);
    pg_array_add_int8(&arrays[SAVE_HOLD_MS], change->hold_ms);
    pg_array_add_int4(&arrays[SAVE_REQUEST_DONE], change->request_done);
    add_event(save, definition, change);
    return add_commands(save, definition, change, err);
}

/* --- all of them -------------------------------------------------------------------- */

static int
save_init(struct save *save, const struct definition *definition,
          const struct store_change *changes, size_t n, struct saga_error *err)
{
    for (int i = 0; i < N_ARRAYS; i++)
        pg_array_init(&save->arrays[i], types[i] != 0 ? types[i] : PG_OID_TEXT_ARRAY);
    for (size_t i = 0; i < n; i++) {
        int rc = add_change(save, definition, &changes[i], err);

        if (rc != 0)
            return rc;
    }
    for (int i = 0; i < N_ARRAYS; i++) {
        if (save->arrays[i].bytes.failed)
            return error_set(err, SAGA_ENOMEM, "out of memory");
        save->args[i] = PG_ARRAY(&save->arrays[i]);
    }
    save->args[N_ARRAYS] = PG_TEXT(definition->name);
    save->args[N_ARRAYS + 1] = PG_TEXT(definition->reply_topic);
    return 0;
}

static void
save_clear(struct save *save)
{
    for (int i = 0; i < N_ARRAYS; i++)
        pg_array_clear(&save->arrays[i]);
}

static int
fenced(int rc, struct saga_error *err)
{
    char said[sizeof err->message];

    if (rc != SAGA_EDB || strcmp(err->sqlstate, "SG001") != 0)
        return rc;
    memcpy(said, err->message, sizeof said);
    error_set(err, SAGA_EFENCED, "%s", said);
    return error_flag(err, SAGA_EFENCED, SAGA_ERR_TX_ABORTED);
}

int
store_save(struct pg *pg, const struct definition *definition, const struct store_change *changes,
           size_t n, struct saga_error *err)
{
    struct saga_error own;
    struct save save;
    int rc;

    if (err == NULL)
        err = &own;
    rc = save_init(&save, definition, changes, n, err);
    if (rc == 0)
        rc = fenced(pg_exec(pg, SQL_SAVE, save.args, N_ARGS, NULL, err), err);
    save_clear(&save);
    return rc;
}

int
store_save_and_commit(struct pg *pg, const struct definition *definition,
                      const struct store_change *change, int32_t lease_ms,
                      struct store_batch *again, struct saga_error *err)
{
    struct pg_rows rows = PG_ROWS_INIT;
    const struct pg_arg lease_args[] = { PG_INT4(lease_ms) };
    const struct pg_arg again_args[] = { PG_TEXT(definition->name), PG_TEXT(definition->digest),
                                         PG_UUID(change->id), PG_INT8(change->version + 1) };
    struct saga_error own;
    struct save save;
    int rc;

    if (err == NULL)
        err = &own;
    rc = save_init(&save, definition, change, 1, err);
    if (rc == 0) {
        const struct pg_statement statements[] = {
            { .sql = SQL_SAVE, .args = save.args, .n_args = N_ARGS },
            { .sql = "COMMIT" },
            { .sql = SQL_BEGIN },
            { .sql = SQL_LEASE, .args = lease_args, .n_args = 1 },
            { .sql = SQL_TAKE_AGAIN, .args = again_args, .n_args = 4, .rows = &rows },
        };

        CRASH_POINT("store.before_save");
        rc = fenced(pg_batch(pg, statements, again != NULL ? 5 : 2, err), err);
        CRASH_POINT("store.after_commit");
    }
    save_clear(&save);
    if (rc == 0 && again != NULL)
        return store_batch_read(again, definition, &rows, err);
    pg_rows_clear(&rows);
    return rc;
}
