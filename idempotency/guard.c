/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guard of requests, on users' connections: two calls of SQL functions,
 * which hold the rule (migrations/0026_guard.up.sql).
 */
#include "base/pg.h"

#include <saga/inbox.h>
#include <stdlib.h>
#include <string.h>

/* The functions' rows: verdict, status, response. */
#define SQL_GUARD_ENTER  "SELECT verdict, status, response FROM idempotency.enter($1, $2, $3, $4)"
#define SQL_GUARD_ANSWER "SELECT idempotency.answer($1, $2, $3, $4)"

enum { WAIT_MS = 5000 };

static int
refuse_length(const char *what, const char *text, struct saga_error *err)
{
    return error_set(err, SAGA_ELIMIT,
                     "the %s has %zu bytes, and at most %d are allowed: refuse the request, or "
                     "enter a hash of the %s in its place",
                     what, strlen(text), SAGA_GUARD_NAME_MAX, what);
}

static int
check_arguments(PGconn *tx, const struct saga_guard *guard, struct saga_error *err)
{
    error_clear(err);
    if (tx == NULL || guard == NULL)
        return error_set(err, SAGA_EINVAL, "`%s` is NULL", tx == NULL ? "tx" : "guard");
    if (guard->scope == NULL || *guard->scope == '\0')
        return error_set(err, SAGA_EINVAL, "no scope: say what the key belongs to");
    if (guard->key == NULL || *guard->key == '\0')
        return error_set(err, SAGA_EINVAL, "no key");
    if (strlen(guard->scope) > SAGA_GUARD_NAME_MAX)
        return refuse_length("scope", guard->scope, err);
    if (strlen(guard->key) > SAGA_GUARD_NAME_MAX)
        return refuse_length("key", guard->key, err);
    return pg_check_tx(tx, err);
}

static int
read_verdict(const struct pg_rows *rows, int32_t *verdict, struct saga_error *err)
{
    static const char *const texts[] = { [SAGA_GUARD_FRESH] = "fresh",
                                         [SAGA_GUARD_ANSWERED] = "answered",
                                         [SAGA_GUARD_OTHER] = "other",
                                         [SAGA_GUARD_BUSY] = "busy" };

    for (int32_t i = 0; i < (int32_t)(sizeof texts / sizeof *texts); i++) {
        if (rows->n == 1 && strcmp(pg_text(rows, 0, 0), texts[i]) == 0) {
            *verdict = i;
            return 0;
        }
    }
    return error_set(err, SAGA_ESCHEMA,
                     "idempotency.enter() gives an answer that this version "
                     "does not know");
}

static int
copy_response(const struct pg_rows *rows, struct saga_response *response, struct saga_error *err)
{
    struct saga_bytes body = pg_bytes(rows, 0, 2);
    char *copy = NULL;

    if (!pg_is_null(rows, 0, 2)) {
        copy = malloc(body.len + 1);
        if (copy == NULL)
            return error_set(err, SAGA_ENOMEM, "out of memory");
        memcpy(copy, body.data, body.len);
        copy[body.len] = '\0';
    }
    *response = (struct saga_response){ .status = (int32_t)pg_int(rows, 0, 1),
                                        .body = { copy, copy != NULL ? body.len : 0 } };
    return 0;
}

int
saga_guard_enter(PGconn *tx, const struct saga_guard *guard, int32_t *verdict,
                 struct saga_response *stored, struct saga_error *err)
{
    static const struct saga_bytes none = { "", 0 };
    struct pg pg = pg_borrow(tx);
    struct pg_rows rows = PG_ROWS_INIT;
    int32_t found = 0;
    int rc = check_arguments(tx, guard, err);

    if (rc == 0 && (verdict == NULL || stored == NULL))
        rc = error_set(err, SAGA_EINVAL, "`verdict` or `stored` is NULL");
    if (rc == 0)
        rc = pg_exec(&pg, SQL_GUARD_ENTER,
                     PG_ARGS(PG_TEXT(guard->scope), PG_TEXT(guard->key),
                             PG_BYTEA(guard->fingerprint.data != NULL ? guard->fingerprint : none),
                             PG_INT4(guard->wait_ms > 0 ? guard->wait_ms : WAIT_MS)),
                     &rows, err);
    if (rc == 0)
        rc = read_verdict(&rows, &found, err);
    if (rc == 0)
        rc = copy_response(&rows, stored, err);
    if (rc == 0)
        *verdict = found;
    pg_rows_clear(&rows);
    return rc;
}

int
saga_guard_answer(PGconn *tx, const struct saga_guard *guard, const struct saga_response *response,
                  struct saga_error *err)
{
    struct pg pg = pg_borrow(tx);
    int rc = check_arguments(tx, guard, err);

    if (rc == 0 && response == NULL)
        rc = error_set(err, SAGA_EINVAL, "`response` is NULL");
    if (rc == 0)
        rc = pg_exec(&pg, SQL_GUARD_ANSWER,
                     PG_ARGS(PG_TEXT(guard->scope), PG_TEXT(guard->key), PG_INT4(response->status),
                             PG_BYTEA(response->body)),
                     NULL, err);
    return rc;
}
