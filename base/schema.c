/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The database's migrations beside those that this program was built with.
 */
#include "base/schema.h"

#include "base/log.h"
#include "base/schema_known.h" /* SCHEMA_KNOWN, made from the names of the files */

#include <stdio.h>

/* A view that every role may read. A few names are enough for a person. */
#define SQL_UNKNOWN                                                                                \
    "SELECT pg_catalog.string_agg(m.name, ', ' ORDER BY m.number)"                                 \
    " FROM (SELECT number, name FROM outbox.migration"                                             \
    "        WHERE number <> ALL ('" SCHEMA_KNOWN "'::int4[]) ORDER BY number LIMIT 3) AS m"

bool
schema_is_newer(struct pg *pg, char *names, size_t size)
{
    struct pg_rows rows = PG_ROWS_INIT;
    bool newer = pg_exec(pg, SQL_UNKNOWN, PG_NO_ARGS, &rows, NULL) == 0 && rows.n == 1 &&
                 !pg_is_null(&rows, 0, 0);

    snprintf(names, size, "%s", newer ? pg_text(&rows, 0, 0) : "");
    pg_rows_clear(&rows);
    return newer;
}

void
schema_warn(struct pg *pg)
{
    char names[128];

    if (pg->told_newer || !schema_is_newer(pg, names, sizeof names))
        return;
    pg->told_newer = true;
    log_event(pg->log, SAGA_LOG_WARNING,
              "the database is newer than this program, which should be upgraded soon",
              LOG_TEXT("migrations", names));
}
