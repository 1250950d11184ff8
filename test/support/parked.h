/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages too large for their topic, and what is in outbox.parked.
 */
#ifndef TEST_PARKED_H
#define TEST_PARKED_H

#include "test/support/db.h"

/* A message of that many bytes that begins with `name`; key NULL: none. */
void enqueue_large(PGconn *conn, const char *topic, const char *key, const char *name, int bytes);

/* What is parked, "name name ...", in order. */
const char *parked(PGconn *conn);
int64_t parked_keys(PGconn *conn);

/* What has arrived, without the filling. */
const char *arrived(const char *topic);

#endif
