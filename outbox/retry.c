/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Publishing what was parked.
 */
#include "outbox/retry.h"

#include "base/clock.h"
#include "base/crash.h"
#include "base/error.h"
#include "outbox/sql.h"

#include <stdlib.h>

enum { LOOK_MS = 200, SERVE_MS = 50 };

/* A page of a pair's parked rows on its way. */
struct retry {
    const char *topic;
    struct saga_bytes key; /* data NULL: the rows without one */
    struct pg_rows rows;
    int sent;          /* rows handed over */
    int64_t acked_seq; /* all up to here are acknowledged */
    bool refused;      /* the row after those that were sent will never be taken */
    char why[FINDING_BYTES];
};

/* --- the request ------------------------------------------------------- */

/* 0 rows: nobody asks. */
static int
next_request(struct publisher *p, struct pg_rows *rows, struct saga_error *err)
{
    int rc = pg_exec(&p->reader, SQL_RETRY_NEXT,
                     PG_ARGS(PG_INT4(p->cursor.stream), PG_INT4(p->cursor.streams)), rows, err);

    if (rc == 0)
        p->parked.looked_ms = clock_mono_ms();
    return rc;
}

/* What was refused before it was asked for may have been mended since. */
static int
begin(struct publisher *p, const struct retry *retry, int64_t request, struct saga_error *err)
{
    int rc = 0;

    if (request != p->parked.request)
        rc = outlet_pardon(&p->outlet, retry->topic, err);
    p->parked.request = request;
    return rc;
}

static int
read_page(struct publisher *p, struct retry *retry, struct saga_error *err)
{
    const struct pg_arg rows = PG_INT4(p->source.page_rows), bytes = PG_INT8(p->source.page_bytes);

    if (retry->key.data != NULL)
        return pg_exec(&p->reader, SQL_RETRY_PAGE_KEY,
                       PG_ARGS(rows, bytes, PG_TEXT(retry->topic), PG_TEXT(retry->key.data)),
                       &retry->rows, err);
    return pg_exec(&p->reader, SQL_RETRY_PAGE_KEYLESS,
                   PG_ARGS(rows, bytes, PG_TEXT(retry->topic), PG_INT4(p->cursor.stream),
                           PG_INT4(p->cursor.streams)),
                   &retry->rows, err);
}

/* --- publishing -------------------------------------------------------- */

static int64_t
seq_of(const struct retry *retry, int n)
{
    return pg_int(&retry->rows, n, 0);
}

static int
send_rows(struct publisher *p, struct retry *retry, struct saga_error *err)
{
    int rc = 0, outcome = OUTLET_SENT;

    while (rc == 0 && retry->sent < retry->rows.n && !retry->refused && outcome == OUTLET_SENT) {
        struct row_fields fields;

        row_read_result(&retry->rows, retry->sent, &fields);
        rc = outlet_send(&p->outlet, &fields, seq_of(retry, retry->sent), false, &outcome,
                         retry->why, err);
        if (rc == 0 && outcome == OUTLET_SENT) {
            retry->sent++;
            CRASH_POINT("retry.after_produce");
        }
        retry->refused = rc == 0 && outcome == OUTLET_PARK;
    }
    return rc;
}

static void
settle(struct publisher *p, struct retry *retry)
{
    size_t parked, n = window_settle(&p->outlet.window, &retry->acked_seq, &parked);

    if (n == 0)
        return;
    atomic_fetch_add(&p->tally->published, (int64_t)n);
    p->outlet.failures = 0;
}

/* What was not acknowledged is sent again, by a new producer. */
static int
start_over(struct publisher *p, struct retry *retry, struct saga_error *err)
{
    outlet_close(&p->outlet);
    settle(p, retry);
    window_reset(&p->outlet.window);
    retry->refused = false;
    while (retry->sent > 0 && seq_of(retry, retry->sent - 1) > retry->acked_seq)
        retry->sent--;
    return publisher_open_again(p, err);
}

/* Until all is acknowledged, or one row turns out to be refused. */
static int
publish(struct publisher *p, struct retry *retry, struct saga_error *err)
{
    int64_t deadline = 0; /* once it is stopped */
    int rc = 0;

    do {
        if (publisher_stopped(p) && deadline == 0)
            deadline = clock_mono_ms() + p->drain_ms;
        if (deadline == 0)
            rc = send_rows(p, retry, err);
        outlet_serve(&p->outlet, SERVE_MS, false);
        tally_alive(p->tally);
        CRASH_POINT("retry.after_ack");
        settle(p, retry);
        if (rc == 0)
            rc = publisher_keep_lease(p, err);
        if (rc != 0 ||
            (deadline != 0 && (outlet_broken(&p->outlet) || clock_left_ms(deadline) == 0)))
            break;
        if (outlet_broken(&p->outlet))
            rc = start_over(p, retry, err);
    } while (rc == 0 && (window_open(&p->outlet.window) > 0 ||
                         (deadline == 0 && retry->sent < retry->rows.n && !retry->refused)));
    return rc;
}

/* --- what became of it --------------------------------------------------- */

static void
log_answer(const struct publisher *p, const struct retry *retry, const char *what)
{
    log_event(p->writer.log, retry->refused ? SAGA_LOG_WARNING : SAGA_LOG_INFO, what,
              LOG_TEXT("topic", retry->topic), LOG_INT("key_bytes", (int64_t)retry->key.len),
              LOG_TEXT("error", retry->refused ? retry->why : ""));
}

/* What was published is deleted; the row that was refused says why. */
static int
store(struct publisher *p, const struct retry *retry, struct saga_error *err)
{
    struct pg_rows rows = PG_ROWS_INIT;
    struct pg_array published;
    struct pg_arg refused = PG_INT8(0);
    int rc;

    pg_array_init(&published, PG_OID_INT8_ARRAY);
    for (int i = 0; i < retry->sent && seq_of(retry, i) <= retry->acked_seq; i++)
        pg_array_add_int8(&published, seq_of(retry, i));
    if (retry->refused)
        refused = PG_INT8(seq_of(retry, retry->sent));
    CRASH_POINT("retry.before_store");
    rc = publisher_wrote(p, cursor_write(&p->cursor, &p->writer, SQL_RETRY_STORE,
                                         PG_ARGS(PG_ARRAY(&published), refused,
                                                 PG_TEXT(retry->refused ? retry->why : NULL)),
                                         &rows, err));
    CRASH_POINT("retry.after_store");
    if (rc == 0 && retry->refused)
        log_answer(p, retry, "a retry was refused; the rest stays in outbox.parked");
    pg_array_clear(&published);
    pg_rows_clear(&rows);
    return rc;
}

/* Nothing of the pair is left: it flows again. */
static int
release(struct publisher *p, const struct retry *retry, struct saga_error *err)
{
    struct pg_rows rows = PG_ROWS_INIT;
    int rc;

    CRASH_POINT("retry.before_release");
    rc = publisher_wrote(p, cursor_write(&p->cursor, &p->writer, SQL_RETRY_RELEASE,
                                         PG_ARGS(PG_TEXT(retry->topic), PG_TEXT(retry->key.data)),
                                         &rows, err));
    CRASH_POINT("retry.after_release");
    if (rc == 0) {
        parked_release(&p->parked, retry->topic, retry->key);
        log_answer(p, retry, "a parked key flows again");
    }
    pg_rows_clear(&rows);
    return rc;
}

static int
carry_out(struct publisher *p, struct retry *retry, struct saga_error *err)
{
    int rc = read_page(p, retry, err);

    if (rc == 0 && retry->rows.n == 0)
        /* Of messages without a key only those are read that are asked for. */
        return retry->key.data != NULL ? release(p, retry, err) : 0;
    if (rc == 0)
        rc = publish(p, retry, err);
    if (rc == 0)
        rc = store(p, retry, err);
    if (rc == 0 && publisher_stopped(p))
        /* librdkafka reads payloads where they lie. */
        outlet_close(&p->outlet);
    judge_close(&p->outlet.judge);
    return rc;
}

int
retry_step(struct publisher *p, bool now, bool *did, struct saga_error *err)
{
    struct pg_rows request = PG_ROWS_INIT;
    struct retry retry = { 0 };
    int rc;

    *did = false;
    if (!parked_any(&p->parked) || (!now && clock_mono_ms() - p->parked.looked_ms < LOOK_MS))
        return 0;
    rc = next_request(p, &request, err);
    if (rc != 0 || request.n == 0)
        goto out;
    *did = true;
    p->parked.looked_ms = 0; /* the next part at once */
    retry.topic = pg_text(&request, 0, 0);
    retry.key = pg_bytes(&request, 0, 1);
    rc = begin(p, &retry, pg_int(&request, 0, 2), err);
    if (rc == 0)
        rc = carry_out(p, &retry, err);
out:
    if (rc != 0)
        outlet_close(&p->outlet); /* before the rows that it reads from */
    pg_rows_clear(&retry.rows);
    pg_rows_clear(&request);
    return rc;
}
