/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The properties of librdkafka's producer: what the relay sets and the user may
 * change, what he may not, and what he adds.
 */
#ifndef OUTBOX_SINK_PROPERTIES_H
#define OUTBOX_SINK_PROPERTIES_H

#include <librdkafka/rdkafka.h>
#include <saga/base.h>
#include <stdbool.h>

/* 0, or SAGA_EINVAL: one belongs to the relay, or librdkafka refuses it. */
int sink_properties_set(rd_kafka_conf_t *conf, const char *brokers,
                        const struct saga_pair *properties, struct saga_error *err);

/* Sees to it that no batch is larger than `limit` (0: none); returns how large
 * they are at most. */
int64_t sink_properties_batch(rd_kafka_conf_t *conf, int64_t limit);

bool sink_properties_compress(rd_kafka_conf_t *conf);

#endif
