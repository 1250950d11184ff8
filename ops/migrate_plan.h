/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which migration comes next, given what the program knows and what the
 * database says. Decides only; asks no database.
 */
#ifndef OPS_MIGRATE_PLAN_H
#define OPS_MIGRATE_PLAN_H

#include "base/error.h"

#include <stdbool.h>

/* One number, seen from both sides. */
struct migration_state {
    int32_t number;
    const char *name;
    bool known;       /* the program has it */
    bool applied;     /* the database has it */
    bool changed;     /* both have it, and not the same text */
    int64_t position; /* order of application, if applied */
};

/* Whether the two sides fit at all: 0, or SAGA_ESTATE with the explanation. */
int migrate_plan_check(const struct migration_state *states, size_t n, struct saga_error *err);

/* Index of the next one to apply or to undo, or -1: nothing to do. */
int migrate_plan_up(const struct migration_state *states, size_t n);
int migrate_plan_down(const struct migration_state *states, size_t n);

#endif
