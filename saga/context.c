/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a step function holds while it works.
 */
#include "saga/context.h"

#include "base/utf8.h"
#include "saga/definition.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PARAMS_MAX = 32 };

void
context_init(struct saga_ctx *ctx, struct pg *pg, const struct saga_uuid *saga_id, int32_t attempt)
{
    *ctx = (struct saga_ctx){ .pg = pg, .attempt = attempt };
    saga_uuid_text(saga_id, ctx->id);
}

void
context_clear(struct saga_ctx *ctx)
{
    for (size_t i = 0; i < ctx->n_values; i++) {
        free(ctx->values[i].name);
        free(ctx->values[i].value);
    }
    free(ctx->values);
    ctx->values = NULL;
    ctx->n_values = 0;
}

/* --- values ------------------------------------------------------------------ */

static struct context_value *
find(const struct saga_ctx *ctx, const char *name)
{
    for (size_t i = 0; i < ctx->n_values; i++)
        if (strcmp(ctx->values[i].name, name) == 0)
            return &ctx->values[i];
    return NULL;
}

/* Takes over both texts, also when it fails. */
static int
add(struct saga_ctx *ctx, char *name, char *value, bool changed)
{
    struct context_value *grown = NULL;

    if (name != NULL && value != NULL)
        grown = realloc(ctx->values, (ctx->n_values + 1) * sizeof *grown);
    if (grown == NULL) {
        free(name);
        free(value);
        return SAGA_ENOMEM;
    }
    ctx->values = grown;
    ctx->values[ctx->n_values++] = (struct context_value){ name, value, changed };
    return 0;
}

int
context_take(struct saga_ctx *ctx, struct saga_bytes texts, struct saga_error *err)
{
    struct pg_elements walk = pg_elements_of(texts);
    struct saga_bytes name, value;

    while (pg_elements_next(&walk, &name) && pg_elements_next(&walk, &value)) {
        if (value.data == NULL)
            continue;
        if (add(ctx, strndup(name.data, name.len), strndup(value.data, value.len), false) != 0)
            return error_set(err, SAGA_ENOMEM, "out of memory");
    }
    return 0;
}

const char *
saga_get(struct saga_ctx *ctx, const char *name)
{
    const struct context_value *value = name != NULL ? find(ctx, name) : NULL;

    return value != NULL ? value->value : NULL;
}

/* What PostgreSQL makes of it between the quotes of JSON. */
static size_t
json_size(const char *text)
{
    size_t size = 0;

    for (; *text != '\0'; text++) {
        if (strchr("\"\\\b\f\n\r\t", *text) != NULL)
            size += 2;
        else
            size += (unsigned char)*text < 0x20 ? 6 : 1;
    }
    return size;
}

static size_t
size_with(const struct saga_ctx *ctx, const char *name, const char *value)
{
    enum { AROUND = 8 }; /* "": "",  and once, instead of the last comma, {} */
    size_t size = json_size(name) + json_size(value) + AROUND;

    for (size_t i = 0; i < ctx->n_values; i++)
        if (strcmp(ctx->values[i].name, name) != 0)
            size += json_size(ctx->values[i].name) + json_size(ctx->values[i].value) + AROUND;
    return size;
}

/* The answer that is known so far, unless a graver one is. */
static int
note(struct saga_ctx *ctx, int answer, const char *reason)
{
    bool graver = ctx->answer >= 0 && (answer < 0 || answer > ctx->answer);

    if (graver) {
        ctx->answer = answer;
        snprintf(ctx->reason, sizeof ctx->reason, "%s", reason != NULL ? reason : "");
        utf8_repair(ctx->reason);
        utf8_trim(ctx->reason);
    }
    return answer;
}

int
saga_set(struct saga_ctx *ctx, const char *name, const char *value)
{
    struct context_value *old;
    char *copy;

    if (!definition_name_valid(name))
        return note(ctx, SAGA_EINVAL,
                    "saga_set: a name has 1 to 64 characters of A-Z a-z 0-9 . _ -");
    if (value == NULL || !utf8_valid(value, strlen(value)))
        return note(ctx, SAGA_EINVAL, "saga_set: the value is NULL or not UTF-8");
    if (size_with(ctx, name, value) > SAGA_VALUES_MAX)
        return note(ctx, SAGA_ELIMIT, "saga_set: the saga's values have no room for more");
    old = find(ctx, name);
    copy = strdup(value);
    if (old == NULL)
        return add(ctx, strdup(name), copy, true) == 0 ? 0
                                                       : note(ctx, SAGA_ENOMEM, "out of memory");
    if (copy == NULL)
        return note(ctx, SAGA_ENOMEM, "out of memory");
    free(old->value);
    old->value = copy;
    old->changed = true;
    return 0;
}

void
context_changes(const struct saga_ctx *ctx, struct pg_array *names, struct pg_array *values)
{
    for (size_t i = 0; i < ctx->n_values; i++) {
        if (ctx->values[i].changed) {
            pg_array_add_text(names, ctx->values[i].name);
            pg_array_add_text(values, ctx->values[i].value);
        }
    }
}

static void
add_json_text(struct buffer *json, const char *text)
{
    char escaped[8];

    buffer_add(json, "\"", 1);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            snprintf(escaped, sizeof escaped, "\\%c", *text);
        else if ((unsigned char)*text < 0x20)
            snprintf(escaped, sizeof escaped, "\\u%04x", (unsigned)*text);
        else
            snprintf(escaped, sizeof escaped, "%c", *text);
        buffer_add(json, escaped, strlen(escaped));
    }
    buffer_add(json, "\"", 1);
}

void
context_changes_json(const struct saga_ctx *ctx, struct buffer *json)
{
    for (size_t i = 0; i < ctx->n_values; i++) {
        if (!ctx->values[i].changed)
            continue;
        buffer_add(json, json->len == 0 ? "{" : ",", 1);
        add_json_text(json, ctx->values[i].name);
        buffer_add(json, ":", 1);
        add_json_text(json, ctx->values[i].value);
    }
    if (json->len > 0)
        buffer_add(json, "}", 1);
}

/* --- statements and answers ----------------------------------------------------- */

int
saga_exec(struct saga_ctx *ctx, const char *refusal, const char *sql, const char *const *params,
          size_t n)
{
    struct pg_arg args[PARAMS_MAX];
    struct pg_rows rows = PG_ROWS_INIT;
    struct pg_statement statement = {
        .sql = sql, .args = args, .n_args = (int)n, .rows = &rows, .foreign = true
    };
    struct saga_error err = { 0 };
    int64_t touched;
    int rc;

    if (sql == NULL || n > PARAMS_MAX || (params == NULL && n > 0))
        return note(ctx, SAGA_EINVAL, "saga_exec: no statement, or more than 32 parameters");
    for (size_t i = 0; i < n; i++)
        args[i] = pg_arg_untyped(params[i]);
    rc = pg_batch(ctx->pg, &statement, 1, &err);
    if (rc != 0)
        return note(ctx, pg_error_overslept(&err) ? SAGA_ETIMEOUT : rc, err.message);
    touched = rows.affected;
    pg_rows_clear(&rows);
    if (refusal != NULL && touched == 0)
        return note(ctx, SAGA_REFUSED, refusal);
    return 0;
}

PGconn *
saga_tx(struct saga_ctx *ctx)
{
    return ctx->pg->conn;
}

const char *
saga_id(const struct saga_ctx *ctx)
{
    return ctx->id;
}

int32_t
saga_attempt(const struct saga_ctx *ctx)
{
    return ctx->attempt;
}

const char *
saga_token(struct saga_ctx *ctx)
{
    ctx->token_taken = ctx->token != NULL;
    return ctx->token;
}

int
saga_refuse(struct saga_ctx *ctx, const char *reason)
{
    return note(ctx, SAGA_REFUSED, reason != NULL ? reason : "refused without a reason");
}

int
saga_retry_after(struct saga_ctx *ctx, int32_t ms, const char *reason)
{
    ctx->retry_ms = ms > 0 ? ms : 0;
    return note(ctx, SAGA_RETRY, reason);
}

static int
lost(const struct saga_ctx *ctx, struct saga_error *err)
{
    if (pg_connected(ctx->pg))
        return 0;
    error_set(err, SAGA_EDB, "the connection was lost inside a step");
    return error_flag(err, SAGA_EDB, SAGA_ERR_FATAL | SAGA_ERR_RETRIABLE);
}

int
context_run(struct saga_ctx *ctx, saga_step_fn *fn, void *user, struct saga_error *err)
{
    int answer = fn(ctx, user);

    error_clear(err);
    if (lost(ctx, err) != 0)
        return SAGA_EDB;
    if (answer > SAGA_REFUSED)
        note(ctx, SAGA_EINVAL, "the step function's answer is none of SAGA_DONE to SAGA_REFUSED");
    else if (answer < 0)
        note(ctx, answer, saga_error_text(answer));
    else
        note(ctx, answer, answer == SAGA_REFUSED ? "refused without a reason" : NULL);
    /* Failed, or ended by the function: then its rows are gone, or were
     * committed without the saga's. Neither is an answer. */
    if (ctx->answer >= 0 && PQtransactionStatus(ctx->pg->conn) != PQTRANS_INTRANS)
        note(ctx, SAGA_ESTATE,
             PQtransactionStatus(ctx->pg->conn) == PQTRANS_INERROR
                 ? "a statement of the step has failed"
                 : "the step function has ended the transaction");
    if (ctx->answer < 0)
        return error_set(err, ctx->answer, "%s", ctx->reason);
    return ctx->answer;
}
