/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What sagactl prints: tables for people, JSON for programs. JSON is made by
 * PostgreSQL; texts are shown without the control characters that they hold.
 */
#ifndef OPS_OUTPUT_H
#define OPS_OUTPUT_H

#include "base/pg.h"

#include <stdio.h>

/* Runs `sql` and prints its rows: a table under the columns' names, or an array
 * of objects. */
int output_query(struct pg *pg, bool json, const char *sql, const struct pg_arg *args, int n_args,
                 struct saga_error *err);

/* Runs `sql` and prints its row: a line for each column that has a value, and an
 * empty one between two rows; or the first one as an object. */
int output_record(struct pg *pg, bool json, const char *sql, const struct pg_arg *args, int n_args,
                  struct saga_error *err);

/* Runs `sql`, whose one value is JSON as text, and prints that. */
int output_json(struct pg *pg, const char *sql, const struct pg_arg *args, int n_args,
                struct saga_error *err);

/* Runs `sql`, whose rows are a payload as text or in hexadecimal, and whether it is the latter. */
int output_payloads(struct pg *pg, const char *sql, const struct pg_arg *args, int n_args,
                    struct saga_error *err);

/* The first lines of a statement, indented. */
void output_excerpt(FILE *file, const char *text, size_t len);

#endif
