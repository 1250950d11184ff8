/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A definition as the library works with it: checked, with defaults filled in,
 * and with its digest. Made from the user's constant table, whose structs may
 * be those of an older header.
 *
 * Owns the rules that a table of steps has to keep, and what its digest is
 * made of. Knows nothing of the database.
 */
#ifndef SAGA_DEFINITION_H
#define SAGA_DEFINITION_H

#include "base/bytes.h"
#include "base/error.h"

#include <saga/saga.h>

struct definition {
    const char *name; /* borrowed, as all texts, from the user's table */
    size_t n_steps;
    struct saga_step steps[SAGA_STEPS_MAX];
    char reply_topic[SAGA_NAME_MAX + 192];
    int64_t deadline_ms, compensation_ms;
    char digest[33];
};

/*
 * What the table is for. An orchestrator's has rules of order; a participant's
 * is a set of functions.
 */
enum definition_role { DEFINITION_OF_SAGA, DEFINITION_OF_COMMANDS };

/* Returns 0, or SAGA_EINVAL with the step and the rule it breaks; err->index is
 * the step. */
int definition_read(struct definition *into, const struct saga_definition *given,
                    enum definition_role role, struct saga_error *err);

/* The step's position, or -1. */
int definition_find(const struct definition *definition, const char *step);

/* "compensatable", "pivot", "retriable". */
const char *definition_kind_name(int32_t kind);

/* The same, and " command" if a participant does it. */
const char *definition_step_kind(const struct saga_step *step);

/* A name that may be part of a topic: letters, digits, dot, dash, underscore. */
bool definition_name_valid(const char *name);

#endif
