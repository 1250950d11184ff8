/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Headers of records.
 */
#include "outbox/record.h"

enum { ROOM = 8 };

/* The message's id first, then the row's own. */
rd_kafka_headers_t *
record_make_headers(const struct row_fields *fields)
{
    rd_kafka_headers_t *headers = rd_kafka_headers_new(ROOM);
    struct saga_bytes rest = fields->headers, name, value;
    char id[37];

    saga_uuid_text(&fields->id, id);
    rd_kafka_header_add(headers, "message-id", -1, id, 36);
    while (headers_next(&rest, &name) && headers_next(&rest, &value))
        rd_kafka_header_add(headers, name.data, (ssize_t)name.len, value.data, (ssize_t)value.len);
    return headers;
}
