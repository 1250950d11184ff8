/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The states of a saga and of its steps: their words, and which changes of
 * state there are.
 */
#include "saga/state.h"

#include <stdint.h>
#include <string.h>

static const char *const instance_states[] = { "running", "compensating", "completed",
                                               "compensated", "parked" };
static const char *const step_states[] = { "pending", "running",      "waiting",     "done",
                                           "failed",  "compensating", "compensated", "skipped" };

const char *
instance_state_name(enum instance_state state)
{
    return instance_states[state];
}

const char *
step_state_name(enum step_state state)
{
    return step_states[state];
}

bool
instance_state_parse(enum instance_state *state, const char *name)
{
    for (int i = INSTANCE_RUNNING; i <= INSTANCE_PARKED; i++) {
        if (strcmp(instance_states[i], name) == 0) {
            *state = (enum instance_state)i;
            return true;
        }
    }
    return false;
}

bool
step_state_parse(enum step_state *state, const char *name, size_t len)
{
    for (int i = STEP_PENDING; i <= STEP_SKIPPED; i++) {
        if (strlen(step_states[i]) == len && memcmp(step_states[i], name, len) == 0) {
            *state = (enum step_state)i;
            return true;
        }
    }
    return false;
}

#define TO(state) (1U << (state))

bool
instance_move_legal(enum instance_state from, enum instance_state to)
{
    static const uint32_t legal[] = {
        [INSTANCE_RUNNING] =
            TO(INSTANCE_COMPENSATING) | TO(INSTANCE_COMPLETED) | TO(INSTANCE_PARKED),
        [INSTANCE_COMPENSATING] = TO(INSTANCE_COMPENSATED) | TO(INSTANCE_PARKED),
        [INSTANCE_COMPLETED] = 0,
        [INSTANCE_COMPENSATED] = 0,
        [INSTANCE_PARKED] = TO(INSTANCE_RUNNING) | TO(INSTANCE_COMPENSATING),
    };

    return (legal[from] & TO(to)) != 0;
}

bool
step_move_legal(enum step_state from, enum step_state to)
{
    static const uint32_t legal[] = {
        [STEP_PENDING] = TO(STEP_RUNNING),
        /* Back to pending: the saga turned round before its first attempt. */
        [STEP_RUNNING] = TO(STEP_PENDING) | TO(STEP_WAITING) | TO(STEP_DONE) | TO(STEP_FAILED),
        [STEP_WAITING] = TO(STEP_DONE) | TO(STEP_FAILED) | TO(STEP_COMPENSATING),
        [STEP_DONE] = TO(STEP_COMPENSATING),
        [STEP_FAILED] = 0,
        [STEP_COMPENSATING] = TO(STEP_COMPENSATED),
        [STEP_COMPENSATED] = 0,
        [STEP_SKIPPED] = 0,
    };

    return (legal[from] & TO(to)) != 0;
}
