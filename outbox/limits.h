/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asks the brokers how large a message each topic takes (DescribeConfigs).
 *
 * Owns what counts as their answer: also that they do not support the question,
 * or do not permit it, but not that none came in time. What is made of it is the
 * topics' business.
 */
#ifndef OUTBOX_LIMITS_H
#define OUTBOX_LIMITS_H

#include "outbox/topics.h"

#include <librdkafka/rdkafka.h>

struct limits {
    rd_kafka_t *client;
    rd_kafka_queue_t *answers;
    int waiting; /* questions without answers */
};

void limits_open(struct limits *limits, rd_kafka_t *client);
void limits_close(struct limits *limits); /* before the client */

void limits_ask(struct limits *limits, struct topic *topic);

/* Takes in the answers that have come. `changed` is called with each topic of
 * which something else was known. */
void limits_serve(struct limits *limits, struct topics *topics,
                  void (*changed)(void *user, const struct topic *topic), void *user);

#endif
