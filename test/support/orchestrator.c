/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The orchestrator under test.
 */
#include "test/support/orchestrator.h"

#include "test/support/run.h"
#include "test/support/wait.h"

#define STEP(text)                                                                                 \
    .name = (text), .command_topic = "inventory.commands", .attempts_max = 2, .timeout_ms = 150

/* Its participant is the inventory of test/support. */
static const struct saga_step order_steps[] = {
    { STEP("reserve") },
    { STEP("charge"), .kind = SAGA_PIVOT },
};
const struct saga_definition order = { SAGA_DEFINITION("order", order_steps),
                                       .reply_topic = "order.replies" };

PGconn *orders, *inventory_db;
struct post commands, replies;
char order_id[37];

static struct saga_worker *worker;
static struct saga_error err;

static void
given_orders(void)
{
    const char *conninfo = given_database();
    const struct saga_worker_options options = { SAGA_WORKER_OPTIONS, .conninfo = conninfo };

    orders = db_connect(conninfo);
    commands.from = orders;
    ck_assert_msg(saga_worker_new(&worker, &options, &err) == 0, "%s", err.message);
    ck_assert_msg(saga_worker_add(worker, &order, NULL, &err) == 0, "%s", err.message);
}

static void
given_started(void)
{
    struct saga_uuid id;

    ck_assert_int_eq(saga_begin(orders, &err), 0);
    ck_assert_msg(saga_start(orders, &order, "order-42",
                             SAGA_PAIRS({ "sku", "lamp" }, { "traceparent", "00-0af7-b7ad-01" }),
                             &id, &err) == 0,
                  "%s", err.message);
    ck_assert_int_eq(saga_commit(orders, &err), 0);
    saga_uuid_text(&id, order_id);
}

void
given_orchestrator(void)
{
    given_inventory(&inventory_db);
    replies.from = inventory_db;
    given_orders();
    given_started();
}

void
end_orchestrator(void)
{
    saga_worker_free(worker);
    PQfinish(orders);
}

/* --- what the two sides do ---------------------------------------------------- */

bool
work(void)
{
    ck_assert_msg(saga_worker_run(worker, SAGA_RUN_UNTIL_IDLE, &err) == 0, "%s", err.message);
    return true;
}

struct saga_record
command_for(const char *step, const char *action, int attempt)
{
    struct saga_record record;

    WAIT_UNTIL(work() && post_take(&commands, &record), 5000);
    ck_assert_str_eq(text_of("%s %s %s", record_text(&record, "saga-step"),
                             record_text(&record, "saga-action"),
                             record_text(&record, "saga-attempt")),
                     text_of("%s %s %d", step, action, attempt));
    return record;
}

struct saga_record
carried_out(struct saga_record command)
{
    struct saga_record reply;

    ck_assert_msg(deliver(inventory_db, &command, NULL) == 0, "%s", deliver_error.message);
    ck_assert(post_take(&replies, &reply));
    return reply;
}

int
apply_reply(const struct saga_record *reply)
{
    int32_t verdict;
    int rc;

    ck_assert_int_eq(saga_begin(orders, &err), 0);
    ck_assert_int_eq(saga_inbox_enter(orders, "order", reply, &verdict, &err), 0);
    rc = verdict == SAGA_INBOX_NEW ? saga_reply_handle(orders, &order, reply, &err) : 0;
    if (rc == 0)
        ck_assert_msg(saga_commit(orders, NULL) == 0, "not committed");
    else
        saga_rollback(orders);
    return rc;
}

void
replied(struct saga_record reply)
{
    ck_assert_msg(apply_reply(&reply) == 0, "%s", err.message);
}

const char *
order_state(void)
{
    return db_text(orders, "SELECT state FROM saga.instance WHERE id = '%s'", order_id);
}

const char *
order_rows(void)
{
    return db_text(orders,
                   "SELECT concat_ws(' / ', i::text, (SELECT count(*) FROM saga.history),"
                   " (SELECT count(*) FROM outbox.message)) FROM saga.instance i"
                   " WHERE id = '%s'",
                   order_id);
}

void
expect_stale(struct saga_record reply)
{
    const char *before = order_rows();

    replied(reply);
    ck_assert_str_eq(order_rows(), before);
}
