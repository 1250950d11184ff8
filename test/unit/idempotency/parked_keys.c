/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which keys are known to be parked: by topic and by every byte of the key, also where two share
 * a list.
 */
#include "idempotency/parked_keys.h"

#include "test/support/run.h"

#include <stdio.h>
#include <string.h>

static struct saga_bytes
numbered(char name[16], int n)
{
    return (struct saga_bytes){ name, (size_t)snprintf(name, 16, "%d", n) };
}

/* One after the other on the same set. */
static const struct {
    enum { ADD, REMOVE } what;
    const char *topic;
    struct saga_bytes key;
    size_t n; /* in the set, afterwards */
} steps[] = {
    { ADD, "a", { "k", 1 }, 1 },        { ADD, "a", { "k", 1 }, 1 },
    { ADD, "b", { "k", 1 }, 2 },        { ADD, "a", { "", 0 }, 3 },
    { ADD, "a", { "k\0", 2 }, 4 },      { ADD, "a", { "k\0x", 3 }, 5 },
    { REMOVE, "b", { "other", 5 }, 5 }, { REMOVE, "b", { "k", 1 }, 4 },
    { REMOVE, "b", { "k", 1 }, 4 },     { REMOVE, "a", { "k\0", 2 }, 3 },
    { ADD, "b", { "k\0", 2 }, 4 },      { REMOVE, "a", { "", 0 }, 3 },
};

/* The last step about a key tells whether it is in. */
static bool
should_have(size_t done, const char *topic, struct saga_bytes key)
{
    bool is_in = false;

    for (size_t i = 0; i <= done; i++)
        if (strcmp(steps[i].topic, topic) == 0 && steps[i].key.len == key.len &&
            memcmp(steps[i].key.data, key.data, key.len) == 0)
            is_in = steps[i].what == ADD;
    return is_in;
}

START_TEST(test_parked_keys_are_told_apart_by_topic_and_all_bytes_i23)
{
    struct parked_keys keys = { 0 };

    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        if (steps[i].what == ADD)
            ck_assert(parked_keys_add(&keys, steps[i].topic, steps[i].key));
        else
            parked_keys_remove(&keys, steps[i].topic, steps[i].key);
        ck_assert_msg(keys.n == steps[i].n, "step %zu: %zu are in it", i, keys.n);
        for (size_t j = 0; j < sizeof steps / sizeof *steps; j++)
            ck_assert_msg(parked_keys_has(&keys, steps[j].topic, steps[j].key) ==
                              should_have(i, steps[j].topic, steps[j].key),
                          "step %zu, key of step %zu", i, j);
    }
    parked_keys_clear(&keys);
    ck_assert_int_eq(keys.n, 0);
    ck_assert(!parked_keys_has(&keys, "a", steps[0].key));
}
END_TEST

/* Several in each list; each second one is taken out again. */
START_TEST(test_parked_keys_more_than_there_are_lists_are_all_found_i23)
{
    enum { MANY = 3 * PARKED_KEYS_LISTS };
    struct parked_keys keys = { 0 };
    char name[16];

    for (int i = 0; i < MANY; i++)
        ck_assert(parked_keys_add(&keys, "t", numbered(name, i)));
    for (int i = 0; i < MANY; i += 2)
        parked_keys_remove(&keys, "t", numbered(name, i));
    ck_assert_int_eq(keys.n, MANY / 2);
    for (int i = 0; i < MANY; i++)
        ck_assert_int_eq(parked_keys_has(&keys, "t", numbered(name, i)), i % 2);
    parked_keys_clear(&keys);
}
END_TEST

/* FNV-1a's own vectors. */
START_TEST(test_key_hash_is_fnv_1a)
{
    static const struct {
        struct saga_bytes key;
        uint64_t hash;
    } vectors[] = {
        { { NULL, 0 }, UINT64_C(0xcbf29ce484222325) },
        { { "a", 1 }, UINT64_C(0xaf63dc4c8601ec8c) },
        { { "foobar", 6 }, UINT64_C(0x85944171f73967e8) },
    };

    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++)
        ck_assert_msg(key_hash(vectors[i].key) == vectors[i].hash, "vector %zu", i);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "idempotency/parked_keys",
        .tests = TESTS(test_parked_keys_are_told_apart_by_topic_and_all_bytes_i23,
                       test_parked_keys_more_than_there_are_lists_are_all_found_i23,
                       test_key_hash_is_fnv_1a),
    });
}
