/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening a connection, and why it could not be opened.
 */
#include "base/clock.h"
#include "base/pg.h"
#include "base/pg_error.h"

#include <stdio.h>
#include <string.h>

enum { CONNECT_MS = 10000, QUICK_MS = 1000 };

int
pg_check_conninfo(const char *conninfo, struct saga_error *err)
{
    PQconninfoOption *options = PQconninfoParse(conninfo != NULL ? conninfo : "", NULL);

    if (options == NULL)
        return error_set(err, SAGA_EINVAL,
                         "libpq cannot read conninfo: neither a URI nor a list of name=value of "
                         "options that it knows (what it says may quote a password)");
    PQconninfoFree(options);
    return 0;
}

static void
log_notice(void *user, const PGresult *result)
{
    struct pg *pg = user;
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);

    bool warning = severity != NULL && strcmp(severity, "WARNING") == 0;

    pg->warnings += warning;
    log_event(pg->log, warning ? SAGA_LOG_WARNING : SAGA_LOG_DEBUG, "notice from PostgreSQL",
              LOG_TEXT("notice", message));
}

static PGconn *
open_once(const struct pg *pg)
{
    /* First the timeouts, so that the conninfo may say others. A host that is gone
     * is noticed within half a minute, also while a user's function waits for it. */
    const char *const names[] = { "connect_timeout",
                                  "tcp_user_timeout",
                                  "keepalives_idle",
                                  "dbname",
                                  "fallback_application_name",
                                  "client_encoding",
                                  NULL };
    char seconds[16];
    const char *const values[] = { seconds,         "30000", "15", pg->conninfo,
                                   pg->application, "UTF8",  NULL };

    /* Blocking: only so does libpq go on to the next host when one is silent. */
    snprintf(seconds, sizeof seconds, "%d",
             ((pg->timeout_ms > 0 ? pg->timeout_ms : CONNECT_MS) - 1) / 1000 + 1);
    return PQconnectdbParams(names, values, 1);
}

static bool
names_several_hosts(PGconn *conn)
{
    PQconninfoOption *options = PQconninfo(conn);
    bool several = options == NULL;

    for (PQconninfoOption *option = options; option != NULL && option->keyword != NULL; option++)
        several |= strncmp(option->keyword, "host", 4) == 0 && option->val != NULL &&
                   strchr(option->val, ',') != NULL;
    PQconninfoFree(options);
    return several;
}

/*
 * libpq has no function for the SQLSTATE of a connection that was refused, but puts
 * it at the line's end ("...failed: FATAL:  28P01") where it was told to, and to be
 * told something there must be a connection. Hence the second attempt, which might
 * even succeed; not after a server that is silent.
 *
 * Of several hosts only the first may speak: when another one refuses us, the first
 * could not be reached, and may come back.
 */
static void
try_again_for_sqlstate(struct pg *pg, struct saga_error *err)
{
    const char *line, *end;

    PQsetErrorVerbosity(pg->conn, PQERRORS_SQLSTATE);
    PQreset(pg->conn);
    PQsetErrorVerbosity(pg->conn, PQERRORS_DEFAULT);
    if (PQconnectionNeedsPassword(pg->conn))
        snprintf(err->sqlstate, sizeof err->sqlstate, "28P01");
    for (line = PQerrorMessage(pg->conn); (end = strchr(line, '\n')) != NULL; line = end + 1) {
        if (end - line > 8 && strncmp(end - 8, ":  ", 3) == 0 &&
            strspn(end - 5, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5)
            snprintf(err->sqlstate, sizeof err->sqlstate, "%.5s", end - 5);
        if (err->sqlstate[0] != '\0' || names_several_hosts(pg->conn))
            break;
    }
}

int
pg_connect(struct pg *pg, struct saga_error *err)
{
    int64_t from = clock_mono_ms();
    struct saga_error why;

    error_clear(err);
    if (pg_connected(pg))
        return 0;
    pg_disconnect(pg);
    pg->conn = open_once(pg);
    if (pg->conn == NULL)
        return error_set(err, SAGA_ENOMEM, "out of memory");
    error_set(&why, SAGA_EDB, "%s", PQerrorMessage(pg->conn));
    if (PQstatus(pg->conn) != CONNECTION_OK && clock_mono_ms() - from < QUICK_MS)
        try_again_for_sqlstate(pg, &why);
    if (PQstatus(pg->conn) != CONNECTION_OK || PQsetnonblocking(pg->conn, 1) != 0) {
        pg_disconnect(pg);
        error_flag(&why, SAGA_EDB, SAGA_ERR_FATAL);
        if (!pg_error_lasts(&why))
            error_flag(&why, SAGA_EDB, SAGA_ERR_RETRIABLE);
        if (err != NULL)
            *err = why;
        return SAGA_EDB;
    }
    PQsetNoticeReceiver(pg->conn, log_notice, pg);
    return 0;
}
