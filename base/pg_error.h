/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What PostgreSQL answered, as our codes and flags. Private to base/pg*.c.
 */
#ifndef BASE_PG_ERROR_H
#define BASE_PG_ERROR_H

#include "base/pg.h"

/* From a failed result (may be NULL: the connection said nothing). */
int pg_error_of(struct pg *pg, const PGresult *result, bool foreign, struct saga_error *err);

/* The connection is gone. Closes it if it is ours. */
int pg_error_lost(struct pg *pg, struct saga_error *err);

/* As the answer to a COMMIT, `result` is: 0, rolled back, or unknown. */
int pg_commit_outcome(struct pg *pg, const PGresult *result, struct saga_error *err);

#endif
