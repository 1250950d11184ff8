/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Our implementation against test/vectors, which others hold theirs to.
 */
#include "idempotency/consumer_record.h"
#include "idempotency/gate.h"
#include "outbox/headers.h"
#include "outbox/record.h"
#include "saga/wire.h"
#include "test/support/db.h"
#include "test/support/run.h"
#include "test/support/vectors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- records: ids, hashes, headers ----------------------------------------------------- */

START_TEST(test_protocol_ids_are_read_as_the_vectors_say)
{
    PGconn *conn = db_connect(given_database());

    EACH_VECTOR(vector, "id.json")
    {
        struct saga_uuid id;
        char text[37] = "";
        int rc = saga_uuid_parse(&id, vector_text(vector, "text"), NULL);
        const char *day;

        ck_assert_msg((rc != 0) == vector_has(vector, "refused"), "%s: %d", vector_name(vector),
                      rc);
        if (rc != 0)
            continue;
        saga_uuid_text(&id, text);
        ck_assert_str_eq(text, vector_text(vector, "id"));
        day = db_text(conn, "SELECT idempotency.day_of(uuid_send('%s'))", text);
        ck_assert_msg((day != NULL) == vector_has(vector, "day"), "%s: day %s", vector_name(vector),
                      day);
        if (day == NULL)
            continue;
        ck_assert_int_eq(atoll(day), vector_int(vector, "day"));
        ck_assert_int_eq((int64_t)(get_u64(id.bytes) >> 16), vector_int(vector, "ms"));
    }
    PQfinish(conn);
}
END_TEST

START_TEST(test_protocol_hashes_are_those_of_the_vectors)
{
    json_t *none = json_object();

    EACH_VECTOR(vector, "hash.json")
    {
        struct incoming record =
            vector_record(none, vector_bytes(vector, "key"), vector_bytes(vector, "value"));

        ck_assert_msg(strcmp(record.hash_text, vector_text(vector, "sha256")) == 0, "%s: %s",
                      vector_name(vector), record.hash_text);
    }
    json_decref(none);
}
END_TEST

START_TEST(test_protocol_headers_are_lines_as_the_vectors_say)
{
    EACH_VECTOR(vector, "headers.json")
    {
        const struct saga_pair *pairs = vector_pairs(vector, "headers");
        const char *text = vector_text(vector, "text");
        char scratch[256];
        struct headers_reader rest = { text, text + strlen(text), scratch };
        struct saga_bytes name, value;
        struct buffer written = { 0 };

        headers_write(&written, pairs);
        buffer_add(&written, "", 1);
        if (!vector_has(vector, "read"))
            ck_assert_str_eq((const char *)written.data, text);
        for (; headers_next(&rest, &name, &value); pairs++) {
            ck_assert_msg(pairs->name != NULL, "%s: too many", vector_name(vector));
            ck_assert_str_eq(text_of("%.*s", (int)name.len, (const char *)name.data), pairs->name);
            ck_assert_str_eq(text_of("%.*s", (int)value.len, (const char *)value.data),
                             pairs->value);
        }
        ck_assert_msg(pairs->name == NULL, "%s: %s is missing", vector_name(vector), pairs->name);
        buffer_clear(&written);
    }
}
END_TEST

static struct row_fields
row_of(const json_t *vector, const char *headers)
{
    struct row_fields fields = { .topic = vector_text(vector, "topic"),
                                 .key = vector_bytes(vector, "key"),
                                 .headers = { headers, strlen(headers) },
                                 .created_us = vector_int(vector, "created_us") };

    ck_assert_int_eq(saga_uuid_parse(&fields.id, vector_text(vector, "id"), NULL), 0);
    return fields;
}

/* Whether each list has the other's headers, as often: their order means nothing. */
static void
expect_headers(const json_t *vector, rd_kafka_headers_t *made, const struct saga_pair *expected)
{
    size_t n = rd_kafka_header_cnt(made), left = 0, len;
    const char *name;
    const void *value;
    bool used[64] = { false };

    for (size_t e = 0; expected[e].name != NULL; e++, left++) {
        bool found = false;

        for (size_t i = 0; i < n && !found; i++) {
            rd_kafka_header_get_all(made, i, &name, &value, &len);
            found = !used[i] && strcmp(name, expected[e].name) == 0 &&
                    len == strlen(expected[e].value) && memcmp(value, expected[e].value, len) == 0;
            used[i] |= found;
        }
        ck_assert_msg(found, "%s: no %s: %s", vector_name(vector), expected[e].name,
                      expected[e].value);
    }
    ck_assert_msg(left == n, "%s: %zu headers, not %zu", vector_name(vector), n, left);
}

START_TEST(test_protocol_records_have_the_headers_of_the_vectors)
{
    EACH_VECTOR(vector, "record.json")
    {
        bool event = strcmp(vector_text(vector, "format"), "cloudevents") == 0;
        struct buffer lines = { 0 };
        struct row_fields fields;
        rd_kafka_headers_t *made;

        headers_write(&lines, vector_pairs(vector, "headers"));
        buffer_add(&lines, "", 1);
        fields = row_of(vector, (const char *)lines.data);
        made = record_make_headers(&fields, event ? RECORD_CLOUDEVENTS : RECORD_PLAIN,
                                   vector_text(vector, "source"));
        expect_headers(vector, made, vector_pairs(vector, "record"));
        rd_kafka_headers_destroy(made);
        buffer_clear(&lines);
    }
}
END_TEST

START_TEST(test_protocol_partitions_are_those_of_the_vectors)
{
    rd_kafka_topic_t *topic = rd_kafka_topic_new(given_idle_producer(), "any", NULL);

    EACH_VECTOR(vector, "partition.json")
    {
        const char *key = vector_text(vector, "key");

        ck_assert_int_eq(rd_kafka_msg_partitioner_murmur2(topic, key, strlen(key), 4, NULL, NULL),
                         vector_int(vector, "partition_of_4"));
        ck_assert_int_eq(rd_kafka_msg_partitioner_murmur2(topic, key, strlen(key), 12, NULL, NULL),
                         vector_int(vector, "partition_of_12"));
    }
    rd_kafka_topic_destroy(topic);
}
END_TEST

/* --- marks --------------------------------------------------------------------------------- */

START_TEST(test_protocol_marks_mean_what_the_vectors_say)
{
    static const char *const words[] = {
        [GATE_GO] = "go", [GATE_SKIP] = "done", [GATE_BUSY] = "busy"
    };

    EACH_VECTOR(vector, "mark.json")
    {
        struct saga_bytes found;
        enum gate_verdict verdict;

        if (!vector_has(vector, "verdict"))
            continue; /* what they are called: test/python/participant.c */
        found = vector_bytes(vector, "found");
        verdict = gate_decide(found.data, found.len, vector_text(vector, "token"),
                              vector_text(vector, "sha256"));
        ck_assert_msg(strcmp(words[verdict], vector_text(vector, "verdict")) == 0, "%s: %s",
                      vector_name(vector), words[verdict]);
    }
}
END_TEST

/* --- commands and replies ------------------------------------------------------------------- */

static void
expect_text(const json_t *vector, const json_t *expected, const char *member, const char *seen)
{
    const char *text = vector_text(expected, member);

    ck_assert_msg((text == NULL) == (seen == NULL) && (text == NULL || strcmp(text, seen) == 0),
                  "%s: %s is '%s'", vector_name(vector), member, seen);
}

static void
expect_id(const json_t *vector, const json_t *expected, const char *member,
          const struct saga_uuid *seen)
{
    char text[37];

    saga_uuid_text(seen, text);
    expect_text(vector, expected, member, text);
}

static void
expect_refused(const json_t *vector, const char *what, const char *flaw)
{
    ck_assert_msg(strstr(flaw, what) != NULL, "%s: refused, but not for %s: %s",
                  vector_name(vector), what, flaw);
}

static void
expect_command(const json_t *vector, const struct incoming *record,
               const struct wire_command *command)
{
    const json_t *expected = json_object_get(vector, "command");

    ck_assert_msg(expected != NULL, "%s: not refused", vector_name(vector));
    expect_id(vector, expected, "message_id", &record->public.id);
    expect_id(vector, expected, "saga_id", &command->saga_id);
    expect_text(vector, expected, "definition", command->definition);
    expect_text(vector, expected, "step", command->step);
    expect_text(vector, expected, "action",
                command->action == BARRIER_RUN ? WIRE_RUN : WIRE_COMPENSATE);
    expect_text(vector, expected, "reply_to", command->reply_to);
    expect_text(vector, expected, "traceparent", command->traceparent);
    ck_assert_int_eq(command->attempt, vector_int(expected, "attempt"));
}

static const struct saga_bytes nothing;

START_TEST(test_protocol_commands_are_read_as_the_vectors_say)
{
    EACH_VECTOR(vector, "command.json")
    {
        struct incoming record =
            vector_record(json_object_get(vector, "headers"), nothing, nothing);
        struct wire_command command;
        struct saga_error err;

        if (record.flaw != NULL)
            expect_refused(vector, vector_text(vector, "refused"), record.flaw);
        else if (wire_read_command(&command, &record.public, &err) != 0)
            expect_refused(vector, vector_text(vector, "refused"), err.message);
        else
            expect_command(vector, &record, &command);
    }
}
END_TEST

START_TEST(test_protocol_replies_are_read_as_the_vectors_say)
{
    EACH_VECTOR(vector, "reply.json")
    {
        struct incoming record =
            vector_record(json_object_get(vector, "headers"), nothing, nothing);
        const json_t *expected = json_object_get(vector, "reply");
        struct wire_reply reply;
        struct saga_error err;

        if (wire_read_reply(&reply, &record.public, &err) != 0) {
            expect_refused(vector, vector_text(vector, "refused"), err.message);
            continue;
        }
        ck_assert_msg(expected != NULL, "%s: not refused", vector_name(vector));
        expect_id(vector, expected, "saga_id", &reply.saga_id);
        expect_text(vector, expected, "step", reply.step);
        expect_text(vector, expected, "action",
                    reply.action == BARRIER_RUN ? WIRE_RUN : WIRE_COMPENSATE);
        expect_text(vector, expected, "outcome",
                    reply.unknown   ? WIRE_UNKNOWN
                    : reply.refused ? WIRE_REFUSED
                                    : WIRE_DONE);
        expect_text(vector, expected, "reason", reply.reason);
        expect_text(vector, expected, "traceparent", reply.traceparent);
    }
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "protocol/vectors",
        .tests = TESTS(test_protocol_ids_are_read_as_the_vectors_say,
                       test_protocol_hashes_are_those_of_the_vectors,
                       test_protocol_headers_are_lines_as_the_vectors_say,
                       test_protocol_records_have_the_headers_of_the_vectors,
                       test_protocol_partitions_are_those_of_the_vectors,
                       test_protocol_marks_mean_what_the_vectors_say,
                       test_protocol_commands_are_read_as_the_vectors_say,
                       test_protocol_replies_are_read_as_the_vectors_say),
    });
}
