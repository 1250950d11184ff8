/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gate of the synchronous standbys (option standby_gate): nothing is
 * published before they have it on disk, so that a failover to one of them
 * loses no message that consumers have seen.
 *
 * The gate is a commit with synchronous_commit = on. Owns what is left to ask:
 * whether it has really waited, and whether there is anybody to wait for.
 */
#ifndef OUTBOX_STANDBY_H
#define OUTBOX_STANDBY_H

#include "base/pg.h"

/*
 * A wait for standbys that is cancelled ends in a commit that succeeded, and a
 * WARNING. `warnings` is what pg->warnings was before the commit. Returns 0, or
 * SAGA_EDB: retriable, and the connection is of no further use.
 */
int standby_waited(const struct pg *pg, int32_t warnings, struct saga_error *err);

/* Logs a warning if the server has no synchronous standbys. */
int standby_look(struct pg *pg, struct saga_error *err);

#endif
