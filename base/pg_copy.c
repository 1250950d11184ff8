/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading many rows by binary COPY.
 */
#include "base/clock.h"
#include "base/pg.h"
#include "base/pg_error.h"
#include "base/pg_io.h"

#include <poll.h>
#include <string.h>

/* What stands before the first row: signature, flags, length of an extension. */
static const char signature[] = "PGCOPY\n\377\r\n";
enum { HEADER_LEN = sizeof signature + 8 };

static const char canceled[] = "57014";

int
pg_copy_send(struct pg *pg, const char *sql, struct saga_error *err)
{
    int rc = pg_io_usable(pg, NULL, 0, err);

    if (rc != 0)
        return rc;
    PQsetnonblocking(pg->conn, 1);
    if (!PQsendQuery(pg->conn, sql) || PQflush(pg->conn) < 0)
        return pg_error_lost(pg, err);
    return 0;
}

void
pg_copy_free(uint8_t *row)
{
    PQfreemem(row);
}

/* Whether `data` holds a row, and not the end. The header comes in one message
 * with the first row; it is cut off, so that the row begins where it is freed. */
static bool
is_row(char *data, size_t *len)
{
    if (*len >= HEADER_LEN && memcmp(data, signature, sizeof signature) == 0) {
        *len -= HEADER_LEN;
        memmove(data, data + HEADER_LEN, *len);
    }
    return *len > 2; /* the end is a number of columns alone, -1 */
}

struct taking {
    pg_copy_take *take;
    void *user;
    bool enough;
};

/* Takes in the rows of one COPY. */
static int
take_rows(PGconn *conn, struct taking *taking, int64_t deadline)
{
    bool idle = true; /* nothing has come since the socket was looked at */
    char *data;
    int got;

    while ((got = PQgetCopyData(conn, &data, 1)) >= 0) {
        size_t len = (size_t)got;

        if (got == 0) {
            if (idle && !pg_io_wait(conn, POLLIN, deadline))
                return SAGA_ETIMEOUT;
            if (!PQconsumeInput(conn))
                return 0; /* what the server said last is still to be read */
            idle = true;
            continue;
        }
        idle = false;
        if (!is_row(data, &len) || taking->enough) {
            PQfreemem(data);
        } else if (!taking->take(taking->user, (uint8_t *)data, len)) {
            PQfreemem(data);
            taking->enough = true;
            pg_io_cancel(conn);
        }
    }
    return 0;
}

/* What is left of a COPY cannot be skipped without reading it. */
static int
too_slow(struct pg *pg, struct saga_error *err)
{
    error_set(err, SAGA_ETIMEOUT, "no answer from PostgreSQL within %d ms", pg->timeout_ms);
    pg_io_cancel(pg->conn);
    if (!pg->borrowed)
        pg_disconnect(pg);
    return error_flag(err, SAGA_ETIMEOUT, SAGA_ERR_RETRIABLE | SAGA_ERR_FATAL);
}

int
pg_copy_receive(struct pg *pg, pg_copy_take *take, void *user, struct saga_error *err)
{
    struct taking taking = { .take = take, .user = user };
    int64_t deadline = pg_io_deadline(pg);
    PGresult *result = NULL;
    bool any = false;
    int rc = pg_io_flush(pg->conn, deadline), failed = 0;

    while (rc != SAGA_ETIMEOUT && (rc = pg_io_result(pg->conn, deadline, &result)) == 0 &&
           result != NULL) {
        ExecStatusType status = PQresultStatus(result);
        const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);

        any = true;
        if (status == PGRES_COPY_OUT)
            rc = take_rows(pg->conn, &taking, deadline);
        else if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK && failed == 0 &&
                 !(taking.enough && sqlstate != NULL && strcmp(sqlstate, canceled) == 0))
            failed = pg_error_of(pg, result, false, err);
        PQclear(result);
        result = NULL;
        if (pg->conn == NULL)
            return failed;
    }
    if (rc == SAGA_ETIMEOUT)
        return too_slow(pg, err);
    return failed == 0 && (!any || !pg_connected(pg)) ? pg_error_lost(pg, err) : failed;
}
