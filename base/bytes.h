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

void put_u32(uint8_t *at, uint32_t value);
void put_u64(uint8_t *at, uint64_t value);
uint32_t get_u32(const uint8_t *at);
uint64_t get_u64(const uint8_t *at);

#endif
