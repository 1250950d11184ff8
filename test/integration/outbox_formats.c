/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The formats of records, read back from Kafka. Which header comes out of which
 * row is a matter of test/unit/outbox/record.c.
 */
#include "test/support/outbox.h"
#include "test/support/run.h"

#include <string.h>

/* One message with a payload that is no text, and headers as jsonb; its id. */
static const char *
enqueue_with(PGconn *conn, const char *topic, const char *key, const char *headers)
{
    return db_text(conn, "SELECT outbox.enqueue('%s', '\\x00ff01'::bytea, %s, '%s')", topic,
                   key != NULL ? text_of("'%s'", key) : "NULL", headers);
}

/* The record's headers, "name=value" in the order of the alphabet; only texts. */
static const char *
sorted_headers(const struct record *record)
{
    const char *all = "", *last = "";

    for (size_t n = 0; n < record->n_headers; n++) {
        const struct record_header *next = NULL;

        for (size_t i = 0; i < record->n_headers; i++) {
            const struct record_header *header = &record->headers[i];

            if (strcmp(header->name, last) > 0 &&
                (next == NULL || strcmp(header->name, next->name) < 0))
                next = header;
        }
        if (next == NULL)
            return "a header comes twice";
        all = text_of("%s%s=%s\n", all, next->name, next->value);
        last = next->name;
    }
    return all;
}

static void
publish_in(const char *conninfo, const struct saga_pair *formats)
{
    struct saga_error err = { 0 };

    ck_assert_msg(
        publish_once_with(RELAY(.conninfo = conninfo, .formats = formats, .source = "/shop"),
                          &err) == 0,
        "%s", err.message);
}

START_TEST(test_relay_writes_cloudevents_to_the_topics_that_want_them)
{
    const char *conninfo = given_database(), *topic = GIVEN_TOPIC(1), *other = GIVEN_TOPIC(1);
    PGconn *conn = db_connect(conninfo);
    const char *first =
        enqueue_with(conn, topic, "order-7",
                     "{\"content-type\": \"application/octet-stream\","
                     " \"ce_type\": \"order.created\", \"traceparent\": \"00-ab-cd-01\"}");
    const char *second = enqueue_with(conn, topic, NULL, "{}");
    const char *third = enqueue_with(conn, other, "k", "{\"tenant\": \"m\xc3\xbcller\"}");
    struct records records;

#define TIME_OF(id)                                                                                \
    db_text(conn,                                                                                  \
            "SELECT to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"   \
            "  FROM outbox.message WHERE message_id = '%s'",                                       \
            id)
    publish_in(conninfo, SAGA_PAIRS({ topic, "cloudevents" }));

    records = topic_records(topic);
    ck_assert_uint_eq(records.n, 2);
    ck_assert_str_eq(records.at[0].key, "order-7");
    ck_assert_uint_eq(records.at[0].value_bytes, 3);
    ck_assert_mem_eq(records.at[0].value, "\0\xff\1", 3);
    ck_assert_str_eq(sorted_headers(&records.at[0]),
                     text_of("ce_id=%s\nce_source=/shop\nce_specversion=1.0\nce_subject=order-7\n"
                             "ce_time=%s\nce_traceparent=00-ab-cd-01\nce_type=order.created\n"
                             "content-type=application/octet-stream\nmessage-id=%s\n"
                             "traceparent=00-ab-cd-01\n",
                             first, TIME_OF(first), first));
    ck_assert_ptr_null(records.at[1].key);
    ck_assert_str_eq(sorted_headers(&records.at[1]),
                     text_of("ce_id=%s\nce_source=/shop\nce_specversion=1.0\nce_time=%s\n"
                             "ce_type=%s\nmessage-id=%s\n",
                             second, TIME_OF(second), topic, second));

    records = topic_records(other);
    ck_assert_uint_eq(records.n, 1);
    ck_assert_str_eq(sorted_headers(&records.at[0]),
                     text_of("message-id=%s\ntenant=m\xc3\xbcller\n", third));
    PQfinish(conn);
}
END_TEST

/* A tombstone stays one: an event without data is a record without a value. */
START_TEST(test_relay_writes_tombstones_as_events_without_data)
{
    const char *conninfo = given_database(), *topic = GIVEN_TOPIC(1);
    PGconn *conn = db_connect(conninfo);
    struct records records;

    db_exec(conn, "SELECT outbox.enqueue('%s', NULL, 'gone'), outbox.enqueue('%s', '', 'empty')",
            topic, topic);
    publish_in(conninfo, SAGA_PAIRS({ "*", "cloudevents" }));
    records = topic_records(topic);
    ck_assert_uint_eq(records.n, 2);
    ck_assert_ptr_null(records.at[0].value);
    ck_assert_str_eq(record_header(&records.at[0], "ce_subject"), "gone");
    ck_assert_ptr_nonnull(records.at[1].value);
    ck_assert_uint_eq(records.at[1].value_bytes, 0);
    PQfinish(conn);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox_formats",
        .tests = TESTS(test_relay_writes_cloudevents_to_the_topics_that_want_them,
                       test_relay_writes_tombstones_as_events_without_data),
    });
}
