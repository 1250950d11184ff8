/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sagactl outbox rebase: makes a restored outbox fit for a relay. What that is,
 * and when it is refused, is the SQL function's.
 */
#include "ops/ops.h"
#include "ops/output.h"
#include "ops/sql.h"

#include <stdio.h>
#include <string.h>

static void
print_counts(const struct pg_rows *rows, bool dry_run)
{
    const char *is = dry_run ? "would be" : "will be";

    printf("%lld messages that were not published when the copy was made %s published first,\n"
           "    again if the original's relay has gone on since\n",
           (long long)pg_int(rows, 0, 0), is);
    printf("%lld messages that were written here %s published behind them\n",
           (long long)pg_int(rows, 0, 1), is);
    if (pg_int(rows, 0, 2) > 0)
        printf("%lld messages seem to be published, but may have been written here: they %s "
               "published again\n",
               (long long)pg_int(rows, 0, 2), is);
    printf("%lld messages were published and stay as they are\n", (long long)pg_int(rows, 0, 3));
    puts(dry_run ? "nothing was changed (--dry-run)" : "done: the relay can be started");
}

int
outbox_rebase(struct call *call)
{
    struct pg_rows rows = PG_ROWS_INIT;
    struct saga_error err = { 0 };
    int rc = pg_connect(&call->pg, &err);

    if (rc == 0)
        rc = pg_exec(&call->pg, SQL_LOCK_TIMEOUT, PG_ARGS(PG_TEXT(call->options.lock_timeout)),
                     NULL, &err);
    if (rc == 0)
        rc = pg_exec(&call->pg, SQL_OUTBOX_REBASE, PG_ARGS(PG_BOOL(call->options.dry_run)), &rows,
                     &err);
    if (rc == 0 && call->options.json)
        printf("%s\n", pg_text(&rows, 0, 4));
    else if (rc == 0)
        print_counts(&rows, call->options.dry_run);
    else if (strcmp(err.sqlstate, "55000") == 0)
        err.code = SAGA_ESTATE;
    pg_rows_clear(&rows);
    return rc == 0 ? EXIT_DONE : complain_error(&err);
}
