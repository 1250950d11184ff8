/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What undoing migrations would lose. Asked of the tables that the scripts drop,
 * not of the migrations' numbers, so that it also holds for a folder of others.
 */
#include "ops/migrate_loss.h"

#include "base/error.h"
#include "ops/sql.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* `dropped` is the table whose end makes it a loss; `from` is where it is counted,
 * and may be gone already where migrations are undone one by one. */
static const struct {
    const char *dropped, *from, *sql, *what;
} losses[] = {
    { "saga.instance", "saga.instance", SQL_LOSS_SAGAS, "sagas that have not ended" },
    { "outbox.stream", "outbox.pending", SQL_LOSS_PENDING, "messages that are not published" },
    /* Without the views and the cursors nobody can tell the one from the other. */
    { "outbox.message", "outbox.message", SQL_LOSS_MESSAGES, "messages, published or not" },
    { "outbox.delayed", "outbox.delayed", SQL_LOSS_DELAYED, "messages that wait for their time" },
    { "outbox.parked", "outbox.parked", SQL_LOSS_PARKED, "parked messages of the outbox" },
    { "idempotency.parked", "idempotency.parked", SQL_LOSS_INBOX_PARKED,
      "messages that consumers have parked" },
    { "idempotency.quarantine", "idempotency.quarantine", SQL_LOSS_HELD,
      "messages held in the quarantine" },
    { "idempotency.barrier", "idempotency.barrier", SQL_LOSS_WAITING,
      "commands in hand that are not answered" },
};

static bool
is_dropped(const char *table, const char *const *scripts, size_t n)
{
    char statement[96];

    snprintf(statement, sizeof statement, "DROP TABLE %s;", table);
    for (size_t i = 0; i < n; i++)
        if (scripts[i] != NULL && strstr(scripts[i], statement) != NULL)
            return true;
    return false;
}

static int
count(int64_t *number, struct pg *pg, const char *from, const char *sql, struct saga_error *err)
{
    struct pg_rows rows = PG_ROWS_INIT;
    int rc = pg_exec(pg, SQL_HAS_RELATION, PG_ARGS(PG_TEXT(from)), &rows, err);
    bool has = rc == 0 && pg_bool(&rows, 0, 0);

    *number = 0;
    pg_rows_clear(&rows);
    if (has)
        rc = pg_exec(pg, sql, PG_NO_ARGS, &rows, err);
    if (has && rc == 0)
        *number = pg_int(&rows, 0, 0);
    pg_rows_clear(&rows);
    return rc;
}

int
migrate_loss(char *loss, size_t size, struct pg *pg, const char *const *scripts, size_t n,
             struct saga_error *err)
{
    size_t len = 0;
    int rc = 0;

    *loss = '\0';
    for (size_t i = 0; rc == 0 && i < sizeof losses / sizeof *losses; i++) {
        int64_t number = 0;

        if (is_dropped(losses[i].dropped, scripts, n))
            rc = count(&number, pg, losses[i].from, losses[i].sql, err);
        if (number > 0 && len < size)
            len += (size_t)snprintf(
                loss + len, size - len, "%s%s (%s%" PRId64 ")", len > 0 ? ", " : "", losses[i].what,
                number > LOSS_MOST ? "more than " : "", number > LOSS_MOST ? LOSS_MOST : number);
    }
    return rc;
}
