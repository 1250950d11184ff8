/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a partition is read from: agreed on between Kafka's offset and the one
 * that PostgreSQL has committed, when the partition is assigned and whenever
 * PostgreSQL turns out to stand somewhere else than we left it.
 */
#include "base/clock.h"
#include "idempotency/consumer_state.h"
#include "idempotency/sql.h"

enum { ASK_KAFKA_MS = 2000, AGAIN_MS = 100 };

/* OFFSET_NONE: there is none. False: nobody answered. */
static bool
ask_kafka(struct saga_consumer *consumer, const struct partition *partition, int64_t *offset)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_resp_err_t code;

    rd_kafka_topic_partition_list_add(list, partition->topic, partition->number);
    code = rd_kafka_committed(consumer->kafka, list, ASK_KAFKA_MS);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        code = list->elems[0].err;
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        *offset = list->elems[0].offset >= 0 ? list->elems[0].offset : OFFSET_NONE;
    rd_kafka_topic_partition_list_destroy(list);
    return code == RD_KAFKA_RESP_ERR_NO_ERROR;
}

static bool
ask_database(struct saga_consumer *consumer, const struct partition *partition, int64_t *offset)
{
    struct pg_rows rows = PG_ROWS_INIT;
    struct saga_error err;

    if (pg_exec(&consumer->pg, SQL_OFFSET_READ,
                PG_ARGS(PG_TEXT(consumer->options.group), PG_TEXT(partition->topic),
                        PG_INT4(partition->number)),
                &rows, &err) != 0) {
        database_failed(consumer, &err);
        return false;
    }
    *offset = rows.n > 0 ? pg_int(&rows, 0, 0) : OFFSET_NONE;
    pg_rows_clear(&rows);
    return true;
}

/* Answers of before are thrown away by librdkafka. False: not yet possible,
 * the partition is not being fetched so far. */
static bool
go_back(struct saga_consumer *consumer, struct partition *partition, int64_t from)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_error_t *error;
    bool done;

    rd_kafka_topic_partition_list_add(list, partition->topic, partition->number)->offset =
        from >= 0 ? from : RD_KAFKA_OFFSET_BEGINNING;
    error = rd_kafka_seek_partitions(consumer->kafka, list, ASK_KAFKA_MS);
    done = error == NULL && list->elems[0].err == RD_KAFKA_RESP_ERR_NO_ERROR;
    rd_kafka_error_destroy(error);
    rd_kafka_topic_partition_list_destroy(list);
    if (!done)
        return false;
    kafka_drop(consumer, partition);
    partition->end = OFFSET_NONE;
    return true;
}

/* Read again although PostgreSQL is further: its offset stays, unless it is
 * behind the log's end (the topic was made anew, or somebody has set it). */
static bool
find_floor(struct saga_consumer *consumer, struct partition *partition, int64_t kafka,
           int64_t postgres)
{
    int64_t low, high;

    partition->floor = OFFSET_NONE;
    if (kafka >= postgres)
        return true;
    if (rd_kafka_query_watermark_offsets(consumer->kafka, partition->topic, partition->number, &low,
                                         &high, ASK_KAFKA_MS) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return false;
    if (postgres <= high)
        partition->floor = postgres;
    return true;
}

static bool
try_to_settle(struct saga_consumer *consumer, struct partition *partition)
{
    int64_t kafka = partition->position, postgres;
    struct offsets_start start;

    if (!ask_database(consumer, partition, &postgres) || !park_load(consumer, partition))
        return false;
    if (kafka == OFFSET_NONE && !ask_kafka(consumer, partition, &kafka))
        return false;
    if (!find_floor(consumer, partition, kafka, postgres))
        return false;
    start = offsets_start(kafka, postgres);
    if (start.distrust_below > 0) {
        if (!go_back(consumer, partition, start.from))
            return false;
        log_event(&consumer->options.log, SAGA_LOG_WARNING,
                  "PostgreSQL is behind Kafka's offset: reading again from there",
                  LOG_TEXT("topic", partition->topic), LOG_INT("partition", partition->number),
                  LOG_INT("kafka", kafka), LOG_INT("postgres", postgres));
        if (start.distrust_below > partition->distrust_below &&
            consumer->options.mode != SAGA_MODE_REDIS)
            partition->distrust_below = start.distrust_below;
    }
    /* What has finished behind a message that waits is in no offset: whether the database still has
     * it, the inbox knows. Without an inbox the effects were not the database's to lose. */
    if (consumer->options.mode != SAGA_MODE_REDIS)
        hand_reopen(&partition->hand);
    partition->committed = postgres;
    return true;
}

bool
settle(struct saga_consumer *consumer, struct partition *partition)
{
    if (partition->settled || clock_mono_ms() < partition->settle_ms)
        return partition->settled;
    partition->settled = try_to_settle(consumer, partition);
    partition->settle_ms = partition->settled ? 0 : clock_mono_ms() + AGAIN_MS;
    return partition->settled;
}
