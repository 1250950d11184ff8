/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The orchestrator applies one reply: the saga's row under its lock, what the
 * machine makes of it, history and the next command, all in the caller's
 * transaction (docs/protocol.md).
 *
 * Owns no transaction and no rule: whether a reply still counts is the
 * machine's decision, and it has to be asked for every one.
 */
#include "base/crash.h"
#include "saga/command_sql.h"
#include "saga/store.h"
#include "saga/wire.h"

#include <string.h>
#include <sys/random.h>

/* The reply's values as the instance takes them in; data NULL: none. Borrowed
 * from `rows`. */
static int
read_values(struct pg *pg, struct saga_bytes payload, struct saga_bytes *patch,
            struct pg_rows *rows, struct saga_error *err)
{
    const struct pg_arg json = { .type = PG_OID_TEXT, .data = payload.data, .len = payload.len };
    struct saga_error error;
    int rc;

    *patch = (struct saga_bytes){ NULL, 0 };
    if (payload.data == NULL || (payload.len == 2 && memcmp(payload.data, "{}", 2) == 0))
        return 0;
    if (payload.len > SAGA_VALUES_MAX)
        return error_set(err, SAGA_EINVAL, "the payload exceeds %d bytes", SAGA_VALUES_MAX);
    rc = pg_exec(pg, SQL_REPLY_VALUES, &json, 1, rows, &error);
    if (rc == 0) {
        *patch = pg_bytes(rows, 0, 0);
        return 0;
    }
    if (wire_payload_refused(&error))
        return error_set(err, SAGA_EINVAL, "the payload is not a JSON object: %s", error.message);
    if (err != NULL)
        *err = error;
    return rc;
}

static int
make_event(struct event *event, const struct wire_reply *reply, const struct definition *definition,
           struct saga_error *err)
{
    int step = definition_find(definition, reply->step);

    if (step < 0)
        return error_set(err, SAGA_EINVAL, "saga %s has no step '%.64s'", definition->name,
                         reply->step);
    *event = (struct event){ .kind = reply->unknown   ? EVENT_REPLY_UNKNOWN
                                     : reply->refused ? EVENT_REPLY_REFUSED
                                                      : EVENT_REPLY_DONE,
                             .step = (size_t)step,
                             .undo = reply->action == BARRIER_COMPENSATE,
                             .reason = reply->reason };
    return 0;
}

static int
save(struct pg *pg, const struct definition *definition, const struct store_change *change,
     struct saga_error *err)
{
    struct saga_error error;
    int rc = store_save(pg, definition, change, 1, &error);

    /* A constraint: together with what the saga has, the values are too many. */
    if (rc != 0 && strncmp(error.sqlstate, "23", 2) == 0)
        return error_set(err, SAGA_EINVAL, "the reply cannot be stored: %s", error.message);
    if (rc != 0 && err != NULL)
        *err = error;
    return rc;
}

static int
check_call(PGconn *tx, const struct saga_record *record, struct saga_error *err)
{
    error_clear(err);
    if (tx == NULL || record == NULL)
        return error_set(err, SAGA_EINVAL, "`%s` is NULL", tx == NULL ? "tx" : "record");
    return pg_check_tx(tx, err);
}

/* `stored` is locked until the caller's transaction ends. */
static int
apply(struct pg *pg, const struct definition *definition, const struct wire_reply *reply,
      struct saga_bytes payload, struct stored *stored, int64_t now_us, struct saga_error *err)
{
    struct store_change change = { .id = &stored->id,
                                   .version = stored->version,
                                   .instance = &stored->instance };
    char difference[SAGA_REASON_MAX + 1];
    struct pg_rows values = PG_ROWS_INIT;
    struct outcome outcome;
    struct event event;
    uint64_t random = 0;
    int rc = 0;

    if (getrandom(&random, sizeof random, 0) < 0)
        random = (uint64_t)now_us; /* only spreads delays */
    if (stored->matches) {
        rc = make_event(&event, reply, definition, err);
    } else {
        /* Its steps are not ours: it parks, as a worker would have it. When it
         * goes on the step is asked again and gets the same answer. */
        rc = store_difference(pg, definition, stored, difference, err);
        event = (struct event){ .kind = EVENT_MISMATCH, .reason = difference };
    }
    if (rc != 0)
        return rc;
    machine_move(definition, &stored->instance, &event, now_us, random, &outcome);
    if (outcome.stale || outcome.what == NULL)
        return 0; /* nobody waits for it */
    change.outcome = &outcome;
    if (event.kind == EVENT_REPLY_DONE)
        rc = read_values(pg, payload, &change.patch, &values, err);
    if (rc == 0)
        rc = save(pg, definition, &change, err);
    pg_rows_clear(&values);
    return rc;
}

int
saga_reply_handle(PGconn *tx, const struct saga_definition *definition,
                  const struct saga_record *record, struct saga_error *err)
{
    struct pg pg = pg_borrow(tx);
    struct store_batch batch = { 0 };
    struct definition table;
    struct wire_reply reply;
    char id[37];
    int rc = check_call(tx, record, err);

    if (rc == 0)
        rc = definition_read(&table, definition, DEFINITION_OF_SAGA, err);
    if (rc == 0)
        rc = wire_read_reply(&reply, record, err);
    if (rc == 0)
        rc = store_load(&pg, &table, &reply.saga_id, 1, &batch, err);
    if (rc != 0)
        return rc;
    if (batch.n == 1) {
        rc = apply(&pg, &table, &reply, record->payload, &batch.stored[0], batch.now_us, err);
    } else {
        saga_uuid_text(&reply.saga_id, id);
        rc = error_set(err, SAGA_ENOTFOUND, "no saga %s of definition %s in this database", id,
                       table.name);
    }
    CRASH_POINT("reply.after_save");
    store_batch_clear(&batch);
    return rc;
}
