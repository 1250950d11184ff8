/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values that a caller hands to one of the SQL functions of sagas, and what
 * such a function raises.
 */
#ifndef SAGA_VALUES_H
#define SAGA_VALUES_H

#include "base/pg.h"

#include <saga/saga.h>

/* Adds `values`, which may be NULL, to two arrays of texts. SAGA_EINVAL,
 * SAGA_ELIMIT, SAGA_ENOMEM. */
int values_take(struct pg_array *names, struct pg_array *texts, const struct saga_pair *values,
                struct saga_error *err);

/* The code for `rc`, what the call has come to: SAGA_EDB becomes what the
 * function's own sqlstate means, and the transaction is aborted. */
int values_raised(int rc, struct saga_error *err);

#endif
