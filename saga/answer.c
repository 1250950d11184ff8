/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answering a command that waits, from any process of the participant. The
 * rules are those of the SQL function idempotency.reply(), so that they are the
 * same from every language.
 */
#include "base/crash.h"
#include "base/pg.h"
#include "base/utf8.h"
#include "saga/command_sql.h"
#include "saga/values.h"
#include "saga/wire.h"

#include <stdio.h>
#include <string.h>

struct answer {
    const char *outcome;
    char reason[SAGA_REASON_MAX + 1];
    struct pg_array names, texts;
};

static int
take_outcome(struct answer *answer, int outcome, const char *reason, struct saga_error *err)
{
    if (outcome != SAGA_DONE && outcome != SAGA_REFUSED)
        return error_set(err, SAGA_EINVAL, "the outcome is neither SAGA_DONE nor SAGA_REFUSED");
    answer->outcome = outcome == SAGA_DONE ? WIRE_DONE : WIRE_REFUSED;
    snprintf(answer->reason, sizeof answer->reason, "%s", reason != NULL ? reason : "");
    utf8_repair(answer->reason);
    utf8_trim(answer->reason);
    if (outcome == SAGA_REFUSED && answer->reason[0] == '\0')
        return error_set(err, SAGA_EINVAL,
                         "SAGA_REFUSED needs a reason: the saga is undone because of it, and tells "
                         "it to whoever asks why");
    return 0;
}

static int
check_call(PGconn *tx, const char *token, struct saga_error *err)
{
    error_clear(err);
    if (tx == NULL || token == NULL)
        return error_set(err, SAGA_EINVAL, "`%s` is NULL", tx == NULL ? "tx" : "token");
    if (!utf8_valid(token, strlen(token)))
        return error_set(err, SAGA_EINVAL, "the token is not UTF-8");
    return pg_check_tx(tx, err);
}

int
saga_reply(PGconn *tx, const char *token, int outcome, const char *reason,
           const struct saga_pair *values, struct saga_error *err)
{
    struct pg pg = pg_borrow(tx);
    struct answer answer = { 0 };
    struct saga_error own;
    int rc;

    if (err == NULL)
        err = &own;
    if ((rc = check_call(tx, token, err)) != 0 ||
        (rc = take_outcome(&answer, outcome, reason, err)) != 0)
        return rc;
    pg_array_init(&answer.names, PG_OID_TEXT_ARRAY);
    pg_array_init(&answer.texts, PG_OID_TEXT_ARRAY);
    CRASH_POINT("answer.before_reply");
    rc = values_take(&answer.names, &answer.texts, values, err);
    if (rc == 0)
        rc = values_raised(
            pg_exec(&pg, SQL_REPLY_LATER,
                    PG_ARGS(PG_TEXT(token), PG_TEXT(answer.outcome), PG_TEXT(answer.reason),
                            PG_ARRAY(&answer.names), PG_ARRAY(&answer.texts)),
                    NULL, err),
            err);
    CRASH_POINT("answer.after_reply");
    pg_array_clear(&answer.names);
    pg_array_clear(&answer.texts);
    return rc;
}
