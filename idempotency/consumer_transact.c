/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The transaction of a batch, in this order and no other:
 *
 *   1. BEGIN; the offsets are opened, where we left them; the inbox rows: new,
 *      duplicate, or another message's id (one round trip); what is given up, or
 *      stands behind such a one, is parked
 *   2. the handlers, in the order of the messages
 *   3. the offsets are moved and closed; COMMIT, checked
 *
 * Owns no decision about what comes after a failure: consumer_apply.c.
 */
#include "base/crash.h"
#include "idempotency/consumer_state.h"
#include "idempotency/inbox_batch.h"
#include "idempotency/sql.h"

#include <stdlib.h>
#include <string.h>

/* --- 1: BEGIN, offsets, inbox ------------------------------------------------- */

struct offsets {
    struct pg_array topics, partitions, at;
    struct pg_arg args[4];
    struct pg_rows rows;
    size_t n;
};

static void
offsets_init(struct offsets *offsets, const char *group)
{
    *offsets = (struct offsets){ .n = 0 };
    pg_array_init(&offsets->topics, PG_OID_TEXT_ARRAY);
    pg_array_init(&offsets->partitions, PG_OID_INT4_ARRAY);
    pg_array_init(&offsets->at, PG_OID_INT8_ARRAY);
    offsets->args[0] = PG_TEXT(group);
}

static void
offsets_add(struct offsets *offsets, const struct partition *partition, int64_t at)
{
    pg_array_add_text(&offsets->topics, partition->topic);
    pg_array_add_int4(&offsets->partitions, partition->number);
    pg_array_add_int8(&offsets->at, at);
    offsets->n++;
}

static struct pg_statement
offsets_statement(struct offsets *offsets, const char *sql)
{
    offsets->args[1] = PG_ARRAY(&offsets->topics);
    offsets->args[2] = PG_ARRAY(&offsets->partitions);
    offsets->args[3] = PG_ARRAY(&offsets->at);
    return (struct pg_statement){
        .sql = sql, .args = offsets->args, .n_args = 4, .rows = &offsets->rows
    };
}

static void
offsets_clear(struct offsets *offsets)
{
    pg_array_clear(&offsets->topics);
    pg_array_clear(&offsets->partitions);
    pg_array_clear(&offsets->at);
    pg_rows_clear(&offsets->rows);
}

/* Which partitions were not where we left them: `opened` has the ordinals of
 * those with a row that were; those without one are told by their number only. */
static int
check_opened(struct batch *batch, const struct offsets *opened, const struct offsets *made,
             struct saga_error *err)
{
    size_t with_row = 0;

    if ((size_t)opened->rows.n == opened->n && (size_t)made->rows.affected == made->n)
        return 0;
    for (size_t i = 0; i < batch->n_touched; i++) {
        struct touched *touched = &batch->touched[i];

        touched->fenced = true;
        if (touched->partition->committed == OFFSET_NONE) {
            touched->fenced = (size_t)made->rows.affected != made->n;
            continue;
        }
        with_row++;
        for (int row = 0; row < opened->rows.n; row++)
            if (pg_int(&opened->rows, row, 0) == (int64_t)with_row)
                touched->fenced = false;
    }
    return error_set(err, SAGA_EFENCED, "an offset is not where this consumer left it");
}

static int
send_opening(struct saga_consumer *consumer, struct inbox_batch *inbox, struct offsets *open,
             struct offsets *make, struct saga_error *err)
{
    struct pg_statement statements[5] = { { .sql = PG_SQL_BEGIN }, { .sql = PG_SQL_DURABLE } };
    size_t n = 2;
    int rc;

    if (open->n > 0)
        statements[n++] = offsets_statement(open, SQL_OFFSETS_OPEN);
    if (make->n > 0)
        statements[n++] = offsets_statement(make, SQL_OFFSETS_MAKE);
    if (inbox->n > 0)
        statements[n++] = inbox_batch_enter(inbox);
    if (open->at.bytes.failed || open->topics.bytes.failed || inbox->hashes.bytes.failed ||
        inbox->topics.bytes.failed || inbox->ids.bytes.failed)
        return error_set(err, SAGA_ENOMEM, "out of memory");
    rc = pg_batch_send(&consumer->pg, statements, n, err);
    if (rc != 0)
        return rc;
    kafka_read(consumer, 2);
    return pg_batch_receive(&consumer->pg, statements, n, err);
}

static int
take_verdicts(struct saga_consumer *consumer, struct batch *batch, struct inbox_batch *inbox,
              struct saga_error *err)
{
    int32_t *verdicts = consumer->verdicts;
    int rc = inbox->n > 0 ? inbox_batch_verdicts(inbox, verdicts, err) : 0;

    if (inbox->n == 0)
        memset(verdicts, 0, batch->n * sizeof *verdicts); /* SAGA_INBOX_NEW: nobody was asked */
    for (size_t i = 0; rc == 0 && i < batch->n; i++)
        batch->items[i]->verdict =
            batch->items[i]->record.flaw == NULL ? *verdicts++ : SAGA_INBOX_NEW;
    return rc;
}

static int
begin(struct saga_consumer *consumer, struct batch *batch, struct saga_error *err)
{
    struct offsets open, make;
    struct inbox_batch inbox;
    int rc;

    offsets_init(&open, consumer->options.group);
    offsets_init(&make, consumer->options.group);
    inbox_batch_init(&inbox, consumer->options.group);
    for (size_t i = 0; i < batch->n_touched; i++) {
        const struct touched *touched = &batch->touched[i];

        if (touched->partition->committed != OFFSET_NONE)
            offsets_add(&open, touched->partition, touched->partition->committed);
        else
            offsets_add(&make, touched->partition, touched->first);
    }
    for (size_t i = 0; consumer->options.mode != SAGA_MODE_REDIS && i < batch->n; i++)
        if (batch->items[i]->record.flaw == NULL)
            inbox_batch_add(&inbox, &batch->items[i]->record.public);
    rc = send_opening(consumer, &inbox, &open, &make, err);
    if (rc == 0)
        rc = check_opened(batch, &open, &make, err);
    if (rc == 0)
        rc = take_verdicts(consumer, batch, &inbox, err);
    if (rc == 0)
        rc = park_batch(consumer, batch, err);
    inbox_batch_clear(&inbox);
    offsets_clear(&open);
    offsets_clear(&make);
    return rc;
}

/* --- 2: handlers ---------------------------------------------------------------- */

static bool
is_for_handler(const struct taken *taken)
{
    return taken->record.flaw == NULL && !taken->parked &&
           (taken->verdict == SAGA_INBOX_NEW ||
            (taken->verdict == SAGA_INBOX_DUPLICATE && taken->partition->route->answers));
}

/* All of its route at once, where it is the first of them. */
static int
handle_many(struct saga_consumer *consumer, const struct batch *batch, size_t from,
            struct saga_error *err)
{
    const struct consumer_route *route = batch->items[from]->partition->route;
    const struct saga_record **records = consumer->records;
    size_t n = 0;

    for (size_t i = 0; i < from; i++)
        if (batch->items[i]->partition->route == route && is_for_handler(batch->items[i]))
            return 0;
    for (size_t i = from; i < batch->n; i++) {
        struct taken *taken = batch->items[i];

        if (taken->partition->route != route || !is_for_handler(taken))
            continue;
        if (record_read_headers(&taken->record, err) != 0)
            return err->code;
        records[n++] = &taken->record.public;
    }
    return call_handler_of_many(consumer, route, records, n, err);
}

static const char *
why_never(int32_t verdict)
{
    switch (verdict) {
    case SAGA_INBOX_BELOW:
        return "its id is older than what the inbox still knows";
    case SAGA_INBOX_FUTURE:
        return "its id is from the future";
    default:
        return "same id, other contents";
    }
}

/* What becomes of a message that is in the inbox, or in no state to be. */
static int
handle(struct saga_consumer *consumer, const struct batch *batch, size_t i, struct saga_error *err)
{
    struct taken *taken = batch->items[i];

    if (taken->record.flaw != NULL)
        return quarantine(consumer, taken, taken->record.flaw, err);
    if (taken->verdict >= SAGA_INBOX_CONFLICT)
        return quarantine(consumer, taken, why_never(taken->verdict), err);
    if (!is_for_handler(taken))
        return 0;
    if (taken->partition->route->many != NULL && batch->n > 1)
        return handle_many(consumer, batch, i, err);
    if (record_read_headers(&taken->record, err) != 0)
        return err->code;
    return call_handler(consumer, taken->partition->route, &taken->record.public, taken->verdict,
                        err);
}

static int
handle_all(struct saga_consumer *consumer, const struct batch *batch, struct taken **failed,
           struct saga_error *err)
{
    int rc = 0;

    for (size_t i = 0; i < batch->n; i++) {
        struct taken *taken = batch->items[i];

        rc = handle(consumer, batch, i, err);
        if (rc != 0) {
            if (batch->n == 1 || taken->partition->route->many == NULL)
                *failed = taken;
            break;
        }
        kafka_alive(consumer);
    }
    return rc;
}

/* --- 3: offsets, COMMIT ----------------------------------------------------------- */

static int
close_offsets(struct saga_consumer *consumer, const struct batch *batch, struct saga_error *err)
{
    struct pg_statement statement;
    struct offsets offsets;
    int rc;

    offsets_init(&offsets, consumer->options.group);
    for (size_t i = 0; i < batch->n_touched; i++)
        offsets_add(&offsets, batch->touched[i].partition, batch->touched[i].next);
    statement = offsets_statement(&offsets, SQL_OFFSETS_CLOSE);
    if (offsets.topics.bytes.failed || offsets.at.bytes.failed)
        rc = error_set(err, SAGA_ENOMEM, "out of memory");
    else
        rc = pg_exec(&consumer->pg, statement.sql, statement.args, statement.n_args, &offsets.rows,
                     err);
    if (rc == 0 && offsets.rows.affected != (int64_t)offsets.n)
        rc = error_set(err, SAGA_ESTATE,
                       "the handler has ended the transaction and begun another one");
    offsets_clear(&offsets);
    return rc;
}

int
transact(struct saga_consumer *consumer, struct batch *batch, struct taken **failed,
         struct saga_error *err)
{
    bool begun;
    int rc;

    *failed = NULL;
    rc = begin(consumer, batch, err);
    CRASH_POINT("consumer.after_inbox");
    begun = rc == 0;
    if (rc == 0)
        rc = handle_all(consumer, batch, failed, err);
    CRASH_POINT("consumer.after_handlers");
    if (rc == 0)
        rc = close_offsets(consumer, batch, err);
    CRASH_POINT("consumer.before_commit");
    if (rc == 0)
        rc = pg_commit(&consumer->pg, err);
    else
        pg_rollback(&consumer->pg);
    CRASH_POINT("consumer.after_commit");
    /* A deferred constraint speaks at COMMIT. */
    if (rc < 0 && begun && batch->n == 1 && pg_connected(&consumer->pg))
        *failed = batch->items[0];
    return rc;
}
