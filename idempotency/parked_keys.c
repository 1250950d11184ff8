/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keys that are known to be parked, by their hash.
 */
#include "idempotency/parked_keys.h"

#include <stdlib.h>
#include <string.h>

struct parked_key {
    struct parked_key *next;
    const char *topic;
    size_t len;
    uint8_t bytes[];
};

uint64_t
key_hash(struct saga_bytes key)
{
    const uint8_t *at = key.data;
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < key.len; i++)
        hash = (hash ^ at[i]) * UINT64_C(0x100000001b3);
    return hash;
}

/* Where it is, or the end of the list that it belongs to. */
static struct parked_key **
place_of(struct parked_keys *keys, const char *topic, struct saga_bytes key)
{
    struct parked_key **at = &keys->lists[key_hash(key) % PARKED_KEYS_LISTS];

    while (*at != NULL && !((*at)->len == key.len && strcmp((*at)->topic, topic) == 0 &&
                            (key.len == 0 || memcmp((*at)->bytes, key.data, key.len) == 0)))
        at = &(*at)->next;
    return at;
}

bool
parked_keys_add(struct parked_keys *keys, const char *topic, struct saga_bytes key)
{
    struct parked_key **at = place_of(keys, topic, key), *made;

    if (*at != NULL)
        return true;
    made = malloc(sizeof *made + key.len);
    if (made == NULL)
        return false;
    *made = (struct parked_key){ .topic = topic, .len = key.len };
    if (key.len > 0)
        memcpy(made->bytes, key.data, key.len);
    *at = made;
    keys->n++;
    return true;
}

bool
parked_keys_has(const struct parked_keys *keys, const char *topic, struct saga_bytes key)
{
    return keys->n > 0 && *place_of((struct parked_keys *)keys, topic, key) != NULL;
}

void
parked_keys_remove(struct parked_keys *keys, const char *topic, struct saga_bytes key)
{
    struct parked_key **at = place_of(keys, topic, key), *gone = *at;

    if (gone == NULL)
        return;
    *at = gone->next;
    free(gone);
    keys->n--;
}

void
parked_keys_clear(struct parked_keys *keys)
{
    for (size_t i = 0; i < PARKED_KEYS_LISTS; i++)
        while (keys->lists[i] != NULL) {
            struct parked_key *gone = keys->lists[i];

            keys->lists[i] = gone->next;
            free(gone);
        }
    keys->n = 0;
}
