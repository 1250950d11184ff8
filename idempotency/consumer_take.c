/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages between Kafka and a partition's hand: taken as they come, freed
 * when all before them is finished; and the offsets that Kafka keeps.
 */
#include "base/clock.h"
#include "base/crash.h"
#include "idempotency/consumer_state.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { ASK_END_MS = 2000, ALIVE_MS = 1000, HELD_BYTES_MAX = 16 << 20 };
enum { NUDGE_MS = 20, NUDGE_LONGEST_MS = 500, NUDGE_WAIT_MS = 50 };
enum { READ_AHEAD = 1000, HELD_MAX = 1000 };

/* --- taking ------------------------------------------------------------------ */

static void
take_event(struct saga_consumer *consumer, struct partition *partition, rd_kafka_message_t *message)
{
    if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
        partition->end = message->offset;
    else
        log_trouble(consumer, message->err, rd_kafka_message_errstr(message));
    rd_kafka_message_destroy(message);
}

/* One that was finished, or a new one. */
static struct taken *
new_taken(struct saga_consumer *consumer)
{
    struct taken *taken = (struct taken *)consumer->spare;

    if (taken == NULL)
        return calloc(1, sizeof *taken);
    consumer->spare = consumer->spare->next;
    memset(taken, 0, offsetof(struct taken, record));
    return taken;
}

static void
free_taken(struct taken *taken)
{
    if (taken != NULL)
        record_free(&taken->record);
    free(taken);
}

static size_t
size_of(const struct taken *taken)
{
    return taken->message->len + taken->message->key_len + taken->record.raw.len;
}

/* Takes over the message, also when it fails. */
static int
hold(struct saga_consumer *consumer, struct partition *partition, rd_kafka_message_t *message,
     struct saga_error *err)
{
    struct taken *taken = new_taken(consumer);
    int rc = taken == NULL ? error_set(err, SAGA_ENOMEM, "out of memory")
                           : record_read(&taken->record, message, consumer->digest, err);

    if (rc != 0) {
        rd_kafka_message_destroy(message);
        free_taken(taken);
        return rc;
    }
    taken->partition = partition;
    taken->message = message;
    taken->item.offset = message->offset;
    taken->item.has_key = message->key != NULL;
    taken->item.key = key_hash(taken->record.public.key);
    if (partition->hand.first == NULL)
        partition->position = message->offset;
    hand_take(&partition->hand, &taken->item);
    if (partition->unasked == NULL)
        partition->unasked = &taken->item;
    partition->held_bytes += size_of(taken);
    partition->end = OFFSET_NONE;
    consumer->nudge_pause_ms = 0;
    return 0;
}

static int
take_some(struct saga_consumer *consumer, struct partition *partition, int32_t max,
          struct saga_error *err)
{
    rd_kafka_message_t *message;
    int rc = 0;

    for (int32_t n = 0; rc == 0 && n < max && partition->held_bytes < HELD_BYTES_MAX; n++) {
        message = rd_kafka_consume_queue(partition->queue, 0);
        if (message == NULL)
            break;
        if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
            take_event(consumer, partition, message);
        else
            rc = hold(consumer, partition, message, err);
    }
    return rc;
}

/* How much a partition may have in hand: enough to ask Redis for many at once;
 * more where some wait to be tried again and the others go on. */
static int32_t
share_of(const struct saga_consumer *consumer, const struct partition *partition)
{
    int32_t share = READ_AHEAD / (atomic_load(&consumer->counters.partitions) + 1);
    int32_t batch = (int32_t)consumer->batch.max;

    if (hand_due_ms(&partition->hand) > 0)
        return HELD_MAX;
    return share > batch ? share : batch;
}

void
kafka_read(struct saga_consumer *consumer, int32_t rounds)
{
    struct saga_error err;

    if (atomic_load(&consumer->stop) || consumer->failed != 0)
        return;
    for (struct partition *at = consumer->partitions; at != NULL; at = at->next)
        if (at->settled &&
            take_some(consumer, at, rounds * share_of(consumer, at) - at->hand.n, &err) != 0) {
            consumer->failure = err;
            consumer->failed = err.code;
        }
}

bool
kafka_at_end(struct saga_consumer *consumer, struct partition *partition)
{
    int64_t low, high;

    if (partition->end == OFFSET_NONE ||
        rd_kafka_query_watermark_offsets(consumer->kafka, partition->topic, partition->number, &low,
                                         &high, ASK_END_MS) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return false;
    if (high > partition->end) /* the event of its end was of before */
        partition->end = OFFSET_NONE;
    return partition->end != OFFSET_NONE;
}

/* --- letting go ---------------------------------------------------------------- */

static void
free_all(struct saga_consumer *consumer, struct partition *partition, struct hand_item *list)
{
    while (list != NULL) {
        struct taken *taken = (struct taken *)list;

        list = list->next;
        partition->held_bytes -= size_of(taken);
        record_clear(&taken->record);
        rd_kafka_message_destroy(taken->message);
        free(taken->refused);
        free(taken->given_up);
        taken->item.next = consumer->spare;
        consumer->spare = &taken->item;
    }
}

void
kafka_drop(struct saga_consumer *consumer, struct partition *partition)
{
    partition->unasked = NULL;
    free_all(consumer, partition, hand_empty(&partition->hand));
}

void
kafka_free_spare(struct saga_consumer *consumer)
{
    while (consumer->spare != NULL) {
        struct taken *taken = (struct taken *)consumer->spare;

        consumer->spare = taken->item.next;
        free_taken(taken);
    }
}

void
kafka_finish(struct saga_consumer *consumer, struct partition *partition)
{
    struct hand_item *settled = hand_settle(&partition->hand);
    rd_kafka_topic_partition_list_t *list;

    if (settled == NULL)
        return;
    free_all(consumer, partition, settled);
    list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, partition->topic, partition->number)->offset =
        partition->hand.next;
    /* Refused where the partition is ours no more: then it is the next owner's
     * to store. */
    (void)rd_kafka_offsets_store(consumer->kafka, list);
    rd_kafka_topic_partition_list_destroy(list);
    partition->position =
        partition->hand.first != NULL ? partition->hand.first->offset : partition->hand.next;
    CRASH_POINT("consumer.after_store");
}

/* Serves nothing: a rebalance must not come in the middle of a transaction. */
bool
kafka_alive(struct saga_consumer *consumer)
{
    int64_t now = clock_mono_coarse_ms();
    rd_kafka_message_t *message;

    if (now - consumer->alive_ms < ALIVE_MS)
        return false;
    consumer->alive_ms = now;
    message = rd_kafka_consume_queue(consumer->nothing, 0);
    if (message != NULL)
        rd_kafka_message_destroy(message);
    return true;
}

/* How many the partition has from `next` on, as far as librdkafka has heard. */
static int64_t
behind(const struct saga_consumer *consumer, const struct partition *partition, int64_t next)
{
    int64_t low, high;

    if (rd_kafka_get_watermark_offsets(consumer->kafka, partition->topic, partition->number, &low,
                                       &high) != RD_KAFKA_RESP_ERR_NO_ERROR ||
        high < 0)
        return 0;
    next = next > low ? next : low;
    return high > next ? high - next : 0;
}

int64_t
kafka_lag(const struct saga_consumer *consumer)
{
    int64_t lag = 0;

    for (const struct partition *at = consumer->partitions; at != NULL; at = at->next) {
        int64_t next = at->hand.next != OFFSET_NONE ? at->hand.next : at->position;

        lag += behind(consumer, at, next != OFFSET_NONE ? next : at->committed);
    }
    return lag;
}

static const struct partition *
first_that_should_come(const struct saga_consumer *consumer)
{
    for (const struct partition *at = consumer->partitions; at != NULL; at = at->next) {
        const struct hand_item *last = at->hand.last;
        int64_t next = last != NULL ? last->offset + 1 : at->hand.next;

        /* A transaction's end is an offset of its own, and no message. */
        if (at->settled && at->end == OFFSET_NONE && next != OFFSET_NONE &&
            behind(consumer, at, next) > 0)
            return at;
    }
    return NULL;
}

int64_t
kafka_nudge(struct saga_consumer *consumer)
{
    const struct partition *partition = first_that_should_come(consumer);
    int64_t low, high, pause = consumer->nudge_pause_ms;

    if (partition == NULL)
        return 0;
    if (clock_mono_ms() >= consumer->nudge_ms) {
        (void)rd_kafka_query_watermark_offsets(consumer->kafka, partition->topic, partition->number,
                                               &low, &high, NUDGE_WAIT_MS);
        pause = pause == 0 ? NUDGE_MS : pause < NUDGE_LONGEST_MS / 2 ? 2 * pause : NUDGE_LONGEST_MS;
        consumer->nudge_pause_ms = pause;
        consumer->nudge_ms = clock_mono_ms() + pause;
    }
    return consumer->nudge_ms;
}
