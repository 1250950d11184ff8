/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether what is left, once all is quiet, keeps the rules.
 */
#ifndef CHAOS_JUDGE_H
#define CHAOS_JUDGE_H

#include <libpq-fe.h>
#include <stddef.h>

enum { TABLES_MAX = 8 };

/* `sql` asks for what violates it. */
struct rule {
    const char *broken, *sql;
};

struct figure {
    const char *label, *sql;
};

struct trial {
    const struct rule *rules;
    size_t n_rules;
    const struct figure *figures;
    size_t n_figures;
    const char *tables[TABLES_MAX]; /* the evidence */
};

/* Prints the figures and what is violated; how many rules are. Where there
 * are any, leaves the tables as files in `dir`. */
int judge(PGconn *conn, const struct trial *trial, const char *dir);

#endif
