/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What PostgreSQL answered, as our codes and flags.
 *
 * Every field of a PGresult may be NULL, and an error that libpq makes by
 * itself has no SQLSTATE; both mean that the server did not say it.
 */
#include "base/pg_error.h"

#include <string.h>

static bool
one_of(const char *sqlstate, const char *const *list)
{
    for (; *list != NULL; list++)
        if (strncmp(sqlstate, *list, strlen(*list)) == 0)
            return true;
    return false;
}

/* Codes, or the beginnings of codes (PostgreSQL documentation, appendix A). */
static const char *const retriable[] = { "08",    /* connection */
                                         "40",    /* rolled back: serialization failure, deadlock */
                                         "53",    /* resources: disk full, too many connections */
                                         "55P03", /* a lock is not available */
                                         "57014", /* cancelled */
                                         "57P0",  /* shut down, crashed, starting up */
                                         "25P03", /* idle in a transaction for too long */
                                         "25006", /* read only: the node is, or was, a standby */
                                         NULL };
static const char *const schema_missing[] = { "42P01", /* no such table */
                                              "42703", /* no such column */
                                              "42883", /* no such function */
                                              "3F000", /* no such schema */
                                              NULL };
static const char *const lasting[] = { "28",    /* no such role, wrong password, pg_hba.conf */
                                       "3D000", /* no such database */
                                       "42501", /* no right to it */
                                       NULL };
static const char *const ends_session[] = { "08", "57P0", "25P03", NULL };

bool
pg_error_overslept(const struct saga_error *error)
{
    return strcmp(error->sqlstate, "25P03") == 0;
}

bool
pg_error_lasts(const struct saga_error *error)
{
    return error->code == SAGA_EDB && one_of(error->sqlstate, lasting);
}

int
pg_error_lost(struct pg *pg, struct saga_error *err)
{
    const char *said = pg->conn != NULL ? PQerrorMessage(pg->conn) : "not connected";

    error_set(err, SAGA_EDB, "connection to PostgreSQL lost: %s",
              said != NULL && *said != '\0' ? said : "no answer");
    error_flag(err, SAGA_EDB, SAGA_ERR_FATAL | SAGA_ERR_RETRIABLE);
    if (!pg->borrowed)
        pg_disconnect(pg);
    return SAGA_EDB;
}

/* The innermost function of a context: "PL/pgSQL function outbox.enqueue(text,...", in whatever
 * language. What is quoted there is none of ours. */
static const char *
function_in(const char *where)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyz0123456789_.";
    size_t at = strcspn(where, "(\n");

    while (at > 0 && strchr(plain, where[at - 1]) != NULL)
        at--;
    return where + at;
}

/* Of a RAISE in one of our own functions: what to do about it. Others' hints may be about
 * anything, and PostgreSQL's are about the SQL, which nobody who reads this has written. */
static const char *
own_hint(const PGresult *result)
{
    static const char *const schemas[] = { "idempotency.", "outbox.", "saga.", NULL };
    const char *raised_by = PQresultErrorField(result, PG_DIAG_SOURCE_FUNCTION);
    const char *where = PQresultErrorField(result, PG_DIAG_CONTEXT);

    if (raised_by == NULL || strcmp(raised_by, "exec_stmt_raise") != 0 || where == NULL ||
        !one_of(function_in(where), schemas))
        return NULL;
    return PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);
}

/* Whole, where there is room behind the message, or not at all. */
static void
add_hint(struct saga_error *err, const char *hint)
{
    size_t used = err != NULL ? strlen(err->message) : 0, len = hint != NULL ? strlen(hint) : 0;

    if (used == 0 || len == 0 || used + 2 + len >= sizeof err->message)
        return;
    memcpy(err->message + used, ". ", 2);
    memcpy(err->message + used + 2, hint, len + 1);
}

int
pg_error_of(struct pg *pg, const PGresult *result, bool foreign, struct saga_error *err)
{
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    int code = SAGA_EDB;

    if (PQstatus(pg->conn) == CONNECTION_BAD && sqlstate == NULL)
        return pg_error_lost(pg, err);
    if (sqlstate == NULL) {
        error_set(err, SAGA_EDB, "%s", message != NULL ? message : PQerrorMessage(pg->conn));
    } else if (!foreign && one_of(sqlstate, schema_missing)) {
        code = SAGA_ESCHEMA;
        error_set(err, code, "%s; run \"sagactl migrate up\"", message != NULL ? message : "?");
    } else if (!foreign && strcmp(sqlstate, "42501") == 0) {
        error_set(err, code, "%s; this login needs %s", message,
                  pg->role != NULL ? pg->role : "another role");
    } else {
        /* Not its DETAIL: that shows rows, and errors end up in logs. */
        error_set(err, code, "%s", message != NULL ? message : "the server refused");
        add_hint(err, own_hint(result));
    }
    if (sqlstate != NULL && err != NULL)
        strncpy(err->sqlstate, sqlstate, sizeof err->sqlstate - 1);
    if (sqlstate != NULL && one_of(sqlstate, retriable))
        error_flag(err, code, SAGA_ERR_RETRIABLE);
    if (PQtransactionStatus(pg->conn) == PQTRANS_INERROR ||
        PQpipelineStatus(pg->conn) != PQ_PIPELINE_OFF)
        error_flag(err, code, SAGA_ERR_TX_ABORTED);
    if (sqlstate != NULL && one_of(sqlstate, ends_session)) {
        error_flag(err, code, SAGA_ERR_FATAL);
        if (!pg->borrowed)
            pg_disconnect(pg);
    }
    return code;
}

static int
unknown(struct saga_error *err, const char *why)
{
    error_set(err, SAGA_EUNKNOWN,
              "COMMIT was sent and no answer came (%s): it may be committed or not; reconnect and "
              "look",
              why != NULL && *why != '\0' ? why : "connection lost");
    return error_flag(err, SAGA_EUNKNOWN, SAGA_ERR_UNKNOWN | SAGA_ERR_FATAL);
}

int
pg_commit_outcome(struct pg *pg, const PGresult *result, struct saga_error *err)
{
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);

    if (PQresultStatus(result) == PGRES_COMMAND_OK) {
        /* A failed transaction "succeeds" with the tag ROLLBACK. */
        if (strcmp(PQcmdStatus((PGresult *)result), "COMMIT") == 0)
            return 0;
        error_set(err, SAGA_EDB, "the transaction had failed before COMMIT and was rolled back");
        return error_flag(err, SAGA_EDB, SAGA_ERR_RETRIABLE);
    }
    /* The session's end may come after the commit record was written and
     * before the client is told: then an SQLSTATE says nothing about it. */
    if (sqlstate == NULL || one_of(sqlstate, ends_session)) {
        unknown(err, pg->conn != NULL ? PQerrorMessage(pg->conn) : NULL);
        if (!pg->borrowed)
            pg_disconnect(pg);
        return SAGA_EUNKNOWN;
    }
    return pg_error_of(pg, result, true, err);
}
