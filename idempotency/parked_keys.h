/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keys that are known to be parked. Pure.
 *
 * A hint in one direction: what is not in here is not parked; what is in here may
 * flow again meanwhile, which idempotency.park() tells.
 */
#ifndef IDEMPOTENCY_PARKED_KEYS_H
#define IDEMPOTENCY_PARKED_KEYS_H

#include <saga/base.h>
#include <stdbool.h>

enum { PARKED_KEYS_LISTS = 256 };

/* Zero is a valid empty one. */
struct parked_keys {
    struct parked_key *lists[PARKED_KEYS_LISTS];
    size_t n;
};

/* FNV-1a. */
uint64_t key_hash(struct saga_bytes key);

/* `topic` is borrowed, `key` is copied. False: out of memory. */
bool parked_keys_add(struct parked_keys *keys, const char *topic, struct saga_bytes key);
bool parked_keys_has(const struct parked_keys *keys, const char *topic, struct saga_bytes key);
void parked_keys_remove(struct parked_keys *keys, const char *topic, struct saga_bytes key);
void parked_keys_clear(struct parked_keys *keys);

#endif
