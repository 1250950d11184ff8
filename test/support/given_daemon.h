/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tests of the daemon outbox-relay begin with: an outbox, a topic at the real
 * broker, and a settings file that is not written yet.
 */
#ifndef TEST_GIVEN_DAEMON_H
#define TEST_GIVEN_DAEMON_H

#include "test/support/daemon.h"
#include "test/support/given_outbox.h"

extern const char *ini; /* the file's path */

void given_daemon(void);

/* Writes the file; `lines` follow [relay], the database and the broker. */
void settings(const char *lines);

#endif
