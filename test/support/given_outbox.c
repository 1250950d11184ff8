/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An outbox for each test.
 */
#include "test/support/given_outbox.h"

#include "test/support/mock.h"
#include "test/support/run.h"

const char *conninfo;
PGconn *conn;
const char *topic;
struct mock *mock;

/* Whichever session the test ended with. */
static void
close_conn(void *arg)
{
    (void)arg;
    PQfinish(conn);
}

static void
open_it(const char *of)
{
    conninfo = of;
    conn = db_connect(conninfo);
    at_test_end(close_conn, NULL);
}

void
given_outbox(void)
{
    open_it(given_database());
}

void
given_outbox_in(const struct server *cluster)
{
    open_it(given_database_in(cluster));
}

void
given_mock_topic(void)
{
    topic = unique_name("topic");
    mock = given_mock();
    mock_topic(mock, topic, 1);
}

void
given_outbox_and_mock(void)
{
    given_outbox();
    given_mock_topic();
}
