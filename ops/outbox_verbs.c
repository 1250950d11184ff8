/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sagactl outbox status, parked, retry, discard, show and audit: looks at the outbox's
 * views, and calls the SQL functions that are the operators' verbs.
 */
#include "ops/ops.h"
#include "ops/outbox_sql.h"
#include "ops/output.h"

#include <stdio.h>

static int
finish(int rc, struct saga_error *err)
{
    return rc == 0 ? EXIT_DONE : complain_refusal(err);
}

int
outbox_status(struct call *call)
{
    struct saga_error err = { 0 };
    int rc = pg_connect(&call->pg, &err);

    if (rc == 0 && call->options.json)
        rc = output_query(&call->pg, true, SQL_OUTBOX_STATUS_JSON, PG_NO_ARGS, &err);
    else if (rc == 0)
        rc = output_query(&call->pg, false, SQL_OUTBOX_STATUS, PG_NO_ARGS, &err);
    if (rc == 0 && !call->options.json) {
        putchar('\n');
        rc = output_record(&call->pg, false, SQL_OUTBOX_BESIDE, PG_NO_ARGS, &err);
    }
    return finish(rc, &err);
}

/* --- what is parked ---------------------------------------------------------- */

int
outbox_parked(struct call *call)
{
    const struct pg_arg args[] = { PG_INT8(call->options.limit),
                                   PG_TEXT(call->n_words > 0 ? call->words[0] : NULL),
                                   PG_TEXT(call->n_words > 1 ? call->words[1] : NULL) };
    bool json = call->options.json;
    struct saga_error err = { 0 };
    int rc = pg_connect(&call->pg, &err);

    if (rc == 0 && call->n_words == 0)
        rc = output_query(&call->pg, json, json ? SQL_PARKED_PAIRS : SQL_PARKED_PAIRS_SHORT, args,
                          1, &err);
    else if (rc == 0)
        rc = output_query(&call->pg, json, json ? SQL_PARKED_MESSAGES : SQL_PARKED_MESSAGES_SHORT,
                          args, 3, &err);
    return finish(rc, &err);
}

/* One key, or the messages without one, or all of the topic. */
static int
ask_for_retry(struct call *call, struct pg_rows *rows, struct saga_error *err)
{
    const struct pg_arg topic = PG_TEXT(call->words[0]), reason = PG_TEXT(call->options.reason);

    if (call->options.all)
        return pg_exec(&call->pg, SQL_OUTBOX_RETRY_ALL, PG_ARGS(topic, reason), rows, err);
    return pg_exec(&call->pg, SQL_OUTBOX_RETRY,
                   PG_ARGS(topic, PG_TEXT(call->n_words > 1 ? call->words[1] : NULL), reason), rows,
                   err);
}

int
outbox_retry(struct call *call)
{
    struct pg_rows rows = PG_ROWS_INIT;
    struct saga_error err = { 0 };
    int rc;

    if (call->options.all && call->n_words > 1) {
        complain("outbox retry: a key, or --all");
        return EXIT_USAGE;
    }
    rc = pg_connect(&call->pg, &err);
    if (rc == 0)
        rc = ask_for_retry(call, &rows, &err);
    if (rc == 0 && pg_int(&rows, 0, 0) == 0)
        rc = error_set(&err, SAGA_ENOTFOUND, "nothing of topic \"%s\" is parked", call->words[0]);
    if (rc == 0 && call->options.json)
        printf("%s\n", pg_text(&rows, 0, 1));
    else if (rc == 0)
        puts("retry is asked for; the relay carries it out (sagactl outbox parked shows what is "
             "left)");
    pg_rows_clear(&rows);
    return finish(rc, &err);
}

/* --- one message --------------------------------------------------------------- */

static bool
read_id(struct saga_uuid *id, const char *word)
{
    if (saga_uuid_parse(id, word, NULL) == 0)
        return true;
    complain("\"%s\" is not the id of a message", word);
    return false;
}

int
outbox_discard(struct call *call)
{
    struct pg_rows rows = PG_ROWS_INIT;
    struct saga_error err = { 0 };
    struct saga_uuid id;
    int rc;

    if (!read_id(&id, call->words[0]))
        return EXIT_USAGE;
    rc = pg_connect(&call->pg, &err);
    if (rc == 0)
        rc = pg_exec(&call->pg, SQL_OUTBOX_DISCARD,
                     PG_ARGS(PG_UUID(&id), PG_TEXT(call->options.reason)), &rows, &err);
    if (rc == 0 && call->options.json)
        printf("%s\n", pg_text(&rows, 0, 0));
    else if (rc == 0)
        puts("discarded; if later messages of its key are parked, they wait for sagactl outbox "
             "retry");
    pg_rows_clear(&rows);
    return finish(rc, &err);
}

/* The title only if there is something below it. */
static int
print_section(struct pg *pg, const char *title, const char *sql, const struct saga_uuid *id,
              struct saga_error *err)
{
    struct pg_rows rows = PG_ROWS_INIT;
    int rc = pg_exec(pg, sql, PG_ARGS(PG_UUID(id)), &rows, err);
    bool any = rc == 0 && rows.n > 0;

    pg_rows_clear(&rows);
    if (!any)
        return rc;
    printf("\n%s\n", title);
    return output_query(pg, false, sql, PG_ARGS(PG_UUID(id)), err);
}

static int
show(struct call *call, const struct saga_uuid *id, struct saga_error *err)
{
    struct pg *pg = &call->pg;
    int rc = output_record(pg, false, SQL_MESSAGE, PG_ARGS(PG_UUID(id)), err);

    if (rc == 0)
        rc = print_section(pg, "IN KAFKA, IN ONE OF", SQL_MESSAGE_KAFKA, id, err);
    if (rc == 0)
        rc = print_section(pg, "OPERATORS", SQL_MESSAGE_AUDIT, id, err);
    if (rc == 0 && call->options.payload)
        rc = output_payloads(pg, SQL_MESSAGE_PAYLOADS, PG_ARGS(PG_UUID(id)), err);
    return rc;
}

static int
must_be_known(struct pg *pg, const struct saga_uuid *id, const char *word, struct saga_error *err)
{
    struct pg_rows rows = PG_ROWS_INIT;
    int rc = pg_exec(pg, SQL_MESSAGE, PG_ARGS(PG_UUID(id)), &rows, err);

    if (rc == 0 && rows.n == 0)
        rc = error_set(err, SAGA_ENOTFOUND, "there is no message with the id %s (any more)", word);
    pg_rows_clear(&rows);
    return rc;
}

int
outbox_show(struct call *call)
{
    struct saga_error err = { 0 };
    struct saga_uuid id;
    int rc;

    if (!read_id(&id, call->words[0]))
        return EXIT_USAGE;
    rc = pg_connect(&call->pg, &err);
    /* One snapshot for all parts. */
    if (rc == 0)
        rc = pg_exec(&call->pg, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", PG_NO_ARGS, NULL,
                     &err);
    if (rc == 0)
        rc = must_be_known(&call->pg, &id, call->words[0], &err);
    if (rc == 0 && call->options.json)
        rc = output_json(&call->pg, SQL_MESSAGE_JSON,
                         PG_ARGS(PG_UUID(&id), PG_BOOL(call->options.payload)), &err);
    else if (rc == 0)
        rc = show(call, &id, &err);
    pg_rollback(&call->pg);
    return finish(rc, &err);
}

int
outbox_audit(struct call *call)
{
    struct saga_error err = { 0 };
    int rc = pg_connect(&call->pg, &err);

    if (rc == 0)
        rc = output_query(&call->pg, call->options.json, SQL_OUTBOX_AUDIT,
                          PG_ARGS(PG_INT8(call->options.limit)), &err);
    return finish(rc, &err);
}
