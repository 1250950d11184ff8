/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line of outbox-relay.
 *
 * Owns its options, its help, and that no password stays in it for others to
 * see. What the settings are is daemon_settings.c's.
 */
#ifndef OUTBOX_DAEMON_ARGUMENTS_H
#define OUTBOX_DAEMON_ARGUMENTS_H

#include <stdbool.h>

struct arguments {
    char *database, *brokers, *config, *metrics; /* NULL: not given */
    bool once, check;
    bool had_password; /* there was one in --database */
};

enum { ARGUMENTS_RUN, ARGUMENTS_EXIT, ARGUMENTS_WRONG };

/* ARGUMENTS_RUN, or one of the other two after having told the user why. A
 * password in `argv` is overwritten there. */
int arguments_read(struct arguments *arguments, int argc, char **argv);
void arguments_clear(struct arguments *arguments);

#endif
