/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Topics of a test's own, what is written to them, and what they hold.
 *
 * Everything talks to brokers(): the shared broker, or the one that the test
 * has named by use_brokers(), for instance GIVEN_SERVER("kafka")->address.
 */
#ifndef TEST_KAFKA_H
#define TEST_KAFKA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

const char *brokers(void);
void use_brokers(const char *address);

/* GIVEN_TOPIC(2, "max.message.bytes=2000"): its unique name, once its leaders can be written to. */
#define GIVEN_TOPIC(...)              GIVEN_TOPIC_(__VA_ARGS__, NULL)
#define GIVEN_TOPIC_(partitions, ...) given_topic(partitions, (const char *const[]){ __VA_ARGS__ })
const char *given_topic(int partitions, const char *const *settings);

/* The same for a name that the test has chosen; if another flavour of it has made it, that is the
 * one. */
void create_topic(const char *name, int partitions, const char *const *settings);

/* ALTER_TOPIC(name, "max.message.bytes=2000"): from now on; its other settings are the defaults
 * again. */
#define ALTER_TOPIC(name, ...) alter_topic(name, (const char *const[]){ __VA_ARGS__, NULL })
void alter_topic(const char *name, const char *const *settings);

/* Nobody may write to the topic any more, or they may again; of a broker that has
 * an authorizer. */
void forbid_topic(const char *name, bool forbidden);

struct record_header {
    const char *name, *value; /* value NULL: none */
    size_t value_bytes;
};

/* Texts end with a NUL, which their bytes do not count. */
struct record {
    const char *key, *value; /* NULL: none */
    size_t key_bytes, value_bytes;
    const struct record_header *headers;
    size_t n_headers;
    int32_t partition;
    int64_t offset, timestamp_ms;
};

struct records {
    const struct record *at;
    size_t n;
};

/* Everything in the topic, from its beginning to its end as of now, each partition in
 * order. Lives until the test ends. Aborted transactions are left out. */
struct records topic_records(const char *topic);

/* NULL: it has none of that name, or one without a value. */
const char *record_header(const struct record *record, const char *name);

/*
 * Writes one record and waits for its acknowledgement; returns its offset.
 * Where a text's bytes are 0, its length counts. Its partition is chosen by its key.
 *
 *     produce(topic, &(struct record){ .key = "k", .value = "v", HEADERS({ "name", "value" }) });
 */
int64_t produce(const char *topic, const struct record *record);
#define HEADERS(...)                                                                               \
    .headers = (const struct record_header[]){ __VA_ARGS__ },                                      \
    .n_headers =                                                                                   \
        sizeof((const struct record_header[]){ __VA_ARGS__ }) / sizeof(struct record_header)

#endif
