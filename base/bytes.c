/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A growing buffer, and numbers in network order.
 */
#include "base/bytes.h"

#include <stdlib.h>
#include <string.h>

static bool
reserve(struct buffer *buffer, size_t len)
{
    size_t capacity = buffer->capacity != 0 ? buffer->capacity : 256;
    uint8_t *data;

    if (buffer->failed || len > SIZE_MAX / 4 - buffer->len) {
        buffer->failed = true;
        return false;
    }
    if (buffer->len + len <= buffer->capacity)
        return true;
    while (capacity < buffer->len + len)
        capacity *= 2;
    data = realloc(buffer->data, capacity);
    if (data == NULL) {
        buffer->failed = true;
        return false;
    }
    buffer->data = data;
    buffer->capacity = capacity;
    return true;
}

void
buffer_add(struct buffer *buffer, const void *data, size_t len)
{
    if (len == 0 || !reserve(buffer, len))
        return;
    memcpy(buffer->data + buffer->len, data, len);
    buffer->len += len;
}

void
buffer_add_u32(struct buffer *buffer, uint32_t value)
{
    uint8_t bytes[4];

    put_u32(bytes, value);
    buffer_add(buffer, bytes, sizeof bytes);
}

void
buffer_clear(struct buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct buffer){ 0 };
}
