/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether what is left, once all is quiet, keeps the rules.
 */
#ifndef CHAOS_JUDGE_H
#define CHAOS_JUDGE_H

#include <libpq-fe.h>

enum { TABLES_MAX = 8 };

/* `sql` asks for what violates it. */
struct rule {
    const char *broken, *sql;
};

struct figure {
    const char *label, *sql;
};

struct trial {
    const struct rule *rules; /* these two end with { 0 } */
    const struct figure *figures;
    const char *tables[TABLES_MAX]; /* the evidence */
};

/* Prints the figures and what is violated; how many rules are. Where there
 * are any, leaves the tables as files in `dir`. */
int judge(PGconn *conn, const struct trial *trial, const char *dir);

/* The test fails if `conn`'s tables break a rule as they are, or if they break none after one of
 * `faults`, which are statements and end with NULL. */
void expect_judge_notices(PGconn *conn, const struct trial *trial, const char *const *faults);

#endif
