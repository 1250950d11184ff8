/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Faults drawn from a seed, and how long it takes after each until what is
 * written afterwards has arrived.
 *
 * Knows neither whom it hurts nor how: that is the play.
 */
#ifndef CHAOS_FAULTS_H
#define CHAOS_FAULTS_H

#include "test/chaos/chance.h"

#include <stddef.h>
#include <stdio.h>

enum { TARGETS_MAX = 16 };

/* `heals_itself`: begin() leaves what will do without the hurt one; otherwise nothing need arrive
 * before end(). */
struct kind {
    const char *name;
    int weight;
    int target, n_targets; /* the first of those it may hurt, and how many; each is hurt by one
                              fault at a time */
    bool heals_itself;
    int least_ms, longest_ms; /* 0: as long as begin() takes */
    void (*begin)(void *scene, int i);
    void (*end)(void *scene, int i);     /* NULL: nothing to undo */
    bool (*possible)(const void *scene); /* NULL: always */
    int (*whom)(void *scene);            /* `i`; NULL: drawn */
};

struct play {
    void *scene;
    const struct kind *kinds; /* ends with { 0 } */
    struct chance *chance;
    FILE *log;
    /* Called often, also while something is hurt: buries, and starts again, who ended. */
    void (*supervise)(void *scene);
    /* Writes something new, within `ms`; and has that arrived? */
    bool (*write_probe)(void *scene, int ms);
    bool (*probe_arrived)(void *scene);
};

struct faults;
struct faults *new_faults(const struct play *play);

/* Until `ms` have passed; afterwards everybody is well again. */
void let_loose(struct faults *faults, int ms);

/* A line for each kind: how often, and the recovery's p50, p99 and maximum. */
void print_faults(const struct faults *faults);

#endif
