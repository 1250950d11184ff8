/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether the topics hold what the ledger says, once all is quiet.
 */
#ifndef CHAOS_JUDGE_H
#define CHAOS_JUDGE_H

#include <libpq-fe.h>

/* Makes the table chaos.record, and copies into it what the topics hold. */
void make_records(PGconn *conn);
void copy_records(PGconn *conn, const char *const *topics, int n);

/* Prints the figures and what is violated; how many rules are. Where there
 * are any, leaves the tables as files in `dir`. */
int judge(PGconn *conn, const char *dir);

#endif
