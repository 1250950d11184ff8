/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A row's headers as they come from PostgreSQL, behind the head of a binary
 * array, and what they become in Kafka.
 */
#include "outbox/record.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t
sum_of_texts(struct saga_bytes headers)
{
    struct saga_bytes text;
    size_t sum = 0;

    while (headers_next(&headers, &text))
        for (size_t i = 0; i < text.len; i++)
            sum += ((const uint8_t *)text.data)[i];
    return sum;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* A copy, so that its end is an end. */
    uint8_t *copy = malloc(size);
    struct row_fields fields = { .topic = "topic", .headers = { copy, size } };
    volatile size_t sum;

    if (copy == NULL)
        return 0;
    if (size > 0)
        memcpy(copy, data, size);
    sum = sum_of_texts(fields.headers);
    (void)sum;
    rd_kafka_headers_destroy(record_make_headers(&fields, RECORD_PLAIN, NULL));
    rd_kafka_headers_destroy(record_make_headers(&fields, RECORD_CLOUDEVENTS, "/fuzz"));
    free(copy);
    return 0;
}
