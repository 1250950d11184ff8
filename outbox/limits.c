/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asking for the limits of topics.
 */
#include "outbox/limits.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>

enum { ANSWER_MS = 5000 }; /* then there is none */

void
limits_open(struct limits *limits, rd_kafka_t *client)
{
    *limits = (struct limits){ .client = client, .answers = rd_kafka_queue_new(client) };
}

void
limits_close(struct limits *limits)
{
    rd_kafka_queue_destroy(limits->answers);
    limits->waiting = 0;
}

void
limits_ask(struct limits *limits, struct topic *topic)
{
    rd_kafka_AdminOptions_t *options =
        rd_kafka_AdminOptions_new(limits->client, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
    rd_kafka_ConfigResource_t *resource =
        rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic->name);
    char why[64];

    rd_kafka_AdminOptions_set_request_timeout(options, ANSWER_MS, why, sizeof why);
    rd_kafka_AdminOptions_set_opaque(options, topic);
    rd_kafka_DescribeConfigs(limits->client, &resource, 1, options, limits->answers);
    rd_kafka_ConfigResource_destroy(resource);
    rd_kafka_AdminOptions_destroy(options);
    topic_asked(topic, clock_mono_ms());
    limits->waiting++;
}

/* Whether asking again would bring the same. */
static bool
is_answer(rd_kafka_resp_err_t error)
{
    return error == RD_KAFKA_RESP_ERR_NO_ERROR || error == RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE ||
           error == RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION ||
           error == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED ||
           error == RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
}

/* What went wrong, with the question as a whole or with the topic. */
static rd_kafka_resp_err_t
error_of(rd_kafka_event_t *event)
{
    rd_kafka_resp_err_t error = rd_kafka_event_error(event);
    const rd_kafka_ConfigResource_t **resources;
    size_t n = 0;

    if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
        return error;
    resources =
        rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(event), &n);
    return n > 0 ? rd_kafka_ConfigResource_error(resources[0]) : RD_KAFKA_RESP_ERR_UNKNOWN;
}

/* 0: the answer does not say. */
static int64_t
max_bytes_of(rd_kafka_event_t *event)
{
    const rd_kafka_ConfigResource_t **resources;
    const rd_kafka_ConfigEntry_t **entries;
    size_t n = 0;

    if (error_of(event) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return 0;
    resources =
        rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(event), &n);
    entries = rd_kafka_ConfigResource_configs(resources[0], &n);
    for (size_t i = 0; i < n; i++) {
        const char *value = rd_kafka_ConfigEntry_value(entries[i]);

        if (value != NULL &&
            strcmp(rd_kafka_ConfigEntry_name(entries[i]), "max.message.bytes") == 0)
            return strtoll(value, NULL, 10);
    }
    return 0;
}

void
limits_serve(struct limits *limits, struct topics *topics,
             void (*changed)(void *user, const struct topic *topic), void *user)
{
    rd_kafka_event_t *event;

    while (limits->waiting > 0 && (event = rd_kafka_queue_poll(limits->answers, 0)) != NULL) {
        struct topic *topic = rd_kafka_event_opaque(event);

        if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_DESCRIBECONFIGS_RESULT) {
            limits->waiting--;
            if (!is_answer(error_of(event)))
                topic_unanswered(topic);
            else if (topics_answered(topics, topic, max_bytes_of(event), clock_mono_ms()))
                changed(user, topic);
        }
        rd_kafka_event_destroy(event);
    }
}
