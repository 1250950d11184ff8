/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Adding up a record batch, as https://kafka.apache.org/documentation/#recordbatch
 * lays it out.
 */
#include "outbox/record_size.h"

#include <string.h>

enum {
    BATCH_BYTES = 61, /* before the first record */
    FIRST_BYTES = 3   /* of a first record: attributes, timestamp's and offset's delta of 0 */
};

/* Of a number of zigzag encoding, seven bits a byte. */
static int64_t
varint_bytes(int64_t number)
{
    uint64_t zigzag = number < 0 ? 1 : (uint64_t)number << 1; /* the only negative one is -1 */
    int64_t n = 1;

    while ((zigzag >>= 7) != 0)
        n++;
    return n;
}

static int64_t
field_bytes(const void *data, size_t len)
{
    return data == NULL ? varint_bytes(-1) : varint_bytes((int64_t)len) + (int64_t)len;
}

int64_t
record_batch_bytes(struct saga_bytes key, struct saga_bytes payload,
                   const rd_kafka_headers_t *headers)
{
    size_t n = rd_kafka_header_cnt(headers);
    int64_t bytes = FIRST_BYTES + field_bytes(key.data, key.len) +
                    field_bytes(payload.data, payload.len) + varint_bytes((int64_t)n);

    for (size_t i = 0; i < n; i++) {
        const char *name;
        const void *value;
        size_t len;

        rd_kafka_header_get_all(headers, i, &name, &value, &len);
        bytes += field_bytes(name, strlen(name)) + field_bytes(value, len);
    }
    return BATCH_BYTES + varint_bytes(bytes) + bytes;
}
