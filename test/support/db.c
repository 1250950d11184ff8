/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Databases are copies of a template that is migrated once in a cluster, by
 * the first test that needs it.
 */
#include "test/support/db.h"

#include "test/support/run.h"
#include "test/support/server.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define TEMPLATE "saga_template"
enum { TEMPLATE_LOCK = 5461 };

PGconn *
db_try_connect(const char *conninfo)
{
    PGconn *conn = PQconnectdb(conninfo);

    if (PQstatus(conn) == CONNECTION_OK)
        return conn;
    PQfinish(conn);
    return NULL;
}

PGconn *
db_connect(const char *conninfo)
{
    PGconn *conn = PQconnectdb(conninfo);

    ck_assert_msg(PQstatus(conn) == CONNECTION_OK, "%s", PQerrorMessage(conn));
    return conn;
}

static void
close_session(void *conn)
{
    PQfinish(conn);
}

PGconn *
given_session(const char *conninfo)
{
    PGconn *conn = db_connect(conninfo);

    at_test_end(close_session, conn);
    return conn;
}

static PGresult *
run(PGconn *conn, const char *format, va_list args)
{
    char *sql = NULL;
    PGresult *result;

    ck_assert(vasprintf(&sql, format, args) >= 0);
    result = PQexec(conn, sql);
    free(sql);
    return result;
}

static PGresult *
run_well(PGconn *conn, const char *format, va_list args)
{
    PGresult *result = run(conn, format, args);
    ExecStatusType status = PQresultStatus(result);

    ck_assert_msg(status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK, "%.200s: %s", format,
                  PQerrorMessage(conn));
    return result;
}

void
db_exec(PGconn *conn, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    PQclear(run_well(conn, format, args));
    va_end(args);
}

static const char *
field(PGconn *conn, const char *format, va_list args)
{
    PGresult *result = run_well(conn, format, args);
    const char *text = NULL;

    if (PQntuples(result) > 0 && !PQgetisnull(result, 0, 0))
        text = text_of("%s", PQgetvalue(result, 0, 0));
    PQclear(result);
    return text;
}

const char *
db_text(PGconn *conn, const char *format, ...)
{
    const char *text;
    va_list args;

    va_start(args, format);
    text = field(conn, format, args);
    va_end(args);
    return text;
}

int64_t
db_int(PGconn *conn, const char *format, ...)
{
    const char *text;
    char *end = NULL;
    int64_t value;
    va_list args;

    va_start(args, format);
    text = field(conn, format, args);
    va_end(args);
    ck_assert_msg(text != NULL, "%.200s: no row, or NULL", format);
    value = strtoll(text, &end, 10);
    ck_assert_msg(*end == '\0', "%.200s: not a number: %s", format, text);
    return value;
}

const char *
db_refusal(PGconn *conn, const char *format, ...)
{
    PGresult *result;
    const char *sqlstate;
    va_list args;

    va_start(args, format);
    result = run(conn, format, args);
    va_end(args);
    sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    sqlstate = text_of("%s", sqlstate != NULL ? sqlstate : "");
    PQclear(result);
    return sqlstate;
}

static const char *
conninfo_of(int port, const char *database)
{
    return text_of("host=127.0.0.1 port=%d user=postgres dbname=%s", port, database);
}

static int
shared_port(void)
{
    return atoi(server_env("PGPORT"));
}

static void
drop_database(void *arg)
{
    const char *database = arg;
    PGconn *admin = db_connect(conninfo_of(shared_port(), "postgres"));

    db_exec(admin, "DROP DATABASE %s WITH (FORCE)", database);
    PQfinish(admin);
}

static void
migrate(const char *conninfo)
{
    const char *command =
        text_of("'%s/sagactl' migrate up --database '%s' >&2", build_dir(), conninfo);

    ck_assert_msg(system(command) == 0, "failed: %s", command);
}

/* A template to which somebody is connected cannot be copied, so it gets its
 * name only when it is finished. */
static void
make_template(PGconn *admin, int port)
{
    db_exec(admin, "SELECT pg_advisory_lock(%d)", TEMPLATE_LOCK);
    if (db_int(admin, "SELECT count(*) FROM pg_database WHERE datname = '" TEMPLATE "'") == 0) {
        db_exec(admin, "DROP DATABASE IF EXISTS " TEMPLATE "_new");
        db_exec(admin, "CREATE DATABASE " TEMPLATE "_new");
        migrate(conninfo_of(port, TEMPLATE "_new"));
        db_exec(admin, "ALTER DATABASE " TEMPLATE "_new RENAME TO " TEMPLATE);
    }
    db_exec(admin, "SELECT pg_advisory_unlock(%d)", TEMPLATE_LOCK);
}

static const char *
create_database(int port, const char *template)
{
    const char *database = unique_name("t");
    PGconn *admin = db_connect(conninfo_of(port, "postgres"));

    if (template != NULL)
        make_template(admin, port);
    db_exec(admin, "CREATE DATABASE %s %s %s", database, template != NULL ? "TEMPLATE" : "",
            template != NULL ? template : "");
    PQfinish(admin);
    return database;
}

const char *
given_database(void)
{
    const char *database = create_database(shared_port(), TEMPLATE);

    at_test_end(drop_database, (void *)(uintptr_t)database);
    return conninfo_of(shared_port(), database);
}

const char *
given_empty_database(void)
{
    const char *database = create_database(shared_port(), NULL);

    at_test_end(drop_database, (void *)(uintptr_t)database);
    return conninfo_of(shared_port(), database);
}

const char *
given_database_in(const struct server *cluster)
{
    const char *conninfo = given_empty_database_in(cluster);

    migrate(conninfo);
    return conninfo;
}

const char *
given_empty_database_in(const struct server *cluster)
{
    return conninfo_of(cluster->port, create_database(cluster->port, NULL));
}
