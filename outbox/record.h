/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a row of the outbox becomes in Kafka: the record's headers.
 *
 * Owns the formats. Topic, key and payload are the row's own and go as they
 * are; handing the record over is the sink's.
 */
#ifndef OUTBOX_RECORD_H
#define OUTBOX_RECORD_H

#include "outbox/source.h"

#include <librdkafka/rdkafka.h>

/* The headers of the row's record; the caller's, to hand over or destroy. */
rd_kafka_headers_t *record_make_headers(const struct row_fields *fields);

#endif
