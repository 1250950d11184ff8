/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Version-7 ids of a moment that is not now. Everything else about ids is
 * public (saga/base.h).
 */
#ifndef BASE_UUID_H
#define BASE_UUID_H

#include "base/error.h"

/* As saga_uuid_make(), with the time `unix_us`, which must not be negative. */
int uuid_make_of(struct saga_uuid *id, int64_t unix_us, struct saga_error *err);

#endif
