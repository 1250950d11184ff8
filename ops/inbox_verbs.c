/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sagactl inbox quarantine, release, reject, parked, retry, discard, show, audit, waiting
 * and horizon: looks at what consumers could not apply, and calls the SQL functions that are
 * the operators' verbs.
 */
#include "ops/inbox_sql.h"
#include "ops/ops.h"
#include "ops/output.h"

#include <stdio.h>
#include <stdlib.h>

static int
finish(int rc, struct saga_error *err)
{
    return rc == 0 ? EXIT_DONE : complain_refusal(err);
}

static const char *
word(const struct call *call, int n)
{
    return call->n_words > n ? call->words[n] : NULL;
}

/* --- looking ------------------------------------------------------------------ */

int
inbox_quarantine(struct call *call)
{
    bool json = call->options.json;
    struct saga_error err = { 0 };
    int rc = pg_connect(&call->pg, &err);

    if (rc == 0)
        rc = output_query(&call->pg, json, json ? SQL_HELD : SQL_HELD_SHORT,
                          PG_ARGS(PG_INT8(call->options.limit), PG_TEXT(word(call, 0))), &err);
    return finish(rc, &err);
}

int
inbox_parked(struct call *call)
{
    bool json = call->options.json;
    struct saga_error err = { 0 };
    int rc = pg_connect(&call->pg, &err);

    if (rc == 0)
        rc = output_query(
            &call->pg, json, json ? SQL_INBOX_PARKED : SQL_INBOX_PARKED_SHORT,
            PG_ARGS(PG_INT8(call->options.limit), PG_TEXT(word(call, 0)), PG_TEXT(word(call, 1))),
            &err);
    return finish(rc, &err);
}

static bool
read_number(int64_t *number, const char *word)
{
    char *end;
    long long value = strtoll(word, &end, 10);

    if (*end != '\0' || value <= 0)
        return false;
    *number = value;
    return true;
}

/* What a message id or a number of the quarantine stands for. */
static int
show(struct call *call, const struct saga_uuid *id, const struct pg_arg *number,
     struct saga_error *err)
{
    const struct pg_arg args[] = { PG_UUID(id), *number, PG_BOOL(call->options.payload) };
    struct pg_rows rows = PG_ROWS_INIT;
    int rc = pg_exec(&call->pg, SQL_INBOX_IS_KNOWN, args, 2, &rows, err);
    bool known = rows.n > 0;

    pg_rows_clear(&rows);
    if (rc == 0 && !known)
        return error_set(err, SAGA_ENOTFOUND,
                         "no consumer of this database knows a message %s (any more)",
                         call->words[0]);
    if (rc == 0 && call->options.json)
        return output_query(&call->pg, true, SQL_INBOX_MESSAGE, args, 3, err);
    if (rc == 0)
        rc = output_record(&call->pg, false, SQL_INBOX_MESSAGE_SHORT, args, 3, err);
    if (rc == 0 && call->options.payload)
        rc = output_payloads(&call->pg, SQL_INBOX_PAYLOADS, args, 3, err);
    return rc;
}

int
inbox_show(struct call *call)
{
    struct pg_arg number = { .type = PG_OID_INT8 };
    struct saga_error err = { 0 };
    struct saga_uuid id;
    bool is_id = saga_uuid_parse(&id, call->words[0], NULL) == 0;
    int64_t n = 0;
    int rc;

    if (!is_id && !read_number(&n, call->words[0])) {
        complain("\"%s\" is neither the id of a message nor a number of the quarantine",
                 call->words[0]);
        return EXIT_USAGE;
    }
    if (!is_id)
        number = PG_INT8(n);
    rc = pg_connect(&call->pg, &err);
    /* One snapshot for all parts. */
    if (rc == 0)
        rc = pg_exec(&call->pg, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", PG_NO_ARGS, NULL,
                     &err);
    if (rc == 0)
        rc = show(call, is_id ? &id : NULL, &number, &err);
    pg_rollback(&call->pg);
    return finish(rc, &err);
}

int
inbox_audit(struct call *call)
{
    struct saga_error err = { 0 };
    int rc = pg_connect(&call->pg, &err);

    if (rc == 0)
        rc = output_query(&call->pg, call->options.json, SQL_INBOX_AUDIT,
                          PG_ARGS(PG_INT8(call->options.limit)), &err);
    return finish(rc, &err);
}

int
inbox_waiting(struct call *call)
{
    bool json = call->options.json;
    struct saga_error err = { 0 };
    int rc = pg_connect(&call->pg, &err);

    if (rc == 0)
        rc = output_query(&call->pg, json, json ? SQL_WAITING : SQL_WAITING_SHORT,
                          PG_ARGS(PG_INT8(call->options.limit), PG_TEXT(word(call, 0))), &err);
    return finish(rc, &err);
}

int
inbox_horizon(struct call *call)
{
    struct saga_error err = { 0 };
    int rc = pg_connect(&call->pg, &err);

    if (rc == 0)
        rc = output_record(&call->pg, call->options.json, SQL_HORIZON, PG_NO_ARGS, &err);
    return finish(rc, &err);
}

/* --- changing something --------------------------------------------------------- */

/* `said` NULL: the statement's second column says it. */
static int
request(struct call *call, const char *sql, const struct pg_arg *args, int n_args, const char *said)
{
    struct pg_rows rows = PG_ROWS_INIT;
    struct saga_error err = { 0 };
    int rc = pg_connect(&call->pg, &err);

    if (rc == 0)
        rc = pg_exec(&call->pg, sql, args, n_args, &rows, &err);
    if (rc == 0)
        puts(call->options.json ? pg_text(&rows, 0, 0)
             : said != NULL     ? said
                                : pg_text(&rows, 0, 1));
    pg_rows_clear(&rows);
    return finish(rc, &err);
}

static int
settle(struct call *call, const char *sql, const char *said)
{
    int64_t id;

    if (!read_number(&id, call->words[0])) {
        complain("\"%s\" is not a number of the quarantine; sagactl inbox quarantine shows them",
                 call->words[0]);
        return EXIT_USAGE;
    }
    return request(call, sql, PG_ARGS(PG_INT8(id), PG_TEXT(call->options.reason)), said);
}

int
inbox_release(struct call *call)
{
    return settle(call, SQL_RELEASE,
                  "released; the consumer applies it (until then: sagactl inbox parked)");
}

int
inbox_reject(struct call *call)
{
    return settle(call, SQL_REJECT, "rejected; it is never applied");
}

int
inbox_retry(struct call *call)
{
    if (call->options.all && call->n_words > 2) {
        complain("inbox retry: a key, or --all");
        return EXIT_USAGE;
    }
    if (call->options.all)
        return request(call, SQL_INBOX_RETRY_ALL,
                       PG_ARGS(PG_TEXT(call->words[0]), PG_TEXT(call->words[1]),
                               PG_TEXT(call->options.reason)),
                       NULL);
    return request(call, SQL_INBOX_RETRY,
                   PG_ARGS(PG_TEXT(call->words[0]), PG_TEXT(call->words[1]), PG_TEXT(word(call, 2)),
                           PG_TEXT(call->options.reason)),
                   "retry is asked for; the consumer carries it out (sagactl inbox parked shows "
                   "what is left)");
}

int
inbox_discard(struct call *call)
{
    struct saga_uuid id;

    if (saga_uuid_parse(&id, call->words[1], NULL) != 0) {
        complain("\"%s\" is not the id of a message", call->words[1]);
        return EXIT_USAGE;
    }
    return request(
        call, SQL_INBOX_DISCARD,
        PG_ARGS(PG_TEXT(call->words[0]), PG_UUID(&id), PG_TEXT(call->options.reason)),
        "discarded; if later messages of its key are parked, they wait for sagactl inbox retry");
}
