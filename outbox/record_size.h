/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many bytes a record takes in Kafka, before compression.
 */
#ifndef OUTBOX_RECORD_SIZE_H
#define OUTBOX_RECORD_SIZE_H

#include <librdkafka/rdkafka.h>
#include <saga/base.h>
#include <stdint.h>

/* A record batch (format 2) with this record alone: what a broker compares with
 * max.message.bytes. data NULL: no key, no value. */
int64_t record_batch_bytes(struct saga_bytes key, struct saga_bytes payload,
                           const rd_kafka_headers_t *headers);

#endif
