/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What most tests of the outbox begin with: its database, a session in it and,
 * if wanted, a topic at a mock broker. The first two are a program's setup.
 */
#ifndef TEST_GIVEN_OUTBOX_H
#define TEST_GIVEN_OUTBOX_H

#include "test/support/mock.h"
#include "test/support/outbox.h"

extern const char *conninfo; /* of the database */
extern PGconn *conn;         /* a superuser's; closed when the test ends */
extern const char *topic;    /* NULL, or of one partition at the mock broker */
extern struct mock *mock;

void given_outbox(void);
void given_outbox_in(const struct server *cluster); /* of the test's own */
void given_outbox_and_mock(void);

/* For a test whose neighbours do without. */
void given_mock_topic(void);

#endif
