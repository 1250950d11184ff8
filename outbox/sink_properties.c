/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Properties of the relay's producer.
 */
#include "outbox/sink_properties.h"

#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char socket_timeout[] = "socket.timeout.ms",
                  transaction_timeout[] = "transaction.timeout.ms";

/* May be changed. The largest message that the outbox takes has to fit, with
 * its headers and what Kafka adds; the brokers' own default is as large. */
static const struct saga_pair ours[] = {
    { "client.id", "outbox-relay" },
    /* Only in a backlog: where no row follows, the batch is sent at once
     * (sink_push). While the first message of a batch has lingered for long enough
     * and may not be sent, because five requests are on their way, librdkafka's
     * thread turns round and round; so that must hardly happen. */
    { "linger.ms", "1000" },
    { "message.max.bytes", "1048588" },
    { "batch.size", "1000000" },
    { "queue.buffering.max.kbytes", "262144" },
    /* How long a topic may be unknown before it does not exist: everything else
     * waits meanwhile. */
    { "topic.metadata.propagation.max.ms", "10000" },
    /* A broker that hangs keeps its connections, and what is on its way by them
     * goes to the partition's next leader only after this. Kafka itself finds such
     * a broker dead in 9 s (broker.session.timeout.ms). A broker that waits for its
     * replicas must answer before: it does not hang. */
    { socket_timeout, "10000" },
    { "request.timeout.ms", "8000" },
    { NULL, NULL },
};

/*
 * May not be changed; the promises rest on them. No timeout: a message that was
 * given up in the middle of a batch would be overtaken. Gapless: when a batch
 * fails for good, the ones behind it must not go through on their own. The
 * partitioner is Java's, so that a key lands where any other producer puts it.
 */
static const struct saga_pair fixed[] = {
    { "enable.idempotence", "true" },
    { "acks", "all" },
    { "message.timeout.ms", "0" },
    { "enable.gapless.guarantee", "true" },
    { "partitioner", "murmur2_random" },
    { "delivery.report.only.error", "false" },
    { "log.queue", "true" },
    { NULL, NULL },
};
static const char *const other_names[] = { "request.required.acks", "delivery.timeout.ms",
                                           "transactional.id",      "bootstrap.servers",
                                           "metadata.broker.list",  NULL };

static bool
belongs_to_relay(const char *name)
{
    for (const struct saga_pair *pair = fixed; pair->name != NULL; pair++)
        if (strcasecmp(pair->name, name) == 0)
            return true;
    for (const char *const *other = other_names; *other != NULL; other++)
        if (strcasecmp(*other, name) == 0)
            return true;
    return false;
}

static int
set_all(rd_kafka_conf_t *conf, const struct saga_pair *pairs, struct saga_error *err)
{
    char why[192];

    for (; pairs != NULL && pairs->name != NULL; pairs++)
        if (rd_kafka_conf_set(conf, pairs->name, pairs->value, why, sizeof why) != RD_KAFKA_CONF_OK)
            return error_set(err, SAGA_EINVAL, "librdkafka: %s", why);
    return 0;
}

/* Of a property that is a number. */
static int64_t
number_of(rd_kafka_conf_t *conf, const char *name)
{
    char text[32] = "0";
    size_t size = sizeof text;

    rd_kafka_conf_get(conf, name, text, &size);
    return strtoll(text, NULL, 10);
}

/* librdkafka refuses to wait for an answer longer than a transaction may take. */
static void
wait_no_longer_than_transactions(rd_kafka_conf_t *conf, const struct saga_pair *properties)
{
    for (const struct saga_pair *pair = properties; pair != NULL && pair->name != NULL; pair++)
        if (strcasecmp(pair->name, transaction_timeout) == 0 &&
            strtoll(pair->value, NULL, 10) < number_of(conf, socket_timeout))
            rd_kafka_conf_set(conf, socket_timeout, pair->value, NULL, 0);
}

int
sink_properties_set(rd_kafka_conf_t *conf, const char *brokers, const struct saga_pair *properties,
                    struct saga_error *err)
{
    const struct saga_pair where[] = { { "bootstrap.servers", brokers }, { NULL, NULL } };
    int rc = set_all(conf, ours, err);

    for (const struct saga_pair *pair = properties; rc == 0 && pair != NULL && pair->name != NULL;
         pair++)
        if (belongs_to_relay(pair->name))
            rc = error_set(err, SAGA_EINVAL, "the property %s is set by the relay", pair->name);
    if (rc == 0) {
        wait_no_longer_than_transactions(conf, properties);
        rc = set_all(conf, properties, err);
    }
    if (rc == 0)
        rc = set_all(conf, fixed, err);
    if (rc == 0)
        rc = set_all(conf, where, err);
    return rc;
}

int64_t
sink_properties_batch(rd_kafka_conf_t *conf, int64_t limit)
{
    int64_t bytes = number_of(conf, "batch.size"), message = number_of(conf, "message.max.bytes");
    char text[32], why[64];

    if (message < bytes)
        bytes = message;
    if (limit <= 0 || bytes <= limit)
        return bytes;
    snprintf(text, sizeof text, "%lld", (long long)limit);
    rd_kafka_conf_set(conf, "batch.size", text, why, sizeof why);
    return limit;
}

bool
sink_properties_compress(rd_kafka_conf_t *conf)
{
    char codec[32] = "";
    size_t size = sizeof codec;

    return rd_kafka_conf_get(conf, "compression.codec", codec, &size) == RD_KAFKA_CONF_OK &&
           strcmp(codec, "none") != 0;
}
