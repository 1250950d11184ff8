/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Definitions in the database: making one known, and telling in which way the
 * one that an instance was started with is another.
 */
#include "saga/sql.h"
#include "saga/store.h"

#include <stdio.h>
#include <string.h>

int
store_register(struct pg *pg, const struct definition *definition, struct saga_error *err)
{
    struct pg_array names, kinds, topics;
    int rc;

    pg_array_init(&names, PG_OID_TEXT_ARRAY);
    pg_array_init(&kinds, PG_OID_TEXT_ARRAY);
    pg_array_init(&topics, PG_OID_TEXT_ARRAY);
    for (size_t i = 0; i < definition->n_steps; i++) {
        pg_array_add_text(&names, definition->steps[i].name);
        pg_array_add_text(&kinds, definition_kind_name(definition->steps[i].kind));
        pg_array_add_text(&topics, definition->steps[i].command_topic);
    }
    if (names.bytes.failed || kinds.bytes.failed || topics.bytes.failed)
        rc = error_set(err, SAGA_ENOMEM, "out of memory");
    else
        rc = pg_exec(pg, SQL_REGISTER,
                     PG_ARGS(PG_TEXT(definition->name), PG_TEXT(definition->digest),
                             PG_INT8(definition->deadline_ms), PG_ARRAY(&names), PG_ARRAY(&kinds),
                             PG_ARRAY(&topics)),
                     NULL, err);
    pg_array_clear(&names);
    pg_array_clear(&kinds);
    pg_array_clear(&topics);
    return rc;
}

/* The first step at which the two differ. */
static void
describe(char reason[SAGA_REASON_MAX + 1], const struct definition *definition,
         const struct pg_rows *then)
{
    size_t n = (size_t)then->n, i = 0;
    char was[92] = "no step", is[92] = "no step"; /* a name and a kind at their longest */

    while (i < n && i < definition->n_steps &&
           strcmp(pg_text(then, (int)i, 0), definition->steps[i].name) == 0 &&
           strcmp(pg_text(then, (int)i, 1), definition_step_kind(&definition->steps[i])) == 0)
        i++;
    if (i < n)
        snprintf(was, sizeof was, "%.64s (%s)", pg_text(then, (int)i, 0), pg_text(then, (int)i, 1));
    if (i < definition->n_steps)
        snprintf(is, sizeof is, "%.64s (%s)", definition->steps[i].name,
                 definition_step_kind(&definition->steps[i]));
    snprintf(reason, SAGA_REASON_MAX + 1,
             "started with another definition of %u steps, here %u; step %u was %.80s, is %.80s",
             (unsigned)n, (unsigned)definition->n_steps, (unsigned)i + 1, was, is);
}

int
store_difference(struct pg *pg, const struct definition *definition, const struct stored *stored,
                 char reason[SAGA_REASON_MAX + 1], struct saga_error *err)
{
    struct pg_rows then = PG_ROWS_INIT;
    int rc = pg_exec(pg, SQL_STARTED_WITH, PG_ARGS(PG_UUID(&stored->id)), &then, err);

    if (rc == 0)
        describe(reason, definition, &then);
    pg_rows_clear(&then);
    return rc;
}
