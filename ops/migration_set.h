/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The migrations that this program knows: embedded in it, or read from a
 * folder. Knows nothing of any database.
 */
#ifndef OPS_MIGRATION_SET_H
#define OPS_MIGRATION_SET_H

#include "base/error.h"

struct migration {
    int32_t number;
    char name[128];  /* 0010_outbox */
    char *up, *down; /* texts; down may be NULL */
};

struct migration_set {
    struct migration *items; /* by number, upwards */
    size_t n;
};

/* `folder` NULL: the embedded ones. */
int migration_set_load(struct migration_set *set, const char *folder, struct saga_error *err);
void migration_set_clear(struct migration_set *set);

/* Adds one file by its name; copies both. For migration_set_load() and tests. */
int migration_set_add(struct migration_set *set, const char *file, const char *text,
                      struct saga_error *err);
/* Sorts, and checks what can only be said of all. */
int migration_set_finish(struct migration_set *set, struct saga_error *err);

#endif
