/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filling in a `struct saga_error`. Everything that fails in the library ends
 * in error_set(), so that a code never comes without its sentence.
 */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include <saga/base.h>

/* Forgets what an earlier call left. `err` may be NULL, here and below. */
void error_clear(struct saga_error *err);

/* Sets code and message, clears the rest, and returns `code`. */
int error_set(struct saga_error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Adds SAGA_ERR_* to the flags; returns the error's code for `return`. */
int error_flag(struct saga_error *err, int code, uint32_t flags);

#endif
