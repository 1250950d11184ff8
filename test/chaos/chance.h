/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a seed decides. Each thread has a chance of its own, so that the draws
 * of one do not depend on how fast another is. (SplitMix64.)
 */
#ifndef CHAOS_CHANCE_H
#define CHAOS_CHANCE_H

#include <stdbool.h>
#include <stdint.h>

struct chance {
    uint64_t state;
};

static inline struct chance
chance_of(uint64_t seed, uint64_t thread)
{
    return (struct chance){ seed * 1000003 + thread };
}

static inline uint64_t
draw(struct chance *chance)
{
    uint64_t x = chance->state += 0x9e3779b97f4a7c15;

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

/* From `low` to `high`, both included. */
static inline int
between(struct chance *chance, int low, int high)
{
    return low + (int)(draw(chance) % (uint64_t)(high - low + 1));
}

static inline bool
percent(struct chance *chance, int n)
{
    return between(chance, 1, 100) <= n;
}

#endif
