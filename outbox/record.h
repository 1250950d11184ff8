/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a row of the outbox becomes in Kafka: the record's headers, in the
 * format of its topic (docs/protocol.md).
 *
 * Owns the formats. Topic, key and payload are the row's own and go as they
 * are; handing the record over is the sink's.
 */
#ifndef OUTBOX_RECORD_H
#define OUTBOX_RECORD_H

#include "outbox/source.h"

#include <librdkafka/rdkafka.h>

enum record_format { RECORD_PLAIN, RECORD_CLOUDEVENTS };

/* Which topic has which. */
struct record_formats {
    const struct saga_pair *topics; /* name or "*", format; NULL: all are plain */
    const char *source;             /* CloudEvents' attribute of that name */
};

/* 0, or SAGA_EINVAL: an unknown format, or one that lacks its source. */
int record_check(const struct record_formats *formats, struct saga_error *err);

/* The topic's own line wins over that of "*", whatever their order. */
enum record_format record_format_of(const struct record_formats *formats, const char *topic);

/* The headers of the row's record; the caller's, to hand over or destroy. */
rd_kafka_headers_t *record_make_headers(const struct row_fields *fields, enum record_format format,
                                        const char *source);

#endif
