/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One message through the protocol, in this order and no other:
 *
 *   1. the mark in Redis: done before? (a hint, see gate.h)
 *   2. BEGIN; the inbox row: new, duplicate, or another message's id
 *   3. the handler; the partition's offset; COMMIT, checked
 *   4. the mark "done"
 *   5. Kafka's offset
 *
 * Whatever dies in between leaves nothing, or leaves the effect together with
 * the inbox row that recognises the message when it comes again.
 */
#include "base/backoff.h"
#include "base/clock.h"
#include "base/crash.h"
#include "idempotency/consumer_state.h"
#include "idempotency/inbox.h"
#include "idempotency/sql.h"

#include <stdio.h>
#include <string.h>

enum { BUSY_MS = 50 };

/* --- 1 and 4: marks --------------------------------------------------------- */

static void
mark_name(const struct saga_consumer *consumer, const struct saga_record *record,
          char name[GATE_NAME_MAX])
{
    char id[37];

    /* The group: two consumers both want the message. The database: a mark
     * tells of commits that another one, or this one after a failover, may not
     * have. Not the topic: the same id from a retry topic is the same message. */
    saga_uuid_text(&record->id, id);
    snprintf(name, GATE_NAME_MAX, "saga:mark:%s:%s:%s", consumer->identity, consumer->options.group,
             id);
}

/* Somebody waits for an answer to each message; or the database is known to
 * have lost what marks may tell of; or this very message may be committed. */
static bool
marks_count(const struct saga_consumer *consumer, const struct partition *partition)
{
    return consumer->gate != NULL && !partition->route->answers && partition->record.flaw == NULL &&
           !partition->unknown && partition->message->offset >= partition->distrust_below;
}

static enum gate_verdict
ask_gate(struct saga_consumer *consumer, const struct partition *partition)
{
    char name[GATE_NAME_MAX];
    enum gate_verdict verdict;

    if (!marks_count(consumer, partition))
        return GATE_GO;
    mark_name(consumer, &partition->record.public, name);
    verdict = gate_enter(consumer->gate, name, partition->record.hash_text);
    if (verdict == GATE_SKIP && !database_same(consumer))
        return GATE_GO;
    return verdict;
}

static void
mark_done(struct saga_consumer *consumer, const struct partition *partition)
{
    char name[GATE_NAME_MAX];

    if (consumer->gate == NULL || partition->route->answers)
        return;
    mark_name(consumer, &partition->record.public, name);
    gate_done(consumer->gate, name, partition->record.hash_text);
}

/* --- 2 and 3: the transaction ------------------------------------------------ */

static int
quarantine(struct saga_consumer *consumer, const struct partition *partition, const char *reason,
           struct saga_error *err)
{
    static const struct saga_uuid none;
    const struct saga_record *public = &partition->record.public;
    bool has_id = memcmp(&public->id, &none, sizeof none) != 0;
    struct pg_array headers;
    int rc;

    pg_array_init(&headers, PG_OID_TEXT_ARRAY);
    rc = record_headers(partition->message, &headers, err);
    if (rc == 0)
        rc = pg_exec(&consumer->pg, SQL_QUARANTINE,
                     PG_ARGS(PG_TEXT(consumer->options.group), PG_TEXT(reason),
                             PG_UUID(has_id ? &public->id : NULL), PG_TEXT(public->topic),
                             PG_INT4(public->partition), PG_INT8(public->offset),
                             PG_BYTEA(public->hash), PG_BYTEA(public->key),
                             PG_BYTEA(public->payload), PG_ARRAY(&headers)),
                     NULL, err);
    pg_array_clear(&headers);
    return rc;
}

/* What the handler has left behind must be our transaction, in good health. */
static int
check_transaction(struct saga_consumer *consumer, struct saga_error *err)
{
    PGconn *conn = consumer->pg.conn;

    if (PQstatus(conn) != CONNECTION_OK)
        return error_set(err, SAGA_EDB, "the connection was lost inside the handler");
    if (PQpipelineStatus(conn) != PQ_PIPELINE_OFF)
        return error_set(err, SAGA_ESTATE, "the handler has left the connection in pipeline mode");
    switch (PQtransactionStatus(conn)) {
    case PQTRANS_INTRANS:
        return 0;
    case PQTRANS_IDLE:
        return error_set(err, SAGA_ESTATE,
                         "the handler has ended the transaction, which it must not; if it has "
                         "committed, the message counts as applied");
    case PQTRANS_INERROR:
        return error_set(err, SAGA_EDB,
                         "a statement of the handler failed, and it returned success");
    default:
        return error_set(err, SAGA_ESTATE, "the handler has left results unread");
    }
}

static int
call_handler(struct saga_consumer *consumer, struct partition *partition, int32_t verdict,
             struct saga_error *err)
{
    const struct consumer_route *route = partition->route;
    const struct saga_record *record = &partition->record.public;
    int rc;

    error_clear(err);
    PQsetnonblocking(consumer->pg.conn, 0);
    rc = route->plain != NULL ? route->plain(consumer->pg.conn, record, route->user, err)
                              : route->handle(consumer->pg.conn, record, verdict, route->user, err);
    CRASH_POINT("consumer.after_handler");
    if (rc == 0)
        return check_transaction(consumer, err);
    if (rc == SAGA_HANDLER_RETRY || (rc == ROUTE_QUARANTINE && route->plain == NULL))
        return rc;
    /* Whatever else it says is an error, and a code that means something among
     * ourselves means nothing in its mouth. */
    if (rc > 0 || err->message[0] == '\0')
        error_set(err, rc, "the handler returned %d", rc);
    err->code = rc > 0 ? SAGA_ESTATE : rc;
    return rc == SAGA_EFENCED || rc == SAGA_EUNKNOWN ? SAGA_EDB : err->code;
}

/* SAGA_EFENCED: the partition's offset is not where we left it. */
static int
move_offset(struct saga_consumer *consumer, struct partition *partition,
            const struct saga_uuid *written, struct saga_error *err)
{
    const struct saga_record *record = &partition->record.public;
    struct pg_rows rows = PG_ROWS_INIT;
    struct pg_arg from = PG_INT8(partition->committed);
    int rc;

    if (partition->committed == OFFSET_NONE)
        from = (struct pg_arg){ .type = PG_OID_INT8 };
    rc = pg_exec(&consumer->pg, SQL_OFFSET_MOVE,
                 PG_ARGS(PG_TEXT(consumer->options.group), PG_TEXT(record->topic),
                         PG_INT4(record->partition), from, PG_INT8(record->offset + 1),
                         PG_UUID(written)),
                 &rows, err);
    if (rc == 0 && !pg_bool(&rows, 0, 1))
        rc = error_set(err, SAGA_ESTATE,
                       "the handler has ended the transaction and begun another one");
    else if (rc == 0 && !pg_bool(&rows, 0, 0))
        rc = error_set(err, SAGA_EFENCED, "the offset is not where this consumer left it");
    pg_rows_clear(&rows);
    return rc;
}

/* What becomes of a message that is in the inbox, or in no state to be. */
static int
handle(struct saga_consumer *consumer, struct partition *partition, int32_t verdict,
       struct saga_error *err)
{
    const struct incoming *record = &partition->record;
    bool is_new = record->flaw == NULL && verdict == SAGA_INBOX_NEW;
    int rc = 0;

    if (record->flaw != NULL)
        rc = quarantine(consumer, partition, record->flaw, err);
    else if (verdict == SAGA_INBOX_CONFLICT)
        rc = quarantine(consumer, partition, "same id, other contents", err);
    else if (verdict == SAGA_INBOX_BELOW)
        rc =
            quarantine(consumer, partition, "its id is older than what the inbox still knows", err);
    else if (verdict == SAGA_INBOX_FUTURE)
        rc = quarantine(consumer, partition, "its id is from the future", err);
    else if (is_new || partition->route->answers)
        rc = call_handler(consumer, partition, verdict, err);
    if (rc == 0)
        rc = move_offset(consumer, partition, is_new ? &record->public.id : NULL, err);
    return rc;
}

/* One attempt. Returns 0 when it has committed; SAGA_HANDLER_RETRY,
 * ROUTE_QUARANTINE or a negative code when it has not, or SAGA_EUNKNOWN. */
static int
transact(struct saga_consumer *consumer, struct partition *partition, int32_t *verdict,
         struct saga_error *err)
{
    struct incoming *record = &partition->record;
    int rc = pg_begin_durable(&consumer->pg, err);

    CRASH_POINT("consumer.after_begin");
    if (rc == 0 && record->flaw == NULL)
        rc = inbox_enter(&consumer->pg, consumer->options.group, &record->public, verdict, err);
    CRASH_POINT("consumer.after_inbox");
    if (rc == 0)
        rc = handle(consumer, partition, *verdict, err);
    CRASH_POINT("consumer.before_commit");
    if (rc == 0)
        rc = pg_commit(&consumer->pg, err);
    else
        pg_rollback(&consumer->pg);
    CRASH_POINT("consumer.after_commit");
    return rc;
}

/* --- what came of it ---------------------------------------------------------- */

static void
alarm_conflict(struct saga_consumer *consumer, const struct saga_record *record)
{
    char id[37];

    saga_uuid_text(&record->id, id);
    atomic_fetch_add(&consumer->counters.conflicts, 1);
    log_event(&consumer->options.log, SAGA_LOG_ERROR,
              "same message-id, other contents: not applied, see idempotency.quarantine",
              LOG_TEXT("message_id", id), LOG_TEXT("topic", record->topic),
              LOG_INT("partition", record->partition), LOG_INT("offset", record->offset));
}

static void
count_success(struct saga_consumer *consumer, const struct partition *partition, int32_t verdict)
{
    const struct incoming *record = &partition->record;
    struct counters *counters = &consumer->counters;

    if (record->flaw != NULL || verdict >= SAGA_INBOX_CONFLICT)
        atomic_fetch_add(&counters->quarantined, 1);
    /* A duplicate of ourselves, whose COMMIT got no answer, is the first time. */
    else if (verdict == SAGA_INBOX_NEW || partition->unknown)
        atomic_fetch_add(&counters->applied, 1);
    else
        atomic_fetch_add(&counters->duplicates_by_inbox, 1);
    if (record->flaw != NULL)
        log_event(&consumer->options.log, SAGA_LOG_WARNING, "a message went to the quarantine",
                  LOG_TEXT("reason", record->flaw), LOG_TEXT("topic", record->public.topic),
                  LOG_INT("partition", record->public.partition),
                  LOG_INT("offset", record->public.offset));
    else if (verdict == SAGA_INBOX_CONFLICT)
        alarm_conflict(consumer, &record->public);
}

static enum applied
judge_failure(struct saga_consumer *consumer, struct partition *partition, int rc,
              const struct saga_error *err)
{
    const struct saga_consumer_options *options = &consumer->options;

    if (rc == SAGA_EUNKNOWN)
        partition->unknown = true;
    if (rc == SAGA_EFENCED)
        return APPLY_UNSETTLE;
    atomic_fetch_add(&consumer->counters.retries, 1);
    partition->attempt++;
    if (!pg_connected(&consumer->pg)) {
        pg_disconnect(&consumer->pg);
        database_failed(consumer, err);
    } else if (rc < 0) {
        log_event(&options->log, SAGA_LOG_WARNING, "a message was rolled back; it comes again",
                  LOG_TEXT("topic", partition->topic), LOG_INT("partition", partition->number),
                  LOG_INT("offset", partition->message->offset),
                  LOG_INT("attempt", partition->attempt),
                  LOG_TEXT("code", saga_error_name(err->code)), LOG_TEXT("sqlstate", err->sqlstate),
                  LOG_TEXT("error", err->message));
    }
    partition->due_ms =
        clock_mono_ms() + backoff_ms(options->retry_first_ms, options->retry_longest_ms,
                                     partition->attempt, backoff_random());
    return APPLY_LATER;
}

enum applied
apply(struct saga_consumer *consumer, struct partition *partition)
{
    enum gate_verdict gate = ask_gate(consumer, partition);
    int32_t verdict = SAGA_INBOX_NEW;
    struct saga_error err = { 0 };
    int rc;

    CRASH_POINT("consumer.after_gate");
    if (gate == GATE_SKIP) {
        atomic_fetch_add(&consumer->counters.duplicates_by_mark, 1);
        return APPLIED;
    }
    if (gate == GATE_BUSY && !partition->waited) {
        partition->waited = true;
        partition->due_ms = clock_mono_ms() + BUSY_MS;
        return APPLY_LATER;
    }
    rc = transact(consumer, partition, &verdict, &err);
    if (rc == ROUTE_QUARANTINE) {
        /* From here on it is as if it had come with a flaw, whatever happens
         * to the connection meanwhile. */
        snprintf(partition->refused, sizeof partition->refused, "%s", err.message);
        partition->record.flaw = partition->refused;
        rc = transact(consumer, partition, &verdict, &err);
    }
    if (rc != 0)
        return judge_failure(consumer, partition, rc, &err);
    partition->committed = partition->message->offset + 1;
    count_success(consumer, partition, verdict);
    if (partition->record.flaw == NULL && verdict < SAGA_INBOX_CONFLICT)
        mark_done(consumer, partition);
    CRASH_POINT("consumer.after_mark");
    return APPLIED;
}
