/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A text of headers as somebody may have put it into the outbox, and what it
 * becomes in Kafka.
 */
#include "outbox/headers.h"
#include "outbox/record.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t
sum_of(struct saga_bytes text)
{
    size_t sum = 0;

    for (size_t i = 0; i < text.len; i++)
        sum += ((const uint8_t *)text.data)[i];
    return sum;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* Copies, so that their ends are ends. */
    char *copy = malloc(size + 1), *scratch = malloc(size + 1);
    struct row_fields fields = { .topic = "topic", .headers = { copy, size } };
    struct headers_reader reader = { copy, copy + size, scratch };
    struct saga_bytes name, value;
    volatile size_t sum = 0;

    if (copy == NULL || scratch == NULL)
        abort();
    memcpy(copy, data, size);
    while (headers_next(&reader, &name, &value))
        sum += sum_of(name) + sum_of(value);
    if ((size_t)(reader.scratch - scratch) > size)
        abort();
    rd_kafka_headers_destroy(record_make_headers(&fields, RECORD_PLAIN, NULL));
    rd_kafka_headers_destroy(record_make_headers(&fields, RECORD_CLOUDEVENTS, "/fuzz"));
    free(copy);
    free(scratch);
    return 0;
}
