/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether the database was migrated by a later version than this program is of.
 *
 * That is no error: the database comes first in an upgrade, and the programs
 * follow one by one (docs/database.md). But who forgets one should be told.
 */
#ifndef BASE_SCHEMA_H
#define BASE_SCHEMA_H

#include "base/pg.h"

/* What the first migrations are called that the database has and this program does
 * not know: "0040_more, 0041_..."; false, and "": there is none, or it cannot be
 * seen. Outside a transaction only. */
bool schema_is_newer(struct pg *pg, char *names, size_t size);

/* Once for `pg`, a warning in its log. */
void schema_warn(struct pg *pg);

#endif
