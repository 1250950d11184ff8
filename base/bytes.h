/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A growing buffer. Zero is a valid empty one. A failed allocation is
 * remembered, so that many appends need one check at the end.
 */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buffer {
    uint8_t *data;
    size_t len, capacity;
    bool failed; /* out of memory: what was appended since is missing */
};

void buffer_add(struct buffer *buffer, const void *data, size_t len);
void buffer_add_u32(struct buffer *buffer, uint32_t value); /* network order */
void buffer_clear(struct buffer *buffer);                   /* frees; empty again */

/* Numbers in network order. */
static inline void
put_u32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> (24 - 8 * i));
}

static inline void
put_u64(uint8_t *at, uint64_t value)
{
    put_u32(at, (uint32_t)(value >> 32));
    put_u32(at + 4, (uint32_t)value);
}

static inline uint32_t
get_u32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static inline uint64_t
get_u64(const uint8_t *at)
{
    return (uint64_t)get_u32(at) << 32 | get_u32(at + 4);
}

#endif
