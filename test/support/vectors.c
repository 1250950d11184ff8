/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the vectors with jansson.
 */
#include "test/support/vectors.h"

#include "test/support/run.h"

#include <stdlib.h>
#include <string.h>

static void
release(void *json)
{
    json_decref(json);
}

json_t *
vectors_of(const char *file)
{
    json_error_t error;
    json_t *all = json_load_file(text_of("%s/test/vectors/%s", source_dir(), file), 0, &error);

    ck_assert_msg(all != NULL, "%s, line %d: %s", file, error.line, error.text);
    at_test_end(release, all);
    ck_assert_uint_gt(json_array_size(json_object_get(all, "vectors")), 0);
    return all;
}

const char *
vector_name(const json_t *vector)
{
    const json_t *name = json_object_get(vector, "name");
    char *dump;

    if (json_is_string(name))
        return json_string_value(name);
    dump = json_dumps(vector, JSON_COMPACT);
    at_test_end(free, dump);
    return dump;
}

static json_t *
member_of(const json_t *vector, const char *member)
{
    json_t *found = json_object_get(vector, member);

    ck_assert_msg(found != NULL, "%s has no \"%s\"", vector_name(vector), member);
    return found;
}

const char *
vector_text(const json_t *vector, const char *member)
{
    const json_t *found = member_of(vector, member);

    ck_assert_msg(json_is_string(found) || json_is_null(found), "%s: \"%s\" is no text",
                  vector_name(vector), member);
    return json_string_value(found);
}

int64_t
vector_int(const json_t *vector, const char *member)
{
    const json_t *found = member_of(vector, member);

    ck_assert_msg(json_is_integer(found), "%s: \"%s\" is no number", vector_name(vector), member);
    return json_integer_value(found);
}

bool
vector_has(const json_t *vector, const char *member)
{
    const json_t *found = json_object_get(vector, member);

    return found != NULL && !json_is_null(found);
}

static struct saga_bytes
bytes_of_hex(const char *hex)
{
    size_t len = strlen(hex) / 2;
    char *bytes = calloc(len + 1, 1);

    at_test_end(free, bytes);
    for (size_t i = 0; i < len; i++) {
        char digits[] = { hex[2 * i], hex[2 * i + 1], '\0' };

        bytes[i] = (char)strtol(digits, NULL, 16);
    }
    return (struct saga_bytes){ bytes, len };
}

static struct saga_bytes
bytes_of(const json_t *value)
{
    if (json_is_object(value))
        return bytes_of_hex(vector_text(value, "hex"));
    return (struct saga_bytes){ json_string_value(value), json_string_length(value) };
}

struct saga_bytes
vector_bytes(const json_t *vector, const char *member)
{
    return bytes_of(member_of(vector, member));
}

const struct saga_pair *
vector_pairs(const json_t *vector, const char *member)
{
    const json_t *all = member_of(vector, member), *pair;
    struct saga_pair *pairs = calloc(json_array_size(all) + 1, sizeof *pairs);
    size_t i;

    at_test_end(free, pairs);
    json_array_foreach((json_t *)all, i, pair)
    {
        pairs[i].name = json_string_value(json_array_get(pair, 0));
        pairs[i].value = json_string_value(json_array_get(pair, 1));
        ck_assert_msg(pairs[i].name != NULL && pairs[i].value != NULL, "%s: \"%s\" has no texts",
                      vector_name(vector), member);
    }
    return pairs;
}

/* --- records -------------------------------------------------------------------------- */

static rd_kafka_headers_t *
kafka_headers(const json_t *headers)
{
    rd_kafka_headers_t *made = rd_kafka_headers_new(16);
    const char *name;
    json_t *value, *pair;
    size_t i;

    json_object_foreach((json_t *)headers, name, value)
    {
        struct saga_bytes bytes = bytes_of(value);

        rd_kafka_header_add(made, name, -1, bytes.data, (ssize_t)bytes.len);
    }
    json_array_foreach(headers, i, pair)
    {
        struct saga_bytes bytes = bytes_of(json_array_get(pair, 1));

        rd_kafka_header_add(made, json_string_value(json_array_get(pair, 0)), -1, bytes.data,
                            (ssize_t)bytes.len);
    }
    return made;
}

static void
close_producer(void *arg)
{
    rd_kafka_destroy(arg);
}

rd_kafka_t *
given_idle_producer(void)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_t *producer;
    char reason[256];

    rd_kafka_conf_set_events(conf, RD_KAFKA_EVENT_DR);
    rd_kafka_conf_set(conf, "log_level", "3", NULL, 0);
    producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, reason, sizeof reason);
    ck_assert_msg(producer != NULL, "%s", reason);
    at_test_end(close_producer, producer);
    return producer;
}

static void
close_event(void *arg)
{
    rd_kafka_event_destroy(arg);
}

static void
clear_record(void *arg)
{
    record_free(arg);
    free(arg);
}

/* Only librdkafka can make a message that has headers: what it could not send. */
struct incoming
vector_record(const json_t *headers, struct saga_bytes key, struct saga_bytes value)
{
    static rd_kafka_t *producer;
    static EVP_MD_CTX *digest;
    rd_kafka_headers_t *made = kafka_headers(headers);
    struct incoming *record = calloc(1, sizeof *record);
    rd_kafka_event_t *event;
    rd_kafka_queue_t *queue;
    const rd_kafka_message_t *message;

    if (producer == NULL)
        producer = given_idle_producer();
    ck_assert_int_eq(rd_kafka_producev(producer, RD_KAFKA_V_TOPIC("commands"),
                                       RD_KAFKA_V_KEY(key.data, key.len),
                                       RD_KAFKA_V_VALUE((void *)value.data, value.len),
                                       RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                                       RD_KAFKA_V_HEADERS(made), RD_KAFKA_V_END),
                     0);
    ck_assert_int_eq(rd_kafka_purge(producer, RD_KAFKA_PURGE_F_QUEUE), 0);
    queue = rd_kafka_queue_get_main(producer);
    event = rd_kafka_queue_poll(queue, 5000);
    rd_kafka_queue_destroy(queue);
    ck_assert_ptr_nonnull(event);
    at_test_end(close_event, event);
    message = rd_kafka_event_message_next(event);
    if (digest == NULL)
        digest = record_digest();
    ck_assert_int_eq(record_read(record, (rd_kafka_message_t *)message, digest, NULL), 0);
    at_test_end(clear_record, record);
    ck_assert_int_eq(record_read_headers(record, NULL), 0);
    return *record;
}
