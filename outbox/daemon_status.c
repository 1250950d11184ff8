/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asking the database.
 */
#include "outbox/daemon_status.h"

#include "base/clock.h"
#include "outbox/sql.h"

#include <stdlib.h>
#include <string.h>

enum { DEADLINE_MS = 2000, COMPLAIN_MS = 60000, US_PER_S = 1000000 };

struct status_reader {
    struct pg pg;
    bool made; /* pg is for `version` */
    int64_t version;
    struct saga_log log;
    int64_t complained_ms;
};

struct status_reader *
status_reader_new(const struct saga_log *log)
{
    struct status_reader *reader = calloc(1, sizeof *reader);

    if (reader != NULL)
        reader->log = *log;
    return reader;
}

void
status_reader_free(struct status_reader *reader)
{
    if (reader == NULL)
        return;
    if (reader->made)
        pg_clear(&reader->pg);
    free(reader);
}

static int
connect_to(struct status_reader *reader, const char *conninfo, int64_t version,
           struct saga_error *err)
{
    int rc = 0;

    if (reader->made && reader->version != version) {
        pg_clear(&reader->pg);
        reader->made = false;
    }
    if (!reader->made) {
        rc = pg_init(&reader->pg, conninfo, "outbox-relay metrics", DEADLINE_MS, &reader->log, err);
        reader->made = rc == 0;
        reader->pg.role = "saga_relay";
        reader->version = version;
    }
    return rc != 0 ? rc : pg_connect(&reader->pg, err);
}

/* The last row is of all streams together. */
static void
take_streams(struct status *status, const struct pg_rows *rows)
{
    int all = rows->n - 1;

    status->n = all < STATUS_STREAMS_MAX ? all : STATUS_STREAMS_MAX;
    for (int i = 0; i < status->n; i++)
        status->streams[i] = (struct status_stream){
            .stream = (int32_t)pg_int(rows, i, 0),
            .lag_messages = pg_int(rows, i, 1),
            .lag_seconds = (double)pg_int(rows, i, 2) / US_PER_S,
        };
    status->parked_keys = pg_int(rows, all, 3);
    status->parked_messages = pg_int(rows, all, 4);
    status->delayed_messages = pg_int(rows, all, 5);
    status->delayed_overdue_seconds = (double)pg_int(rows, all, 6) / US_PER_S;
}

static void
take_slots(struct status *status, const struct pg_rows *rows)
{
    status->outbox_bytes = pg_int(rows, 0, 0);
    status->kept_seconds = (double)pg_int(rows, 0, 1) / US_PER_S;
}

static int
ask(struct status *status, struct pg *pg, struct saga_error *err)
{
    struct pg_rows streams = PG_ROWS_INIT, slots = PG_ROWS_INIT;
    const struct pg_statement statements[] = {
        { .sql = SQL_STATUS_SETTINGS },
        { .sql = SQL_STATUS, .rows = &streams },
        { .sql = SQL_STATUS_SLOTS, .rows = &slots },
    };
    int rc = pg_batch(pg, statements, sizeof statements / sizeof *statements, err);

    if (rc == 0) {
        take_streams(status, &streams);
        take_slots(status, &slots);
    }
    pg_rows_clear(&streams);
    pg_rows_clear(&slots);
    return rc;
}

void
status_read(struct status_reader *reader, const char *conninfo, int64_t version,
            struct status *status)
{
    struct saga_error err;
    int64_t now = clock_mono_ms();
    int rc;

    *status = (struct status){ 0 };
    rc = connect_to(reader, conninfo, version, &err);
    if (rc == 0)
        rc = ask(status, &reader->pg, &err);
    status->up = rc == 0;
    if (rc != 0 && (reader->complained_ms == 0 || now - reader->complained_ms >= COMPLAIN_MS)) {
        reader->complained_ms = now;
        log_error(&reader->log, SAGA_LOG_WARNING, "no answer from PostgreSQL for /metrics", &err);
    }
}
