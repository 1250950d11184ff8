/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was asked for, by CHAOS_DURATION and CHAOS_SEED: how long, and which seed.
 */
#ifndef CHAOS_ASKED_H
#define CHAOS_ASKED_H

#include <stdint.h>
#include <stdio.h>

enum { ANY_SEED = 0 };

struct asked {
    uint64_t seed;
    int duration_s;
    const char *dir; /* for what happens, and evidence */
    FILE *log;       /* of what happens, in `dir` */
};

int asked_duration_s(int otherwise_s);

/* Says so, too. */
struct asked asked_for(int otherwise_s, uint64_t otherwise_seed);

#endif
