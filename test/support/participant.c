/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inventory service of the participants' tests.
 */
#include "test/support/participant.h"

#include "test/support/db.h"
#include "test/support/run.h"

#include <stdlib.h>
#include <string.h>

struct saga_error deliver_error;

static int
write_effect(struct saga_ctx *ctx, const char *step, const char *action)
{
    return saga_exec(ctx, NULL, "INSERT INTO effect VALUES ($1::uuid, $2, $3)",
                     SAGA_TEXTS(saga_id(ctx), step, action));
}

static int
reserve(struct saga_ctx *ctx, void *user)
{
    int rc = write_effect(ctx, "reserve", "run");

    (void)user;
    if (rc == 0)
        rc = saga_set(ctx, "shelf", "B7");
    if (rc == 0)
        rc = saga_exec(ctx, "out of stock",
                       "UPDATE stock SET free = free - 1 WHERE sku = $1 AND free > 0",
                       SAGA_TEXTS(saga_get(ctx, "sku")));
    return rc;
}

static int
release(struct saga_ctx *ctx, void *user)
{
    int rc = write_effect(ctx, "reserve", "compensate");

    (void)user;
    return rc != 0 ? rc
                   : saga_exec(ctx, NULL, "UPDATE stock SET free = free + 1 WHERE sku = $1",
                               SAGA_TEXTS(saga_get(ctx, "sku")));
}

static int
run_script(struct saga_ctx *ctx, void *user, const char *action)
{
    struct script *script = user;
    int rc = write_effect(ctx, "scripted", action);

    script->calls++;
    return rc != 0 || script->then == NULL ? rc : script->then(ctx, script->arg);
}

static int
scripted_run(struct saga_ctx *ctx, void *user)
{
    return run_script(ctx, user, "run");
}

static int
scripted_compensate(struct saga_ctx *ctx, void *user)
{
    return run_script(ctx, user, "compensate");
}

static int
charge(struct saga_ctx *ctx, void *user)
{
    (void)user;
    return write_effect(ctx, "charge", "run");
}

static const struct saga_step steps[] = {
    { .name = "reserve", .run = reserve, .compensate = release },
    { .name = "scripted", .run = scripted_run, .compensate = scripted_compensate },
    { .name = "charge", .kind = SAGA_PIVOT, .run = charge },
};
const struct saga_definition inventory = { SAGA_DEFINITION("inventory", steps) };

const char *
given_inventory(PGconn **conn)
{
    const char *conninfo = given_database();

    *conn = given_session(conninfo);
    db_exec(*conn, "CREATE TABLE stock (sku text, free int);"
                   "INSERT INTO stock VALUES ('lamp', 2);"
                   "CREATE TABLE effect (saga_id uuid, step text, action text)");
    return conninfo;
}

/* --- commands -------------------------------------------------------------- */

enum { HEADERS_MAX = 12 };

static struct saga_pair *
new_headers(const struct saga_pair *from)
{
    struct saga_pair *headers = calloc(HEADERS_MAX, sizeof *headers);
    size_t n = 0;

    ck_assert_ptr_nonnull(headers);
    at_test_end(free, headers);
    for (; from != NULL && from[n].name != NULL; n++)
        headers[n] = from[n];
    return headers;
}

struct saga_record
a_command(const char *saga_id, const char *step, const char *action, const char *payload)
{
    struct saga_record record = {
        .topic = "inventory.commands",
        .key = { saga_id, strlen(saga_id) },
        .payload = { payload, payload != NULL ? strlen(payload) : 0 },
        .headers =
            new_headers(SAGA_PAIRS({ "saga-id", saga_id }, { "saga-definition", "order" },
                                   { "saga-step", step }, { "saga-action", action },
                                   { "saga-attempt", "1" }, { "saga-reply-to", "order.replies" })),
    };

    return with_new_id(record);
}

struct saga_record
with_header(struct saga_record record, const char *name, const char *value)
{
    struct saga_pair *headers = new_headers(record.headers);
    size_t n = 0, at;

    for (at = HEADERS_MAX; headers[n].name != NULL; n++)
        if (strcmp(headers[n].name, name) == 0)
            at = n;
    if (value != NULL)
        headers[at < n ? at : n] = (struct saga_pair){ name, value };
    else if (at < n)
        headers[at].value = "";
    record.headers = headers;
    return record;
}

struct saga_record
with_new_id(struct saga_record record)
{
    ck_assert_int_eq(saga_uuid_make(&record.id, NULL), 0);
    return record;
}

int
deliver(PGconn *conn, const struct saga_record *record, struct script *script)
{
    int32_t verdict = SAGA_INBOX_NEW;
    struct saga_error err;
    int rc;

    ck_assert_msg(saga_begin(conn, &err) == 0, "%s", err.message);
    ck_assert_msg(saga_inbox_enter(conn, GROUP, record, &verdict, &err) == 0, "%s", err.message);
    rc = saga_command_handle(conn, GROUP, &inventory, record, verdict == SAGA_INBOX_DUPLICATE,
                             script, &deliver_error);
    if (rc == 0)
        ck_assert_msg(saga_commit(conn, &err) == 0, "%s", err.message);
    else
        saga_rollback(conn);
    return rc;
}

/* --- what came of it --------------------------------------------------------- */

#define REPLY_N "(SELECT * FROM outbox.message ORDER BY seq OFFSET %d LIMIT 1) m"

int
reply_count(PGconn *conn)
{
    return (int)db_int(conn, "SELECT count(*) FROM outbox.message");
}

const char *
reply_header(PGconn *conn, int n, const char *name)
{
    return db_text(conn, "SELECT substring(headers FROM '(?n)^%s: (.*)$') FROM " REPLY_N, name, n);
}

const char *
reply_payload(PGconn *conn, int n)
{
    return db_text(conn, "SELECT convert_from(payload, 'UTF8') FROM " REPLY_N, n);
}

void
expect_step_effects(PGconn *conn, const char *saga_id, const char *step, int runs,
                    int compensations)
{
    ck_assert_str_eq(db_text(conn,
                             "SELECT format('%%s of %%s runs %%s compensations', '%s',"
                             " count(*) FILTER (WHERE action = 'run'),"
                             " count(*) FILTER (WHERE action = 'compensate'))"
                             " FROM effect WHERE saga_id = '%s' AND step = '%s'",
                             step, saga_id, step),
                     text_of("%s of %d runs %d compensations", step, runs, compensations));
}

void
expect_reply(PGconn *conn, int n, const char *action, const char *outcome, const char *reason)
{
    const char *said = reply_header(conn, n, "saga-reason");

    ck_assert_int_gt(reply_count(conn), n);
    ck_assert_str_eq(text_of("%s %s: %s", reply_header(conn, n, "saga-action"),
                             reply_header(conn, n, "saga-outcome"), said != NULL ? said : "-"),
                     text_of("%s %s: %s", action, outcome, reason != NULL ? reason : "-"));
    ck_assert_str_eq(
        db_text(conn,
                "SELECT topic || ' ' || (key = substring(headers FROM '(?n)^saga-id: (.*)$'))"
                " FROM " REPLY_N,
                n),
        "order.replies true");
}
