/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A batch through the protocol: which messages it is made of, and what becomes
 * of them.
 *
 *   1. the marks in Redis: done before? (a hint, see gate.h)
 *   2. the transaction: inbox, handlers, offsets, COMMIT (consumer_transact.c)
 *   3. the marks "done"
 *   4. Kafka's offsets
 *
 * Whatever dies in between leaves nothing, or leaves the effects together with
 * the inbox rows that recognise the messages when they come again.
 *
 * A batch that fails is rolled back, and its messages go through one by one: a
 * bad one costs its neighbours nothing but time.
 */
#include "base/backoff.h"
#include "base/clock.h"
#include "base/crash.h"
#include "idempotency/consumer_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- choosing ------------------------------------------------------------------ */

static void
touch(struct batch *batch, struct partition *partition, int64_t first)
{
    batch->touched[batch->n_touched] = (struct touched){ .partition = partition, .first = first };
    partition->touched = (int32_t)++batch->n_touched;
}

/* Up to the first one that has to be alone; that one only if it is the first of
 * all. What is not taken is put back. */
static void
add_chosen(struct batch *batch, struct hand_item *const *chosen, size_t n)
{
    struct partition *partition = ((struct taken *)chosen[0])->partition;
    size_t before = batch->n, i = 0;

    for (; i < n; i++) {
        struct taken *taken = (struct taken *)chosen[i];

        if (taken->alone && batch->n > 0)
            break;
        batch->items[batch->n++] = taken;
        if (taken->alone) {
            i++;
            break;
        }
    }
    for (; i < n; i++)
        hand_put_back(chosen[i], 0);
    if (batch->n > before && partition->touched == 0)
        touch(batch, partition, batch->items[before]->item.offset);
}

static void
choose_from(struct saga_consumer *consumer, struct partition *partition, size_t max)
{
    struct batch *batch = &consumer->batch;
    struct hand_item *chosen[BATCH_MAX];
    size_t room = batch->max_now - batch->n, n;

    if (!partition->settled || (batch->n == 1 && batch->items[0]->alone))
        return;
    max = max < room ? max : room;
    n = hand_choose(&partition->hand, clock_mono_ms(), chosen, max < BATCH_MAX ? max : BATCH_MAX,
                    partition->unasked);
    if (n > 0)
        add_chosen(batch, chosen, n);
}

/* The next batch begins with another partition. */
static void
rotate(struct saga_consumer *consumer)
{
    struct partition *first = consumer->partitions, **end = &consumer->partitions;

    if (first == NULL || first->next == NULL)
        return;
    while (*end != NULL)
        end = &(*end)->next;
    consumer->partitions = first->next;
    first->next = NULL;
    *end = first;
}

int64_t
offset_to_commit(const struct partition *partition, int64_t next)
{
    return next > partition->floor ? next : partition->floor;
}

bool
is_behind(const struct partition *partition)
{
    return partition->settled && partition->hand.next != OFFSET_NONE &&
           offset_to_commit(partition, partition->hand.next) != partition->committed;
}

/* As far as there is room: the others are another batch's. */
static void
touch_behind(struct saga_consumer *consumer)
{
    struct batch *batch = &consumer->batch;

    for (struct partition *at = consumer->partitions; at != NULL; at = at->next)
        if (at->touched == 0 && is_behind(at) && batch->n_touched < BATCH_MAX)
            touch(batch, at, at->hand.next);
}

static void
set_next(struct batch *batch)
{
    for (size_t i = 0; i < batch->n_touched; i++) {
        const struct partition *partition = batch->touched[i].partition;

        batch->touched[i].next =
            offset_to_commit(partition, hand_next_if_finished(&partition->hand));
    }
}

void
batch_reset(struct batch *batch)
{
    for (size_t i = 0; i < batch->n_touched; i++)
        batch->touched[i].partition->touched = 0;
    batch->n = batch->n_touched = 0;
}

bool
batch_choose(struct saga_consumer *consumer)
{
    struct batch *batch = &consumer->batch;
    int partitions = atomic_load(&consumer->counters.partitions);
    size_t share = partitions > 0 ? batch->max_now / (size_t)partitions + 1 : 1;

    batch_reset(batch);
    rotate(consumer);
    /* A fair share of each first, and then what there is. */
    for (struct partition *at = consumer->partitions; at != NULL; at = at->next)
        choose_from(consumer, at, share);
    for (struct partition *at = consumer->partitions; at != NULL; at = at->next)
        choose_from(consumer, at, batch->max_now);
    if (batch->n > 0)
        touch_behind(consumer);
    set_next(batch);
    return batch->n > 0;
}

/* --- what came of it ------------------------------------------------------------ */

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
alarm_parked(struct saga_consumer *consumer, const struct taken *taken)
{
    const struct saga_record *record = &taken->record.public;
    char id[37];

    saga_uuid_text(&record->id, id);
    log_event(&consumer->options.log, SAGA_LOG_ERROR,
              taken->item.has_key ? "a message and its key are parked: see idempotency.parked"
                                  : "a message is parked: see idempotency.parked",
              LOG_TEXT("message_id", id), LOG_TEXT("topic", record->topic),
              LOG_INT("partition", record->partition), LOG_INT("offset", record->offset),
              LOG_INT("attempts", taken->failures), LOG_TEXT("error", taken->given_up));
}

static void
count_success(struct saga_consumer *consumer, const struct taken *taken)
{
    const struct incoming *record = &taken->record;
    struct counters *counters = &consumer->counters;

    if (record->flaw != NULL || taken->verdict >= SAGA_INBOX_CONFLICT)
        atomic_fetch_add(&counters->quarantined, 1);
    else if (taken->parked)
        atomic_fetch_add(&counters->parked, 1);
    /* A duplicate of ourselves, whose COMMIT got no answer, is the first time. */
    else if (taken->verdict == SAGA_INBOX_NEW || taken->unknown)
        atomic_fetch_add(&counters->applied, 1);
    else
        atomic_fetch_add(&counters->duplicates_by_inbox, 1);
    if (taken->forged || taken->verdict == SAGA_INBOX_CONFLICT)
        alarm_conflict(consumer, &record->public);
    else if (record->flaw != NULL)
        log_event(&consumer->options.log, SAGA_LOG_WARNING, "a message went to the quarantine",
                  LOG_TEXT("reason", record->flaw), LOG_TEXT("topic", record->public.topic),
                  LOG_INT("partition", record->public.partition),
                  LOG_INT("offset", record->public.offset));
    else if (taken->parked && taken->given_up != NULL)
        alarm_parked(consumer, taken);
}

static void
count_repeats(struct saga_consumer *consumer, const struct taken *taken)
{
    if (taken->record.flaw != NULL || taken->verdict != SAGA_INBOX_DUPLICATE)
        consumer->repeated = 0;
    else if (consumer->repeated < REPEATS_MIN)
        consumer->repeated++;
}

static void
batch_succeeded(struct saga_consumer *consumer, struct batch *batch)
{
    bool repeats = consumer->repeated >= REPEATS_MIN;

    for (size_t i = 0; i < batch->n; i++) {
        batch->items[i]->item.state = HAND_FINISHED;
        count_success(consumer, batch->items[i]);
        count_repeats(consumer, batch->items[i]);
    }
    for (size_t i = 0; i < batch->n_touched; i++)
        batch->touched[i].partition->committed = batch->touched[i].next;
    atomic_fetch_add(&consumer->counters.batches, 1);
    marks_done(consumer, batch->items, batch->n);
    CRASH_POINT("consumer.after_mark");
    for (size_t i = 0; i < batch->n_touched; i++)
        kafka_finish(consumer, batch->touched[i].partition);
    if (!repeats && consumer->repeated >= REPEATS_MIN)
        seen_ask_again(consumer);
}

/* Until it is parked it stays so, whatever happens to the connection. */
static bool
give_up(const struct saga_consumer *consumer, struct taken *taken, int rc,
        const struct saga_error *err)
{
    int32_t most = consumer->options.attempts_max;

    if (most > 0 && taken->failures >= most && taken->given_up == NULL)
        taken->given_up = readable(rc, err);
    return taken->given_up != NULL;
}

/* A handler's failure, or that of a message by itself. */
static void
blame(struct saga_consumer *consumer, struct taken *taken, int rc, const struct saga_error *err)
{
    const struct saga_consumer_options *options = &consumer->options;
    bool was_given_up = taken->given_up != NULL;

    atomic_fetch_add(&consumer->counters.retries, 1);
    taken->attempt++;
    taken->alone = true;
    if (rc < 0)
        log_event(&options->log, SAGA_LOG_WARNING, "a message was rolled back; it comes again",
                  LOG_TEXT("topic", taken->partition->topic),
                  LOG_INT("partition", taken->partition->number),
                  LOG_INT("offset", taken->item.offset), LOG_INT("attempt", taken->attempt),
                  LOG_TEXT("code", saga_error_name(err->code)), LOG_TEXT("sqlstate", err->sqlstate),
                  LOG_TEXT("error", err->message));
    if (give_up(consumer, taken, rc, err) && !was_given_up)
        hand_put_back(&taken->item, 0);
    else
        hand_put_back(&taken->item, clock_mono_ms() + backoff_ms(options->retry_first_ms,
                                                                 options->retry_longest_ms,
                                                                 taken->attempt, backoff_random()));
}

/* From here on it is as if it had come with a flaw, whatever happens to the
 * connection meanwhile. */
static void
refuse(struct taken *taken, const struct saga_error *err)
{
    free(taken->refused);
    taken->refused = readable(ROUTE_QUARANTINE, err);
    taken->record.flaw = taken->refused != NULL ? taken->refused : "the handler refused it";
    taken->alone = true;
}

static void
unsettle_fenced(struct saga_consumer *consumer, const struct batch *batch)
{
    (void)consumer;
    for (size_t i = 0; i < batch->n_touched; i++)
        if (batch->touched[i].fenced) {
            /* If another member has the partition now, Kafka will have told us
             * so by then. */
            batch->touched[i].partition->settled = false;
            batch->touched[i].partition->settle_ms = clock_mono_ms() + UNSETTLED_MS;
        }
}

static void
batch_failed(struct saga_consumer *consumer, struct batch *batch, struct taken *failed, int rc,
             const struct saga_error *err)
{
    bool connected = pg_connected(&consumer->pg);
    /* It is nobody's fault when the connection ends outside of the handlers. */
    bool alone = rc != SAGA_EFENCED && (connected || failed != NULL);
    /* Of a batch of many it may be a handler of many who says so: alone they will tell. */
    bool ends = failed == NULL && batch->n <= 1 && rc < 0 && database_ends(err);
    bool lost = failed == NULL && !connected && !database_ends(err);

    /* The budget is for what the handler does, not for what happens to us. */
    if (failed != NULL)
        failed->failures++;
    if (batch->n == 1 && failed == NULL && rc != SAGA_EFENCED && !ends)
        failed = batch->items[0];
    for (size_t i = 0; i < batch->n; i++) {
        batch->items[i]->unknown |= rc == SAGA_EUNKNOWN;
        batch->items[i]->alone |= alone;
        hand_put_back(&batch->items[i]->item, 0);
    }
    if (rc == SAGA_EFENCED)
        unsettle_fenced(consumer, batch);
    else if (rc == ROUTE_QUARANTINE && failed != NULL)
        refuse(failed, err);
    else if (failed != NULL)
        blame(consumer, failed, rc, err);
    if (!connected)
        pg_disconnect(&consumer->pg);
    if (ends || lost)
        database_failed(consumer, err);
}

/* What takes too long is made of fewer messages the next time. */
static void
adapt(struct saga_consumer *consumer, int64_t took_ms)
{
    struct batch *batch = &consumer->batch;

    if (took_ms > consumer->options.batch_ms)
        batch->max_now = batch->n * (size_t)consumer->options.batch_ms / (size_t)took_ms;
    else if (batch->n >= batch->max_now)
        batch->max_now *= 2;
    if (batch->max_now < 1)
        batch->max_now = 1;
    if (batch->max_now > batch->max)
        batch->max_now = batch->max;
}

void
batch_apply(struct saga_consumer *consumer)
{
    struct batch *batch = &consumer->batch;
    int64_t from = clock_mono_ms();
    struct saga_error err = { 0 };
    struct taken *failed = NULL;
    int rc = transact(consumer, batch, &failed, &err);

    if (rc == 0)
        batch_succeeded(consumer, batch);
    else
        batch_failed(consumer, batch, failed, rc, &err);
    adapt(consumer, clock_mono_ms() - from);
}

/* --- offsets alone ---------------------------------------------------------------- */

enum { CATCH_UP_MS = 100 };

bool
batch_catch_up(struct saga_consumer *consumer, bool at_once)
{
    struct batch *batch = &consumer->batch;
    struct saga_error err;
    struct taken *none;

    if (!at_once && clock_mono_ms() < consumer->catch_up_ms)
        return false;
    batch_reset(batch);
    touch_behind(consumer);
    if (batch->n_touched == 0)
        return false;
    set_next(batch);
    consumer->catch_up_ms = clock_mono_ms() + CATCH_UP_MS;
    if (transact(consumer, batch, &none, &err) == 0)
        batch_succeeded(consumer, batch);
    else
        batch_failed(consumer, batch, NULL, err.code, &err);
    return true;
}
