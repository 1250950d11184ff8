/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading an options struct whose first member is its size: a program that was
 * compiled against an older header passes a shorter one, and what it does not
 * know of is zero, that is, the default.
 */
#ifndef BASE_OPTIONS_H
#define BASE_OPTIONS_H

#include "base/error.h"

#include <string.h>

/* Copies `given` (NULL: all defaults) into `into`, whose size is `size`. */
static inline int
options_read(void *into, uint32_t size, const void *given, struct saga_error *err)
{
    uint32_t given_size = size;

    memset(into, 0, size);
    if (given == NULL)
        return 0;
    memcpy(&given_size, given, sizeof given_size);
    if (given_size < sizeof given_size || given_size > size)
        return error_set(err, SAGA_EINVAL,
                         "options of %u bytes: use the initialiser macro, and a library that is "
                         "not older than its headers",
                         given_size);
    memcpy(into, given, given_size);
    return 0;
}

static inline int64_t
option_or(int64_t value, int64_t fallback)
{
    return value != 0 ? value : fallback;
}

#endif
