/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What can be done to any PostgreSQL.
 */
#ifndef CHAOS_POSTGRES_FAULTS_H
#define CHAOS_POSTGRES_FAULTS_H

#include "test/support/server.h"

void restart_postgres_at_once(struct server *postgres); /* as "pg_ctl -m immediate" */
void crash_postgres(struct server *postgres);

/* All of this database but our own. */
void terminate_sessions(const char *conninfo);

#endif
