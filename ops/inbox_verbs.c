/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sagactl inbox quarantine, release, reject, parked, retry, discard, waiting and
 * horizon: looks at what consumers could not apply, and calls the SQL functions that are
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
    char *end;
    long long id = strtoll(call->words[0], &end, 10);

    if (*end != '\0' || id <= 0) {
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
