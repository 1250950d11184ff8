/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sagactl list, show, why, retry, cancel and audit: looks at the tables, and
 * calls the SQL functions that are the operators' verbs. Decides nothing about a
 * saga: those functions and the workers do.
 */
#include "ops/ops.h"
#include "ops/output.h"
#include "ops/sql.h"

#include <stdio.h>
#include <string.h>

static int
finish(int rc, const struct saga_error *err)
{
    return rc == 0 ? EXIT_DONE : complain_error(err);
}

static bool
check_state(const char *state)
{
    static const char *const states[] = { "running", "compensating", "completed", "compensated",
                                          "parked" };

    for (size_t i = 0; i < sizeof states / sizeof *states; i++)
        if (state == NULL || strcmp(state, states[i]) == 0)
            return true;
    complain("--state must be running, compensating, completed, compensated or parked, not \"%s\"",
             state);
    return false;
}

int
saga_list(struct call *call)
{
    const struct options *options = &call->options;
    struct saga_error err = { 0 };
    int rc;

    if (!check_state(options->state))
        return EXIT_USAGE;
    rc = pg_connect(&call->pg, &err);
    if (rc == 0)
        rc = output_query(
            &call->pg, options->json, SQL_LIST,
            PG_ARGS(PG_TEXT(options->state), PG_TEXT(options->definition), PG_INT8(options->limit)),
            &err);
    return finish(rc, &err);
}

/* --- show ------------------------------------------------------------------ */

static int
find_saga(struct call *call, const char *word, struct saga_uuid *id, struct saga_error *err)
{
    struct pg_rows rows = PG_ROWS_INIT;
    bool is_id = saga_uuid_parse(id, word, NULL) == 0;
    int rc = pg_exec(
        &call->pg, SQL_FIND,
        PG_ARGS(PG_UUID(is_id ? id : NULL), PG_TEXT(word), PG_TEXT(call->options.definition)),
        &rows, err);

    if (rc == 0 && rows.n == 0)
        rc =
            error_set(err, SAGA_ENOTFOUND, "there is no saga with the id or business key %s", word);
    else if (rc == 0 && rows.n > 1)
        rc = error_set(err, SAGA_EINVAL,
                       "several sagas have the business key %s: add --definition, or give the id",
                       word);
    else if (rc == 0)
        *id = pg_uuid(&rows, 0, 0);
    pg_rows_clear(&rows);
    return rc;
}

static int
print_section(struct pg *pg, const char *title, const char *sql, const struct saga_uuid *id,
              struct saga_error *err)
{
    printf("\n%s\n", title);
    return output_query(pg, false, sql, PG_ARGS(PG_UUID(id)), err);
}

/* One snapshot for all parts, so that steps and history tell one story. */
static int
show(struct pg *pg, const struct saga_uuid *id, struct saga_error *err)
{
    int rc = pg_exec(pg, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", PG_NO_ARGS, NULL, err);

    if (rc == 0)
        rc = output_record(pg, false, SQL_INSTANCE, PG_ARGS(PG_UUID(id)), err);
    if (rc == 0)
        rc = print_section(pg, "STEPS", SQL_STEPS, id, err);
    if (rc == 0)
        rc = print_section(pg, "HISTORY", SQL_HISTORY, id, err);
    if (rc == 0)
        rc = print_section(pg, "OPERATORS", SQL_SAGA_AUDIT, id, err);
    pg_rollback(pg);
    return rc;
}

int
saga_show(struct call *call)
{
    struct saga_error err = { 0 };
    struct saga_uuid id;
    int rc = pg_connect(&call->pg, &err);

    if (rc == 0)
        rc = find_saga(call, call->words[0], &id, &err);
    if (rc == 0 && call->options.json)
        rc = output_json(&call->pg, SQL_SHOW_JSON, PG_ARGS(PG_UUID(&id)), &err);
    else if (rc == 0)
        rc = show(&call->pg, &id, &err);
    return finish(rc, &err);
}

int
saga_why(struct call *call)
{
    struct saga_error err = { 0 };
    struct saga_uuid id;
    int rc = pg_connect(&call->pg, &err);

    if (rc == 0)
        rc = find_saga(call, call->words[0], &id, &err);
    if (rc == 0)
        rc = output_record(&call->pg, call->options.json, SQL_WHY, PG_ARGS(PG_UUID(&id)), &err);
    return finish(rc, &err);
}

/* --- verbs that change something ------------------------------------------- */

static bool
read_id(struct saga_uuid *id, const char *word)
{
    if (saga_uuid_parse(id, word, NULL) == 0)
        return true;
    complain("\"%s\" is not the id of a saga; sagactl show finds it by the business key", word);
    return false;
}

static int
request(struct call *call, const char *verb, const char *sql)
{
    struct saga_error err = { 0 };
    struct pg_rows rows = PG_ROWS_INIT;
    struct saga_uuid id;
    int rc;

    if (!read_id(&id, call->words[0]))
        return EXIT_USAGE;
    rc = pg_connect(&call->pg, &err);
    if (rc == 0)
        rc = pg_exec(&call->pg, sql, PG_ARGS(PG_UUID(&id), PG_TEXT(call->options.reason)), &rows,
                     &err);
    if (rc == 0 && call->options.json)
        printf("%s\n", pg_text(&rows, 0, 0));
    else if (rc == 0)
        printf("%s is asked for; a worker carries it out (sagactl show %s)\n", verb,
               call->words[0]);
    pg_rows_clear(&rows);
    return rc == 0 ? EXIT_DONE : complain_refusal(&err);
}

int
saga_retry(struct call *call)
{
    return request(call, "retry", SQL_RETRY);
}

int
saga_cancel(struct call *call)
{
    return request(call, "cancel", SQL_CANCEL);
}

/* --- the rest -------------------------------------------------------------- */

int
saga_audit(struct call *call)
{
    struct saga_error err = { 0 };
    struct saga_uuid id;
    int rc;

    if (call->n_words > 0 && !read_id(&id, call->words[0]))
        return EXIT_USAGE;
    rc = pg_connect(&call->pg, &err);
    if (rc == 0)
        rc = output_query(
            &call->pg, call->options.json, SQL_AUDIT,
            PG_ARGS(PG_UUID(call->n_words > 0 ? &id : NULL), PG_INT8(call->options.limit)), &err);
    return finish(rc, &err);
}
