/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a commit has waited for the synchronous standbys.
 */
#include "outbox/standby.h"

#include "outbox/sql.h"

int
standby_waited(const struct pg *pg, int32_t warnings, struct saga_error *err)
{
    if (pg->warnings == warnings)
        return 0;
    error_set(err, SAGA_EDB, "the wait for a synchronous standby was cancelled; beginning anew");
    return error_flag(err, SAGA_EDB, SAGA_ERR_RETRIABLE | SAGA_ERR_FATAL);
}

int
standby_look(struct pg *pg, struct saga_error *err)
{
    struct pg_rows rows = PG_ROWS_INIT;
    int rc = pg_exec(pg, SQL_STANDBY_NAMES, PG_NO_ARGS, &rows, err);

    /* After a failover that may be so for a while, and is no reason to stop. */
    if (rc == 0 && *pg_text(&rows, 0, 0) == '\0')
        log_event(pg->log, SAGA_LOG_WARNING,
                  "standby_gate is on, but PostgreSQL has no synchronous standbys: nothing is "
                  "waited for");
    pg_rows_clear(&rows);
    return rc;
}
