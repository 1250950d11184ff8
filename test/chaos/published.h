/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether the topics hold what the ledger says, once all is quiet.
 */
#ifndef CHAOS_PUBLISHED_H
#define CHAOS_PUBLISHED_H

#include "test/chaos/judge.h"

/* Makes the table chaos.record, and copies into it what the topics hold. */
void make_records(PGconn *conn);
void copy_records(PGconn *conn, const char *const *topics, int n);

extern const struct trial published_trial;

#endif
