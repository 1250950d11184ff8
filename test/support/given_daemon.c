/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An outbox, a topic and a settings file for each test.
 */
#include "test/support/given_daemon.h"

#include "test/support/run.h"

const char *ini;

void
given_daemon(void)
{
    given_outbox();
    topic = GIVEN_TOPIC(1);
    ini = output_file("daemon.ini");
}

void
settings(const char *lines)
{
    write_file(ini,
               text_of("[relay]\ndatabase = %s\nbrokers = %s\n%s\n", conninfo, brokers(), lines));
}
