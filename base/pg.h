/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The only wrapper around libpq. Statements with typed parameters and binary
 * results, several in one round trip, a deadline on every call, and a COMMIT
 * that does not lie.
 *
 * A `struct pg` either owns its connection (pg_init, pg_connect, pg_clear) or
 * borrows a caller's (pg_borrow). It never begins or ends a transaction by
 * itself.
 *
 * Errors: SAGA_EDB with SAGA_ERR_FATAL when the connection is lost (an owned
 * one may be opened again), SAGA_ERR_RETRIABLE when the same may work later,
 * SAGA_ERR_TX_ABORTED when the caller has to roll back; SAGA_ERR_UNKNOWN when a
 * statement outside a transaction was sent and its answer did not come;
 * SAGA_ESCHEMA when one of our own tables is missing; SAGA_ETIMEOUT when the
 * deadline passed (the statement is cancelled).
 */
#ifndef BASE_PG_H
#define BASE_PG_H

#include "base/bytes.h"
#include "base/error.h"
#include "base/log.h"

#include <libpq-fe.h>
#include <stdbool.h>

struct pg {
    PGconn *conn; /* NULL: not connected */
    bool borrowed;
    int32_t timeout_ms; /* for each call; 0: none */
    bool told_newer;    /* schema_warn()'s */
    int32_t warnings;   /* notices of that severity, since pg_init() */
    const struct saga_log *log;
    char *conninfo;
    const char *application;
    const char *role; /* that the login needs; NULL: not known */
};

/* Type numbers that never change (src/include/catalog/pg_type.dat). */
enum {
    PG_OID_BOOL = 16,
    PG_OID_BYTEA = 17,
    PG_OID_INT8 = 20,
    PG_OID_INT4 = 23,
    PG_OID_TEXT = 25,
    PG_OID_UUID = 2950,
    PG_OID_TIMESTAMPTZ = 1184,
    PG_OID_TEXT_ARRAY = 1009,
    PG_OID_BYTEA_ARRAY = 1001,
    PG_OID_UUID_ARRAY = 2951,
    PG_OID_INT8_ARRAY = 1016,
    PG_OID_INT4_ARRAY = 1007,
    PG_OID_TIMESTAMPTZ_ARRAY = 1185
};

/* --- parameters -------------------------------------------------------- */

struct pg_arg {
    Oid type;         /* 0: a text, of which the server finds out the type */
    const void *data; /* NULL with `number_len` 0: SQL NULL */
    size_t len;
    int64_t number; /* sent in `number_len` bytes of network order */
    int number_len;
};

/* The lists that the functions below take: two arguments each. */
#define PG_ARGS(...)                                                                               \
    ((const struct pg_arg[]){ __VA_ARGS__ }),                                                      \
        (int)(sizeof((const struct pg_arg[]){ __VA_ARGS__ }) / sizeof(struct pg_arg))
#define PG_NO_ARGS NULL, 0

struct pg_arg pg_arg_text(const char *text);           /* NULL: SQL NULL */
struct pg_arg pg_arg_bytea(struct saga_bytes bytes);   /* data NULL: SQL NULL */
struct pg_arg pg_arg_uuid(const struct saga_uuid *id); /* NULL: SQL NULL */
struct pg_arg pg_arg_number(Oid type, int64_t number, int len);
struct pg_arg pg_arg_untyped(const char *text); /* as psql would send it; NULL: SQL NULL */
#define PG_TEXT(text)    pg_arg_text(text)
#define PG_BYTEA(bytes)  pg_arg_bytea(bytes)
#define PG_UUID(id)      pg_arg_uuid(id)
#define PG_INT8(number)  pg_arg_number(PG_OID_INT8, (number), 8)
#define PG_INT4(number)  pg_arg_number(PG_OID_INT4, (number), 4)
#define PG_BOOL(truth)   pg_arg_number(PG_OID_BOOL, (truth) ? 1 : 0, 1)
/* Unix microseconds; PostgreSQL counts from 2000-01-01. */
#define PG_TIME(unix_us) pg_arg_number(PG_OID_TIMESTAMPTZ, (unix_us)-PG_EPOCH_US, 8)
#define PG_EPOCH_US      INT64_C(946684800000000)

/* A one-dimensional binary array that grows. Add everything, then pass it. */
struct pg_array {
    Oid type, element;
    struct buffer bytes;
    uint32_t n;
    bool has_null;
};

void pg_array_init(struct pg_array *array, Oid type);                    /* PG_OID_*_ARRAY */
void pg_array_add(struct pg_array *array, const void *data, size_t len); /* NULL: SQL NULL */
void pg_array_add_text(struct pg_array *array, const char *text);        /* NULL: SQL NULL */
void pg_array_add_int8(struct pg_array *array, int64_t number);
void pg_array_add_int4(struct pg_array *array, int32_t number);
void pg_array_add_time(struct pg_array *array, int64_t unix_us);
void pg_array_clear(struct pg_array *array);
/* Borrowed from `array`; `failed` in its bytes means out of memory. */
struct pg_arg pg_arg_array(struct pg_array *array);
#define PG_ARRAY(array) pg_arg_array(array)

/* --- results ----------------------------------------------------------- */

struct pg_rows {
    PGresult *result;
    int n;            /* rows */
    int64_t affected; /* by INSERT, UPDATE, DELETE, SELECT */
};
#define PG_ROWS_INIT                                                                               \
    {                                                                                              \
        NULL, 0, 0                                                                                 \
    }

void pg_rows_clear(struct pg_rows *rows);
bool pg_is_null(const struct pg_rows *rows, int row, int column);
const char *pg_text(const struct pg_rows *rows, int row, int column); /* NULL: SQL NULL */
int64_t pg_int(const struct pg_rows *rows, int row, int column); /* int2, int4, int8; NULL: 0 */
bool pg_bool(const struct pg_rows *rows, int row, int column);
int64_t pg_time_us(const struct pg_rows *rows, int row, int column); /* Unix microseconds */
struct saga_bytes pg_bytes(const struct pg_rows *rows, int row, int column);
struct saga_uuid pg_uuid(const struct pg_rows *rows, int row, int column);

/* A one-dimensional binary array, element by element. */
struct pg_elements {
    const uint8_t *at;
    size_t left;
};

struct pg_elements pg_elements_of(struct saga_bytes array);
bool pg_elements_next(struct pg_elements *rest, struct saga_bytes *element); /* NULL: data NULL */

/* --- connection -------------------------------------------------------- */

/* Copies `conninfo`; `application` and `log` must outlive `pg`. */
int pg_init(struct pg *pg, const char *conninfo, const char *application, int32_t timeout_ms,
            const struct saga_log *log, struct saga_error *err);
void pg_clear(struct pg *pg);

/* Whether libpq understands it: SAGA_EINVAL, which quotes nothing of it. */
int pg_check_conninfo(const char *conninfo, struct saga_error *err);

/* Opens the connection, if it is not open. At most timeout_ms (10 s if that is 0;
 * in whole seconds, at least two) for each host, unless the conninfo has
 * a connect_timeout. A server that refuses at once is asked twice, and
 * err->sqlstate says why. Sets client_encoding to UTF8. */
int pg_connect(struct pg *pg, struct saga_error *err);
void pg_disconnect(struct pg *pg);
bool pg_connected(const struct pg *pg);

struct pg pg_borrow(PGconn *conn);

/* Whether texts arrive as they are: our parameters are UTF-8, and in another
 * client_encoding the server would convert them. */
bool pg_speaks_utf8(const PGconn *conn);

/* --- statements -------------------------------------------------------- */

struct pg_statement {
    const char *sql;
    const struct pg_arg *args;
    int n_args;
    struct pg_rows *rows; /* NULL: not wanted */
    bool foreign;         /* the user's SQL: a missing table is not our schema's */
};

/* One statement. `rows` may be NULL; else it is set on success only. */
int pg_exec(struct pg *pg, const char *sql, const struct pg_arg *args, int n_args,
            struct pg_rows *rows, struct saga_error *err);

/*
 * Several statements in one round trip (libpq's pipeline mode). After one
 * fails the server skips the rest; err->index tells which failed. A statement
 * whose text is "COMMIT" is checked as pg_commit() does. Must not be used on a
 * connection that its owner has put into pipeline mode.
 */
int pg_batch(struct pg *pg, const struct pg_statement *statements, size_t n,
             struct saga_error *err);

/* The two halves of pg_batch(), to work while the server does. Nothing else
 * may be called on `pg` in between; the statements must stay until the second. */
int pg_batch_send(struct pg *pg, const struct pg_statement *statements, size_t n,
                  struct saga_error *err);
int pg_batch_receive(struct pg *pg, const struct pg_statement *statements, size_t n,
                     struct saga_error *err);

/*
 * Many rows, as the COPY ... TO STDOUT (FORMAT binary) that ends `sql` sends
 * them: less than half of the work and of the memory that a PGresult takes. The
 * statements before it are in the same transaction. Two halves, as above.
 *
 * `take` gets each row (the tuple's format is in PostgreSQL's documentation of
 * COPY), to keep until pg_copy_free(); false: neither this one nor any behind
 * it, and the server is asked to stop.
 */
typedef bool pg_copy_take(void *user, uint8_t *row, size_t len);
int pg_copy_send(struct pg *pg, const char *sql, struct saga_error *err);
int pg_copy_receive(struct pg *pg, pg_copy_take *take, void *user, struct saga_error *err);
void pg_copy_free(uint8_t *row);

/* Several statements as one text, without parameters or results: migrations.
 * If one fails, err->index says which, from 0, and err->native at which
 * character of the text, from 1; 0 if the server did not say it (then the index
 * counts, which is 0 when the text as a whole could not be parsed). */
int pg_script(struct pg *pg, const char *sql, struct saga_error *err);

/* The server has ended the session, because it was idle inside a transaction
 * for longer than it may (idle_in_transaction_session_timeout). */
bool pg_error_overslept(const struct saga_error *error);

/* Wrong password, role, database or rights: not mended by trying again. */
bool pg_error_lasts(const struct saga_error *error);

/* --- transactions ------------------------------------------------------ */

int pg_begin(struct pg *pg, struct saga_error *err);

/* As pg_begin(), and a COMMIT that is answered survives a crash of the server,
 * whatever the server's or the role's default is. */
int pg_begin_durable(struct pg *pg, struct saga_error *err);
extern const char PG_SQL_BEGIN[], PG_SQL_DURABLE[]; /* its two statements */

/* SAGA_EUNKNOWN: connection lost after COMMIT was sent. Contract: saga_commit(). */
int pg_commit(struct pg *pg, struct saga_error *err);
void pg_rollback(struct pg *pg);
bool pg_in_transaction(const struct pg *pg);

/* Whether a user's connection is inside a transaction, and not in pipeline mode:
 * SAGA_ENOTX, SAGA_EINVAL. */
int pg_check_tx(PGconn *tx, struct saga_error *err);

#endif
