/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which migration comes next, given what the program knows and what the
 * database says. Decides only; asks no database.
 */
#include "ops/migrate_plan.h"

int
migrate_plan_check(const struct migration_state *states, size_t n, struct saga_error *err)
{
    for (size_t i = 0; i < n; i++) {
        if (!states[i].known)
            return error_set(err, SAGA_ESTATE,
                             "the database is newer than this program: it has migration %s; use "
                             "the sagactl that applied it, or a later one",
                             states[i].name);
        if (states[i].changed)
            return error_set(err, SAGA_ESTATE,
                             "migration %s was changed after it was applied (its checksum in "
                             "saga.migration differs); put the old text back, and the change into "
                             "a migration of its own",
                             states[i].name);
    }
    return 0;
}

/* The lowest that is missing, not the first behind the highest applied: each
 * part of the system counts in a range of its own (0010, 0020, ...). */
int
migrate_plan_up(const struct migration_state *states, size_t n)
{
    int next = -1;

    for (size_t i = 0; i < n; i++)
        if (!states[i].applied && (next < 0 || states[i].number < states[next].number))
            next = (int)i;
    return next;
}

int
migrate_plan_down(const struct migration_state *states, size_t n)
{
    int last = -1;

    for (size_t i = 0; i < n; i++)
        if (states[i].applied && (last < 0 || states[i].position > states[last].position))
            last = (int)i;
    return last;
}
