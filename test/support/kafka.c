/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A producer, a consumer and an admin client that live for one call each.
 */
#include "test/support/kafka.h"

#include "test/support/run.h"
#include "test/support/wait.h"

#include <librdkafka/rdkafka.h>
#include <stdlib.h>
#include <string.h>

enum { TIMEOUT_MS = 20000, FETCH_MS = 100 };

static const char *chosen_brokers;

const char *
brokers(void)
{
    return chosen_brokers != NULL ? chosen_brokers : server_env("SAGA_TEST_BROKERS");
}

void
use_brokers(const char *address)
{
    chosen_brokers = address;
}

static rd_kafka_t *
client(rd_kafka_type_t type, const char *const *settings)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_t *rk;
    char why[256];

    ck_assert_int_eq(rd_kafka_conf_set(conf, "bootstrap.servers", brokers(), why, sizeof why),
                     RD_KAFKA_CONF_OK);
    for (; settings != NULL && *settings != NULL; settings += 2)
        ck_assert_msg(rd_kafka_conf_set(conf, settings[0], settings[1], why, sizeof why) ==
                          RD_KAFKA_CONF_OK,
                      "%s", why);
    rk = rd_kafka_new(type, conf, why, sizeof why);
    ck_assert_msg(rk != NULL, "%s", why);
    return rk;
}

/* The number of partitions that have a leader. */
static int
led_partitions(rd_kafka_t *rk, const char *topic)
{
    rd_kafka_topic_t *handle = rd_kafka_topic_new(rk, topic, NULL);
    const struct rd_kafka_metadata *metadata = NULL;
    int led = 0;

    if (rd_kafka_metadata(rk, 0, handle, &metadata, TIMEOUT_MS) == RD_KAFKA_RESP_ERR_NO_ERROR) {
        for (int i = 0; i < metadata->topics[0].partition_cnt; i++)
            led += metadata->topics[0].partitions[i].leader >= 0;
        rd_kafka_metadata_destroy(metadata);
    }
    rd_kafka_topic_destroy(handle);
    return led;
}

void
create_topic(const char *name, int partitions, const char *const *settings)
{
    rd_kafka_t *rk = client(RD_KAFKA_PRODUCER, NULL);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    char why[256] = "";
    rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(name, partitions, -1, why, sizeof why);
    rd_kafka_event_t *event;
    const rd_kafka_topic_result_t *const *results;
    size_t n;

    ck_assert_msg(topic != NULL, "%s", why);
    for (; settings != NULL && *settings != NULL; settings++) {
        const char *equals = strchr(*settings, '=');

        rd_kafka_NewTopic_set_config(topic, text_of("%.*s", (int)(equals - *settings), *settings),
                                     equals + 1);
    }
    rd_kafka_CreateTopics(rk, &topic, 1, NULL, queue);
    event = rd_kafka_queue_poll(queue, TIMEOUT_MS);
    ck_assert_msg(event != NULL, "no answer from the broker at %s", brokers());
    ck_assert_msg(rd_kafka_event_error(event) == 0, "%s", rd_kafka_event_error_string(event));
    results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &n);
    ck_assert_msg(rd_kafka_topic_result_error(results[0]) == 0 ||
                      rd_kafka_topic_result_error(results[0]) ==
                          RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS,
                  "topic %s: %s", name, rd_kafka_topic_result_error_string(results[0]));
    WAIT_UNTIL(led_partitions(rk, name) == partitions, TIMEOUT_MS);
    rd_kafka_event_destroy(event);
    rd_kafka_NewTopic_destroy(topic);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(rk);
}

const char *
given_topic(int partitions, const char *const *settings)
{
    const char *name = unique_name("topic");

    create_topic(name, partitions, settings);
    return name;
}

/* The answer to an admin request; who has it, destroys it. */
static rd_kafka_event_t *
answer(rd_kafka_queue_t *queue)
{
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, TIMEOUT_MS);

    ck_assert_msg(event != NULL, "no answer from the broker at %s", brokers());
    ck_assert_msg(rd_kafka_event_error(event) == 0, "%s", rd_kafka_event_error_string(event));
    return event;
}

/* A change is in force. The controller has it; the broker hears of it, shows it, and only then acts
 * by it. It does all that for one change before it shows the next: once a topic is seen that was
 * made after another had been seen, it has done so. */
static void
settled(void)
{
    given_topic(1, NULL);
    given_topic(1, NULL);
}

void
alter_topic(const char *name, const char *const *settings)
{
    rd_kafka_t *rk = client(RD_KAFKA_PRODUCER, NULL);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_ConfigResource_t *topic = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, name);
    const rd_kafka_ConfigResource_t **results;
    rd_kafka_event_t *event;
    size_t n;

    for (; *settings != NULL; settings++) {
        const char *equals = strchr(*settings, '=');

        rd_kafka_ConfigResource_set_config(
            topic, text_of("%.*s", (int)(equals - *settings), *settings), equals + 1);
    }
    rd_kafka_AlterConfigs(rk, &topic, 1, NULL, queue);
    event = answer(queue);
    results = rd_kafka_AlterConfigs_result_resources(rd_kafka_event_AlterConfigs_result(event), &n);
    ck_assert_msg(rd_kafka_ConfigResource_error(results[0]) == 0, "topic %s: %s", name,
                  rd_kafka_ConfigResource_error_string(results[0]));
    rd_kafka_event_destroy(event);
    rd_kafka_ConfigResource_destroy(topic);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(rk);
    settled();
}

void
forbid_topic(const char *name, bool forbidden)
{
    rd_kafka_t *rk = client(RD_KAFKA_PRODUCER, NULL);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    char why[256];
    rd_kafka_event_t *event;

    if (forbidden) {
        rd_kafka_AclBinding_t *acl = rd_kafka_AclBinding_new(
            RD_KAFKA_RESOURCE_TOPIC, name, RD_KAFKA_RESOURCE_PATTERN_LITERAL, "User:*", "*",
            RD_KAFKA_ACL_OPERATION_WRITE, RD_KAFKA_ACL_PERMISSION_TYPE_DENY, why, sizeof why);

        rd_kafka_CreateAcls(rk, &acl, 1, NULL, queue);
        event = answer(queue);
        rd_kafka_AclBinding_destroy(acl);
    } else {
        rd_kafka_AclBindingFilter_t *acls = rd_kafka_AclBindingFilter_new(
            RD_KAFKA_RESOURCE_TOPIC, name, RD_KAFKA_RESOURCE_PATTERN_LITERAL, NULL, NULL,
            RD_KAFKA_ACL_OPERATION_ANY, RD_KAFKA_ACL_PERMISSION_TYPE_ANY, why, sizeof why);

        rd_kafka_DeleteAcls(rk, &acls, 1, NULL, queue);
        event = answer(queue);
        rd_kafka_AclBinding_destroy(acls);
    }
    rd_kafka_event_destroy(event);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(rk);
    settled();
}

/* --- reading ------------------------------------------------------------------ */

static const char *
kept(const void *bytes, size_t len)
{
    char *copy;

    if (bytes == NULL)
        return NULL;
    copy = malloc(len + 1);
    ck_assert_ptr_nonnull(copy);
    memcpy(copy, bytes, len);
    copy[len] = '\0';
    at_test_end(free, copy);
    return copy;
}

static struct record
record_of(const rd_kafka_message_t *message)
{
    struct record record = { .key = kept(message->key, message->key_len),
                             .value = kept(message->payload, message->len),
                             .key_bytes = message->key_len,
                             .value_bytes = message->len,
                             .partition = message->partition,
                             .offset = message->offset };
    rd_kafka_headers_t *headers;

    record.timestamp_ms = rd_kafka_message_timestamp(message, NULL);
    if (rd_kafka_message_headers(message, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR) {
        struct record_header *copy;
        const char *name;
        const void *value;

        record.n_headers = rd_kafka_header_cnt(headers);
        copy = calloc(record.n_headers, sizeof *copy);
        at_test_end(free, copy);
        for (size_t i = 0; i < record.n_headers; i++) {
            rd_kafka_header_get_all(headers, i, &name, &value, &copy[i].value_bytes);
            copy[i].name = kept(name, strlen(name));
            copy[i].value = kept(value, copy[i].value_bytes);
        }
        record.headers = copy;
    }
    return record;
}

/* All partitions of the topic from their beginnings; how many there are. */
static int
assign_all(rd_kafka_t *rk, const char *topic)
{
    int partitions = led_partitions(rk, topic);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(partitions);

    for (int i = 0; i < partitions; i++)
        rd_kafka_topic_partition_list_add(list, topic, i)->offset = RD_KAFKA_OFFSET_BEGINNING;
    ck_assert_int_eq(rd_kafka_assign(rk, list), RD_KAFKA_RESP_ERR_NO_ERROR);
    rd_kafka_topic_partition_list_destroy(list);
    return partitions;
}

static int
by_partition(const void *a, const void *b)
{
    const struct record *x = a, *y = b;

    if (x->partition != y->partition)
        return x->partition < y->partition ? -1 : 1;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

struct records
topic_records(const char *topic)
{
    const char *settings[] = { "group.id",
                               "test",
                               "enable.partition.eof",
                               "true",
                               "enable.auto.commit",
                               "false",
                               "fetch.wait.max.ms",
                               "10",
                               NULL };
    rd_kafka_t *rk = client(RD_KAFKA_CONSUMER, settings);
    struct deadline deadline = deadline_in(TIMEOUT_MS);
    struct record *records = NULL;
    size_t n = 0, room = 0;
    int unfinished = assign_all(rk, topic);

    while (unfinished > 0) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(rk, FETCH_MS);

        if (message == NULL) {
            ck_assert_msg(wait_a_little(&deadline), "the end of %s is not reached", topic);
            continue;
        }
        if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
            unfinished--;
        else if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
            if (n == room) {
                room = 2 * room + 64;
                records = realloc(records, room * sizeof *records);
                ck_assert_ptr_nonnull(records);
            }
            records[n++] = record_of(message);
        }
        rd_kafka_message_destroy(message);
    }
    rd_kafka_consumer_close(rk);
    rd_kafka_destroy(rk);
    if (n > 0)
        qsort(records, n, sizeof *records, by_partition);
    at_test_end(free, records);
    return (struct records){ records, n };
}

const char *
record_header(const struct record *record, const char *name)
{
    for (size_t i = 0; i < record->n_headers; i++)
        if (strcmp(record->headers[i].name, name) == 0)
            return record->headers[i].value;
    return NULL;
}

/* --- writing ------------------------------------------------------------------ */

struct delivery {
    rd_kafka_resp_err_t err;
    int64_t offset;
    bool reported;
};

static void
on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *message, void *opaque)
{
    struct delivery *delivery = message->_private;

    (void)rk;
    (void)opaque;
    *delivery = (struct delivery){ message->err, message->offset, true };
}

static rd_kafka_t *
producer(void)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_t *rk;
    char why[256];

    rd_kafka_conf_set(conf, "bootstrap.servers", brokers(), why, sizeof why);
    rd_kafka_conf_set(conf, "partitioner", "murmur2_random", why, sizeof why);
    rd_kafka_conf_set(conf, "linger.ms", "0", why, sizeof why);
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    ck_assert_msg(rk != NULL, "%s", why);
    return rk;
}

static size_t
bytes_of(const char *text, size_t bytes)
{
    return text != NULL && bytes == 0 ? strlen(text) : bytes;
}

int64_t
produce(const char *topic, const struct record *record)
{
    rd_kafka_t *rk = producer();
    rd_kafka_headers_t *headers = rd_kafka_headers_new(record->n_headers);
    struct delivery delivery = { 0 };
    rd_kafka_error_t *error;

    for (size_t i = 0; i < record->n_headers; i++) {
        const struct record_header *h = &record->headers[i];

        rd_kafka_header_add(headers, h->name, -1, h->value,
                            (ssize_t)bytes_of(h->value, h->value_bytes));
    }
    rd_kafka_vu_t parts[] = {
        { .vtype = RD_KAFKA_VTYPE_TOPIC, .u.cstr = topic },
        { .vtype = RD_KAFKA_VTYPE_KEY,
          .u.mem = { (void *)(uintptr_t)record->key, bytes_of(record->key, record->key_bytes) } },
        { .vtype = RD_KAFKA_VTYPE_VALUE,
          .u.mem = { (void *)(uintptr_t)record->value,
                     bytes_of(record->value, record->value_bytes) } },
        { .vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = headers },
        { .vtype = RD_KAFKA_VTYPE_MSGFLAGS, .u.i = RD_KAFKA_MSG_F_COPY },
        { .vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = &delivery },
    };
    error = rd_kafka_produceva(rk, parts, sizeof parts / sizeof *parts);
    ck_assert_msg(error == NULL, "%s", rd_kafka_error_string(error));
    rd_kafka_flush(rk, TIMEOUT_MS);
    ck_assert_msg(delivery.reported && delivery.err == 0, "produce to %s: %s", topic,
                  rd_kafka_err2str(delivery.err));
    rd_kafka_destroy(rk);
    return delivery.offset;
}
