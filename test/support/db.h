/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Databases for tests, and short ways to ask them something.
 *
 * Every helper that talks to the server fails the test with the server's own
 * message. Texts that are returned live until the test ends.
 */
#ifndef TEST_DB_H
#define TEST_DB_H

#include <libpq-fe.h>
#include <stdint.h>

struct server;

/* A fresh database in the shared cluster, migrated up, dropped when the test
 * ends: its connection string. The second one is not migrated. */
const char *given_database(void);
const char *given_empty_database(void);

/* The same in a cluster of the test's own: GIVEN_SERVER("pg", ...). */
const char *given_database_in(const struct server *cluster);
const char *given_empty_database_in(const struct server *cluster);

/* Closed when the test ends, and by nobody before. */
PGconn *given_session(const char *conninfo);

/* The caller closes it by PQfinish(). db_try_connect() answers NULL where the
 * server cannot be reached, to be polled after a crash. */
PGconn *db_connect(const char *conninfo);
PGconn *db_try_connect(const char *conninfo);

/* The format is SQL; a literal % is %%. */
void db_exec(PGconn *conn, const char *format, ...) __attribute__((format(printf, 2, 3)));
int64_t db_int(PGconn *conn, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The first field of the first row. NULL for SQL's NULL, and for no row. */
const char *db_text(PGconn *conn, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The SQLSTATE with which the server refuses the statement; "" if it does not. */
const char *db_refusal(PGconn *conn, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
