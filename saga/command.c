/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A participant carries out one command: barrier, function, stored answer and
 * reply, all in the caller's transaction (docs/protocol.md).
 *
 * Owns the savepoint between what a refusal undoes and what it leaves. The
 * caller owns the transaction: any return but 0 means that it rolls back,
 * barrier and all, so that only final answers are ever stored.
 *
 * Two round trips beside the function's own: one to pass the barrier and to
 * take the values apart, one to store the answer and write the reply.
 */
#include "base/crash.h"
#include "idempotency/barrier.h"
#include "saga/command_sql.h"
#include "saga/context.h"
#include "saga/definition.h"
#include "saga/wire.h"

#include <string.h>

struct handling {
    struct pg *pg;
    struct wire_command command;
    struct barrier_key key;
    struct barrier barrier;
    struct pg_rows values;
    char token[SAGA_TOKEN_MAX + 1];
    saga_step_fn *function;
    struct saga_ctx ctx;
};

/* The function that the command asks for. Whether the answer is known already
 * does not matter: a table that has lost a step is a mistake either way. */
static int
find_function(struct handling *handling, const struct definition *commands, struct saga_error *err)
{
    const struct wire_command *command = &handling->command;
    int step = definition_find(commands, command->step);

    if (step < 0)
        return error_set(err, SAGA_EINVAL,
                         "no step '%.64s' among the commands of %s; has this service been deployed "
                         "before the orchestrator?",
                         command->step, commands->name);
    handling->function = command->action == BARRIER_RUN ? commands->steps[step].run
                                                        : commands->steps[step].compensate;
    if (handling->function == NULL)
        return error_set(err, SAGA_EINVAL, "step '%.64s' of %s has no function for %s",
                         command->step, commands->name,
                         command->action == BARRIER_RUN ? WIRE_RUN : WIRE_COMPENSATE);
    return 0;
}

static int
read_command(struct handling *handling, const char *consumer, const struct definition *commands,
             const struct saga_record *record, struct saga_error *err)
{
    struct wire_command *command = &handling->command;
    int rc = wire_read_command(command, record, err);

    if (rc == 0)
        rc = find_function(handling, commands, err);
    if (rc == 0 && record->payload.data == NULL)
        rc = error_set(err, SAGA_EINVAL, "the command has no payload; a JSON object is needed");
    if (rc != 0)
        return rc;
    handling->key = (struct barrier_key){ .consumer = consumer,
                                          .saga_id = command->saga_id,
                                          .step = command->step,
                                          .action = command->action,
                                          .message_id = record->id };
    return 0;
}

static int
pass_barrier(struct handling *handling, struct saga_bytes payload, bool duplicate,
             struct saga_error *err)
{
    const struct pg_arg json = { .type = PG_OID_TEXT, .data = payload.data, .len = payload.len };
    struct pg_statement statements[BARRIER_STATEMENTS + 2];
    struct saga_error error;
    size_t n = 1;
    int rc;

    statements[0] = (struct pg_statement){
        .sql = SQL_COMMAND_VALUES, .args = &json, .n_args = 1, .rows = &handling->values
    };
    if (duplicate)
        statements[n++] = (struct pg_statement){ .sql = SQL_COMMAND_SAVEPOINT };
    n += barrier_enter(&handling->barrier, &handling->key, &statements[n]);
    if (!duplicate)
        statements[n++] = (struct pg_statement){ .sql = SQL_COMMAND_SAVEPOINT };
    rc = pg_batch(handling->pg, statements, n, &error);
    if (rc != 0 && error.index == 0 && wire_payload_refused(&error))
        return error_set(err, SAGA_EINVAL, "the payload is not a JSON object: %s", error.message);
    if (rc != 0 && err != NULL)
        *err = error;
    return rc;
}

/* Stores the answer, unless it is the one that the row has from the start, and
 * writes the reply from the row. */
static int
answer(struct handling *handling, const char *savepoint, bool refused, const char *reason,
       struct saga_error *err)
{
    const struct wire_command *command = &handling->command;
    const struct pg_arg args[] = {
        PG_TEXT(handling->key.consumer),
        PG_UUID(&handling->key.saga_id),
        PG_TEXT(command->step),
        PG_TEXT(command->action == BARRIER_RUN ? WIRE_RUN : WIRE_COMPENSATE),
        PG_TEXT(command->reply_to),
        PG_TEXT(command->traceparent),
    };
    struct pg_statement statements[3];
    struct pg_array names, values;
    struct pg_rows sent = PG_ROWS_INIT;
    size_t n = 0;
    int rc;

    pg_array_init(&names, PG_OID_TEXT_ARRAY);
    pg_array_init(&values, PG_OID_TEXT_ARRAY);
    if (!refused)
        context_changes(&handling->ctx, &names, &values);
    if (savepoint != NULL)
        statements[n++] = (struct pg_statement){ .sql = savepoint };
    if (refused || reason != NULL || names.n > 0)
        statements[n++] = barrier_answer(&handling->barrier, refused, reason, &names, &values);
    statements[n++] =
        (struct pg_statement){ .sql = SQL_COMMAND_REPLY, .args = args, .n_args = 6, .rows = &sent };
    if (names.bytes.failed || values.bytes.failed)
        rc = error_set(err, SAGA_ENOMEM, "out of memory");
    else
        rc = pg_batch(handling->pg, statements, n, err);
    if (rc == 0 && sent.n != 1)
        rc = error_set(err, SAGA_ESTATE, "the answer of step '%.64s' is not in the barrier",
                       command->step);
    pg_rows_clear(&sent);
    pg_array_clear(&names);
    pg_array_clear(&values);
    return rc;
}

/* It is in hand, and whoever has the token will answer. Nothing is replied now. */
static int
accept(struct handling *handling, struct saga_error *err)
{
    const struct wire_command *command = &handling->command;
    struct pg_array names, values;
    struct pg_rows stored = PG_ROWS_INIT;
    int rc;

    pg_array_init(&names, PG_OID_TEXT_ARRAY);
    pg_array_init(&values, PG_OID_TEXT_ARRAY);
    context_changes(&handling->ctx, &names, &values);
    if (names.bytes.failed || values.bytes.failed) {
        rc = error_set(err, SAGA_ENOMEM, "out of memory");
    } else {
        struct pg_statement statements[] = {
            { .sql = SQL_COMMAND_KEEP },
            barrier_wait(&handling->barrier, command->reply_to, command->traceparent, &names,
                         &values),
        };

        statements[1].rows = &stored;
        rc = pg_batch(handling->pg, statements, 2, err);
    }
    if (rc == 0 && stored.affected != 1)
        rc = error_set(err, SAGA_ESTATE, "step '%.64s' is not in the barrier", command->step);
    pg_rows_clear(&stored);
    pg_array_clear(&names);
    pg_array_clear(&values);
    return rc;
}

/* No final answer: everything is rolled back by the caller, and comes again.
 * A code of its own, because what the function got wrong is no fault of the
 * record. */
static int
failed(const struct handling *handling, const char *what, struct saga_error *err)
{
    error_set(err, SAGA_ESTATE, "step '%.64s' %s%s%s", handling->command.step, what,
              *handling->ctx.reason != '\0' ? ": " : "", handling->ctx.reason);
    return error_flag(err, SAGA_ESTATE, SAGA_ERR_RETRIABLE);
}

static int
call_function(struct handling *handling, void *user, struct saga_error *err)
{
    bool undo = handling->command.action == BARRIER_COMPENSATE;
    int rc;

    context_init(&handling->ctx, handling->pg, &handling->command.saga_id,
                 handling->command.attempt);
    wire_token(handling->token, &handling->command, &handling->key.message_id,
               handling->key.consumer);
    handling->ctx.token = handling->token;
    rc = context_take(&handling->ctx, pg_bytes(&handling->values, 0, 0), err);
    if (rc == 0)
        rc = context_run(&handling->ctx, handling->function, user, err);
    CRASH_POINT("command.after_function");
    switch (rc) {
    case SAGA_DONE:
        return answer(handling, SQL_COMMAND_KEEP, false, NULL, err);
    case SAGA_REFUSED:
        /* Stored, it would be repeated for ever, and what the step did would
         * never be undone. */
        if (undo)
            return failed(handling, "refuses to be undone", err);
        return answer(handling, SQL_COMMAND_UNDO, true, handling->ctx.reason, err);
    case SAGA_WAIT:
        if (!handling->ctx.token_taken)
            return failed(handling, "answered SAGA_WAIT, and nobody has its token", err);
        return accept(handling, err);
    case SAGA_RETRY:
        failed(handling, "wants to be tried later", err);
        return SAGA_RETRY;
    default:
        return pg_connected(handling->pg) ? failed(handling, "failed", err) : rc;
    }
}

/* The inbox knows the command and the barrier does not. An operator has given it
 * up: it is left at that, and nobody is told; the orchestrator asks again if it
 * still wants to know. Or its answer was removed too early: to run it again would
 * do it twice. */
static int
not_again(struct handling *handling, struct saga_error *err)
{
    struct pg_rows discarded = PG_ROWS_INIT;
    const struct pg_arg args[] = { PG_TEXT(handling->key.consumer),
                                   PG_UUID(&handling->key.message_id) };
    const struct pg_statement statements[] = {
        { .sql = SQL_COMMAND_UNDO },
        { .sql = SQL_COMMAND_DISCARDED, .args = args, .n_args = 2, .rows = &discarded },
    };
    int rc = pg_batch(handling->pg, statements, 2, err);

    if (rc == 0 && !pg_bool(&discarded, 0, 0))
        rc = error_set(err, SAGA_EINVAL,
                       "this command was answered before, and the barrier has lost the answer");
    pg_rows_clear(&discarded);
    return rc;
}

static int
carry_out(struct handling *handling, bool duplicate, void *user, struct saga_error *err)
{
    int rc;

    switch (barrier_verdict(&handling->barrier)) {
    case BARRIER_ENTER:
        return duplicate ? not_again(handling, err) : call_function(handling, user, err);
    case BARRIER_WAITING:
        return 0;
    case BARRIER_NOTHING_TO_UNDO:
        return answer(handling, NULL, false, "nothing to undo", err);
    case BARRIER_UNKNOWN:
        rc = pg_batch(handling->pg,
                      (struct pg_statement[]){ barrier_forgotten(&handling->barrier) }, 1, err);
        return rc != 0 ? rc : answer(handling, NULL, false, NULL, err);
    default:
        return answer(handling, NULL, false, NULL, err);
    }
}

static int
check_call(PGconn *tx, const char *consumer, const struct saga_record *record,
           struct saga_error *err)
{
    error_clear(err);
    if (tx == NULL || record == NULL)
        return error_set(err, SAGA_EINVAL, "`%s` is NULL", tx == NULL ? "tx" : "record");
    if (consumer == NULL || *consumer == '\0')
        return error_set(err, SAGA_EINVAL, "`consumer` is missing");
    return pg_check_tx(tx, err);
}

int
saga_command_handle(PGconn *tx, const char *consumer, const struct saga_definition *commands,
                    const struct saga_record *record, int duplicate, void *user,
                    struct saga_error *err)
{
    struct pg pg = pg_borrow(tx);
    struct handling handling = { .pg = &pg };
    struct definition table;
    int rc = check_call(tx, consumer, record, err);

    if (rc == 0)
        rc = definition_read(&table, commands, DEFINITION_OF_COMMANDS, err);
    if (rc == 0)
        rc = read_command(&handling, consumer, &table, record, err);
    if (rc != 0)
        return rc;
    rc = pass_barrier(&handling, record->payload, duplicate != 0, err);
    CRASH_POINT("command.after_barrier");
    if (rc == 0)
        rc = carry_out(&handling, duplicate != 0, user, err);
    CRASH_POINT("command.after_reply");
    context_clear(&handling.ctx);
    pg_rows_clear(&handling.values);
    barrier_clear(&handling.barrier);
    return rc;
}
