/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections and statements. Nothing here blocks without a deadline: libpq is
 * driven through its asynchronous half, and reads while it writes, so that two
 * full buffers never wait for each other.
 */
#include "base/pg.h"

#include "base/clock.h"
#include "base/pg_error.h"
#include "base/pg_io.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CANCEL_GRACE_MS = 2000, ARGS_MAX = 32 };

int
pg_init(struct pg *pg, const char *conninfo, const char *application, int32_t timeout_ms,
        const struct saga_log *log, struct saga_error *err)
{
    *pg = (struct pg){ .application = application, .timeout_ms = timeout_ms, .log = log };
    pg->conninfo = strdup(conninfo != NULL ? conninfo : "");
    if (pg->conninfo == NULL)
        return error_set(err, SAGA_ENOMEM, "out of memory");
    return 0;
}

void
pg_clear(struct pg *pg)
{
    pg_disconnect(pg);
    free(pg->conninfo);
    pg->conninfo = NULL;
}

void
pg_disconnect(struct pg *pg)
{
    PQfinish(pg->conn);
    pg->conn = NULL;
}

bool
pg_connected(const struct pg *pg)
{
    return pg->conn != NULL && PQstatus(pg->conn) == CONNECTION_OK;
}

struct pg
pg_borrow(PGconn *conn)
{
    return (struct pg){ .conn = conn, .borrowed = true, .role = "saga_app" };
}

int64_t
pg_io_deadline(const struct pg *pg)
{
    return pg->timeout_ms > 0 ? clock_mono_ms() + pg->timeout_ms : INT64_MAX;
}

bool
pg_io_wait(PGconn *conn, short events, int64_t deadline_ms)
{
    for (;;) {
        struct pollfd fd = { .fd = PQsocket(conn), .events = events };
        int64_t left = deadline_ms == INT64_MAX ? 1000 : clock_left_ms(deadline_ms);
        int n = poll(&fd, 1, (int)(left < 1000 ? left : 1000));

        if (n > 0 || (n < 0 && errno != EINTR))
            return true;
        if (clock_left_ms(deadline_ms) == 0)
            return false;
    }
}

/* --- sending ----------------------------------------------------------- */

static int
send_statement(PGconn *conn, const char *sql, const struct pg_arg *args, int n_args)
{
    Oid types[ARGS_MAX];
    const char *values[ARGS_MAX];
    int lengths[ARGS_MAX], formats[ARGS_MAX];
    uint8_t numbers[ARGS_MAX][8];

    for (int i = 0; i < n_args; i++) {
        types[i] = args[i].type;
        values[i] = args[i].data;
        lengths[i] = (int)args[i].len;
        formats[i] = args[i].type != 0; /* binary, where we know the type */
        if (args[i].number_len > 0) {
            put_u64(numbers[i], (uint64_t)args[i].number);
            values[i] = (const char *)numbers[i] + 8 - args[i].number_len;
            lengths[i] = args[i].number_len;
        }
    }
    return PQsendQueryParams(conn, sql, n_args, types, values, lengths, formats, 1);
}

int
pg_io_flush(PGconn *conn, int64_t deadline_ms)
{
    int rest;

    while ((rest = PQflush(conn)) > 0) {
        if (!pg_io_wait(conn, POLLIN | POLLOUT, deadline_ms))
            return SAGA_ETIMEOUT;
        if (!PQconsumeInput(conn))
            return SAGA_EDB;
    }
    return rest == 0 ? 0 : SAGA_EDB;
}

int
pg_io_result(PGconn *conn, int64_t deadline_ms, PGresult **result)
{
    while (PQisBusy(conn)) {
        if (!pg_io_wait(conn, POLLIN, deadline_ms))
            return SAGA_ETIMEOUT;
        if (!PQconsumeInput(conn))
            break; /* what the server said last is still to be read */
    }
    *result = PQgetResult(conn);
    return 0;
}

void
pg_io_cancel(PGconn *conn)
{
    PGcancel *cancel = PQgetCancel(conn);
    char said[256];

    if (cancel != NULL)
        PQcancel(cancel, said, sizeof said);
    PQfreeCancel(cancel);
}

int
pg_io_give_up(struct pg *pg, struct saga_error *err)
{
    int64_t deadline = clock_mono_ms() + CANCEL_GRACE_MS;
    PGresult *result = NULL;
    bool quiet = false;

    pg_io_cancel(pg->conn);
    if (PQpipelineStatus(pg->conn) == PQ_PIPELINE_OFF && pg_io_flush(pg->conn, deadline) == 0) {
        while (pg_io_result(pg->conn, deadline, &result) == 0 && result != NULL) {
            PQclear(result);
            result = NULL;
        }
        quiet = PQtransactionStatus(pg->conn) != PQTRANS_ACTIVE;
    }
    error_set(err, SAGA_ETIMEOUT, "no answer from PostgreSQL within %d ms", pg->timeout_ms);
    error_flag(err, SAGA_ETIMEOUT, SAGA_ERR_RETRIABLE | SAGA_ERR_UNKNOWN);
    if (quiet && pg_connected(pg)) {
        if (pg_in_transaction(pg))
            error_flag(err, SAGA_ETIMEOUT, SAGA_ERR_TX_ABORTED);
        return SAGA_ETIMEOUT;
    }
    error_flag(err, SAGA_ETIMEOUT, SAGA_ERR_FATAL);
    if (!pg->borrowed)
        pg_disconnect(pg);
    return SAGA_ETIMEOUT;
}

static bool
is_commit(const struct pg_statement *statement)
{
    return strcmp(statement->sql, "COMMIT") == 0;
}

static int
keep(struct pg_rows *rows, PGresult *result)
{
    if (rows == NULL) {
        PQclear(result);
        return 0;
    }
    pg_rows_clear(rows);
    rows->result = result;
    rows->n = PQntuples(result);
    rows->affected = strtoll(PQcmdTuples(result), NULL, 10);
    return 0;
}

/* Takes over `result`. */
static int
judge(struct pg *pg, const struct pg_statement *statement, PGresult *result, struct saga_error *err)
{
    ExecStatusType status = PQresultStatus(result);
    int rc;

    if (is_commit(statement)) {
        rc = pg_commit_outcome(pg, result, err);
        PQclear(result);
        return rc;
    }
    if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK)
        return keep(statement->rows, result);
    rc = pg_error_of(pg, result, statement->foreign, err);
    PQclear(result);
    return rc;
}

bool
pg_speaks_utf8(const PGconn *conn)
{
    int encoding = PQclientEncoding(conn); /* -1: lost, which is not for us to say */
    const char *name = pg_encoding_to_char(encoding);

    return encoding < 0 || strcmp(name, "UTF8") == 0 || strcmp(name, "SQL_ASCII") == 0;
}

int
pg_io_usable(struct pg *pg, const struct pg_statement *statements, size_t n, struct saga_error *err)
{
    error_clear(err);
    if (pg->conn == NULL)
        return pg_error_lost(pg, err);
    if (PQpipelineStatus(pg->conn) != PQ_PIPELINE_OFF)
        return error_set(err, SAGA_EINVAL, "the connection is in pipeline mode; leave it first");
    /* What comes next is the answer to somebody else's statement. */
    if (PQtransactionStatus(pg->conn) == PQTRANS_ACTIVE)
        return error_set(err, SAGA_EINVAL, "the connection is busy; read its results first");
    for (size_t i = 0; i < n; i++) {
        if (statements[i].n_args > ARGS_MAX)
            return error_set(err, SAGA_EINVAL, "more than %d parameters", ARGS_MAX);
        if (statements[i].n_args > 0 && pg->borrowed && !pg_speaks_utf8(pg->conn))
            return error_set(err, SAGA_EINVAL, "the connection's client_encoding must be UTF8");
    }
    return 0;
}

/* --- one statement ----------------------------------------------------- */

static int
run_one(struct pg *pg, const struct pg_statement *statement, struct saga_error *err)
{
    int64_t deadline = pg_io_deadline(pg);
    bool in_transaction = pg_in_transaction(pg);
    PGresult *result = NULL, *next = NULL;
    int rc = SAGA_EDB;

    if (send_statement(pg->conn, statement->sql, statement->args, statement->n_args))
        rc = pg_io_flush(pg->conn, deadline);
    if (rc != SAGA_ETIMEOUT)
        rc = pg_io_result(pg->conn, deadline, &result);
    while (rc == 0 && result != NULL && (rc = pg_io_result(pg->conn, deadline, &next)) == 0 &&
           next != NULL)
        PQclear(next);
    if (rc == SAGA_ETIMEOUT) {
        PQclear(result);
        rc = pg_io_give_up(pg, err);
        return is_commit(statement) ? pg_commit_outcome(pg, NULL, err) : rc;
    }
    if (result == NULL)
        rc = is_commit(statement) ? pg_commit_outcome(pg, NULL, err) : pg_error_lost(pg, err);
    else
        rc = judge(pg, statement, result, err);
    /* Outside a transaction a lost answer may mean that it was carried out. */
    if (rc != 0 && !in_transaction && (pg->conn == NULL || !pg_connected(pg)))
        error_flag(err, rc, SAGA_ERR_UNKNOWN);
    return rc;
}

int
pg_exec(struct pg *pg, const char *sql, const struct pg_arg *args, int n_args, struct pg_rows *rows,
        struct saga_error *err)
{
    const struct pg_statement statement = {
        .sql = sql, .args = args, .n_args = n_args, .rows = rows
    };
    bool blocking;
    int rc = pg_io_usable(pg, &statement, 1, err);

    if (rc != 0)
        return rc;
    blocking = !PQisnonblocking(pg->conn);
    PQsetnonblocking(pg->conn, 1);
    rc = run_one(pg, &statement, err);
    if (blocking && pg->conn != NULL)
        PQsetnonblocking(pg->conn, 0);
    return rc;
}

static int
script_error(struct pg *pg, const PGresult *result, uint32_t done, struct saga_error *err)
{
    const char *position = PQresultErrorField(result, PG_DIAG_STATEMENT_POSITION);
    int rc = pg_error_of(pg, result, true, err);

    if (err != NULL) {
        err->index = done;
        err->native = position != NULL ? atoi(position) : 0;
    }
    return rc;
}

int
pg_script(struct pg *pg, const char *sql, struct saga_error *err)
{
    int64_t deadline = pg_io_deadline(pg);
    PGresult *result = NULL;
    uint32_t done = 0;
    int rc = pg_io_usable(pg, NULL, 0, err), failed = 0;

    if (rc != 0)
        return rc;
    if (!PQsendQuery(pg->conn, sql) || (rc = pg_io_flush(pg->conn, deadline)) == SAGA_EDB)
        return pg_error_lost(pg, err);
    while (rc == 0 && (rc = pg_io_result(pg->conn, deadline, &result)) == 0 && result != NULL) {
        ExecStatusType status = PQresultStatus(result);

        if (failed == 0 && status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK &&
            status != PGRES_EMPTY_QUERY)
            failed = script_error(pg, result, done, err);
        done++;
        PQclear(result);
        result = NULL;
        if (pg->conn == NULL)
            return failed;
    }
    return rc != 0 ? pg_io_give_up(pg, err) : failed;
}

/* --- several statements ------------------------------------------------ */

static int
queue_all(struct pg *pg, const struct pg_statement *statements, size_t n)
{
    if (!PQenterPipelineMode(pg->conn))
        return SAGA_EDB;
    for (size_t i = 0; i < n; i++)
        if (!send_statement(pg->conn, statements[i].sql, statements[i].args, statements[i].n_args))
            return SAGA_EDB;
    return PQpipelineSync(pg->conn) ? 0 : SAGA_EDB;
}

int
pg_batch_send(struct pg *pg, const struct pg_statement *statements, size_t n,
              struct saga_error *err)
{
    int rc = pg_io_usable(pg, statements, n, err);

    if (rc != 0)
        return rc;
    PQsetnonblocking(pg->conn, 1);
    if (queue_all(pg, statements, n) != 0 || PQflush(pg->conn) < 0)
        return pg_error_lost(pg, err);
    return 0;
}

/* Reads the answer to one statement and the NULL that ends it. SAGA_ETIMEOUT
 * comes without its sentence. */
static int
receive_one(struct pg *pg, const struct pg_statement *statement, int64_t deadline,
            struct saga_error *err)
{
    PGresult *result = NULL, *end = NULL;
    int rc = pg_io_result(pg->conn, deadline, &result);

    if (rc == 0 && result != NULL && PQstatus(pg->conn) == CONNECTION_OK)
        rc = pg_io_result(pg->conn, deadline, &end);
    PQclear(end);
    if (rc == SAGA_ETIMEOUT) {
        PQclear(result);
        return rc;
    }
    if (result == NULL)
        return is_commit(statement) ? pg_commit_outcome(pg, NULL, err) : pg_error_lost(pg, err);
    if (PQresultStatus(result) != PGRES_PIPELINE_ABORTED)
        return judge(pg, statement, result, err);
    PQclear(result); /* skipped: an earlier one has failed and says why */
    return 0;
}

static bool
has_commit(const struct pg_statement *statements, size_t from, size_t n)
{
    for (size_t i = from; i < n; i++)
        if (is_commit(&statements[i]))
            return true;
    return false;
}

/* Whether `error` says that the connection broke, rather than that the server
 * refused: then whatever came behind it may have been carried out. */
static bool
broke(const struct saga_error *error)
{
    return error->code == SAGA_ETIMEOUT ||
           (error->code == SAGA_EDB && (error->flags & SAGA_ERR_FATAL) != 0 &&
            error->sqlstate[0] == '\0');
}

int
pg_batch_receive(struct pg *pg, const struct pg_statement *statements, size_t n,
                 struct saga_error *err)
{
    int64_t deadline = pg_io_deadline(pg);
    struct saga_error first = { 0 }, later;
    PGresult *sync = NULL;
    int rc = pg_io_flush(pg->conn, deadline) == SAGA_ETIMEOUT ? pg_io_give_up(pg, &first) : 0;

    for (size_t i = 0; i < n && pg_connected(pg); i++) {
        bool failed = first.code != 0;

        rc = receive_one(pg, &statements[i], deadline, failed ? &later : &first);
        if (rc == SAGA_ETIMEOUT)
            rc = pg_io_give_up(pg, failed ? &later : &first);
        if (rc != 0 && !failed)
            first.index = (uint32_t)i;
    }
    if (first.code == 0 && !pg_connected(pg))
        pg_error_lost(pg, &first);
    if (pg_connected(pg)) {
        if (pg_io_result(pg->conn, deadline, &sync) != 0 || !PQexitPipelineMode(pg->conn))
            pg_error_lost(pg, first.code == 0 ? &first : &later);
        PQclear(sync);
        if (pg->borrowed)
            PQsetnonblocking(pg->conn, 0);
    }
    if (broke(&first) && has_commit(statements, first.index, n))
        pg_commit_outcome(pg, NULL, &first);
    if (err != NULL)
        *err = first;
    return first.code;
}

int
pg_batch(struct pg *pg, const struct pg_statement *statements, size_t n, struct saga_error *err)
{
    int rc = pg_batch_send(pg, statements, n, err);

    return rc != 0 ? rc : pg_batch_receive(pg, statements, n, err);
}
