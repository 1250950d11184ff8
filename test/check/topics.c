/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the topics that the outboxes name, each from its first record to the
 * last one there is now, into the scratch table `record`.
 */
#include "check.h"

#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { READ_MS = 30000, CALL_MS = 10000 };

static rd_kafka_t *
reader_new(const char *brokers)
{
    static const char *const settings[][2] = {
        { "group.id", "check-shop" },       { "enable.auto.commit", "false" },
        { "enable.partition.eof", "true" }, { "auto.offset.reset", "error" },
        { "fetch.wait.max.ms", "10" },      { "log_level", "3" },
    };
    char reason[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_t *reader;

    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        if (rd_kafka_conf_set(conf, settings[i][0], settings[i][1], reason, sizeof reason) != 0)
            die("%s", reason);
    }
    if (rd_kafka_conf_set(conf, "bootstrap.servers", brokers, reason, sizeof reason) != 0)
        die("%s", reason);
    reader = rd_kafka_new(RD_KAFKA_CONSUMER, conf, reason, sizeof reason);
    if (reader == NULL)
        die("%s", reason);
    rd_kafka_poll_set_consumer(reader);
    return reader;
}

/* Adds a topic's partitions to `parts`, each from its first record on. */
static void
add_topic(rd_kafka_t *reader, const char *name, rd_kafka_topic_partition_list_t *parts)
{
    const struct rd_kafka_metadata *metadata;
    rd_kafka_topic_t *topic = rd_kafka_topic_new(reader, name, NULL);
    rd_kafka_resp_err_t rc = rd_kafka_metadata(reader, 0, topic, &metadata, CALL_MS);

    if (rc != RD_KAFKA_RESP_ERR_NO_ERROR)
        die("topic %s: %s", name, rd_kafka_err2str(rc));
    for (int i = 0; i < metadata->topics[0].partition_cnt; i++)
        rd_kafka_topic_partition_list_add(parts, name, metadata->topics[0].partitions[i].id);
    rd_kafka_metadata_destroy(metadata);
    rd_kafka_topic_destroy(topic);
}

static void
copy_ends(PGconn *scratch, rd_kafka_t *reader, rd_kafka_topic_partition_list_t *parts)
{
    copy_begin(scratch, "topic");
    for (int i = 0; i < parts->cnt; i++) {
        rd_kafka_topic_partition_t *part = &parts->elems[i];
        int64_t low, high;
        char row[512];
        rd_kafka_resp_err_t rc = rd_kafka_query_watermark_offsets(
            reader, part->topic, part->partition, &low, &high, CALL_MS);

        if (rc != RD_KAFKA_RESP_ERR_NO_ERROR)
            die("topic %s: %s", part->topic, rd_kafka_err2str(rc));
        part->offset = low;
        snprintf(row, sizeof row, "%s\t%d\t%lld\t%lld\n", part->topic, (int)part->partition,
                 (long long)low, (long long)high);
        copy_bytes(scratch, row, strlen(row));
    }
    copy_end(scratch);
}

/* A column of COPY's text format, as the bytes are or in hexadecimal. */
static void
copy_column(PGconn *scratch, const void *data, size_t len, bool hex, char end)
{
    const unsigned char *bytes = data;
    char piece[8];

    if (data == NULL)
        copy_bytes(scratch, "\\N", 2);
    else if (hex)
        copy_bytes(scratch, "\\\\x", 3);
    for (size_t i = 0; data != NULL && i < len; i++) {
        bool special = bytes[i] == '\\' || bytes[i] < ' ';

        if (hex)
            snprintf(piece, sizeof piece, "%02x", bytes[i]);
        else
            snprintf(piece, sizeof piece, special ? "\\x%02x" : "%c", bytes[i]);
        copy_bytes(scratch, piece, strlen(piece));
    }
    copy_bytes(scratch, &end, 1);
}

static void
copy_record(PGconn *scratch, const rd_kafka_message_t *record)
{
    const char *topic = rd_kafka_topic_name(record->rkt);
    rd_kafka_headers_t *headers;
    const void *id = NULL;
    size_t id_len = 0;
    char place[64];

    if (rd_kafka_message_headers(record, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR)
        (void)rd_kafka_header_get_last(headers, "message-id", &id, &id_len);
    copy_column(scratch, topic, strlen(topic), false, '\t');
    snprintf(place, sizeof place, "%d\t%lld\t", (int)record->partition, (long long)record->offset);
    copy_bytes(scratch, place, strlen(place));
    copy_column(scratch, id, id_len, false, '\t');
    copy_column(scratch, record->key, record->key_len, false, '\t');
    copy_column(scratch, record->payload, record->len, true, '\n');
}

/* Until each partition has been seen to its end. */
static void
read_all(PGconn *scratch, rd_kafka_t *reader, int open)
{
    time_t deadline = time(NULL) + READ_MS / 1000;

    copy_begin(scratch, "record");
    while (open > 0) {
        rd_kafka_message_t *record = rd_kafka_consumer_poll(reader, 100);

        if (record == NULL) {
            if (time(NULL) > deadline)
                die("the topics cannot be read to their end: %d partitions are left", open);
            continue;
        }
        if (record->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
            open--;
        else if (record->err == RD_KAFKA_RESP_ERR_NO_ERROR)
            copy_record(scratch, record);
        else if (record->err != RD_KAFKA_RESP_ERR__TRANSPORT)
            die("%s", rd_kafka_message_errstr(record));
        rd_kafka_message_destroy(record);
    }
    copy_end(scratch);
}

void
gather_records(PGconn *scratch, const char *brokers)
{
    PGresult *names = PQexec(scratch, "SELECT DISTINCT topic FROM message ORDER BY 1");
    rd_kafka_topic_partition_list_t *parts = rd_kafka_topic_partition_list_new(16);
    rd_kafka_t *reader = reader_new(brokers);
    rd_kafka_resp_err_t rc;

    if (PQresultStatus(names) != PGRES_TUPLES_OK)
        die("%s", PQerrorMessage(scratch));
    for (int i = 0; i < PQntuples(names); i++)
        add_topic(reader, PQgetvalue(names, i, 0), parts);
    copy_ends(scratch, reader, parts);
    rc = rd_kafka_assign(reader, parts);
    if (rc != RD_KAFKA_RESP_ERR_NO_ERROR)
        die("%s", rd_kafka_err2str(rc));
    read_all(scratch, reader, parts->cnt);
    rd_kafka_topic_partition_list_destroy(parts);
    rd_kafka_consumer_close(reader);
    rd_kafka_destroy(reader);
    PQclear(names);
}
