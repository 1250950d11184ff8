/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Signals, and a statement.
 */
#include "test/chaos/postgres_faults.h"

#include "test/support/db.h"

#include <signal.h>

void
restart_postgres_at_once(struct server *postgres)
{
    kill(postgres->pid, SIGQUIT);
    server_stop(postgres); /* waits until it is gone */
    server_start(postgres);
}

void
crash_postgres(struct server *postgres)
{
    server_kill(postgres);
    server_start(postgres);
}

void
terminate_sessions(const char *conninfo)
{
    PGconn *conn = db_try_connect(conninfo);

    if (conn == NULL)
        return;
    PQclear(PQexec(conn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                         " WHERE datname = current_database() AND pid <> pg_backend_pid()"));
    PQfinish(conn);
}
