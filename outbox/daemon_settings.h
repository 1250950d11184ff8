/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The settings of outbox-relay: its command line, and its file in INI form.
 */
#ifndef OUTBOX_DAEMON_SETTINGS_H
#define OUTBOX_DAEMON_SETTINGS_H

#include <saga/relay.h>
#include <stdbool.h>

enum { SETTINGS_TEXTS_MAX = 256, SETTINGS_KAFKA_MAX = 64 };

struct settings {
    struct saga_relay_options options;
    bool once;
    struct saga_pair kafka[SETTINGS_KAFKA_MAX + 1];
    int n_kafka;
    char *texts[SETTINGS_TEXTS_MAX]; /* what options and kafka point to */
    int n_texts;
};

enum { SETTINGS_RUN, SETTINGS_EXIT, SETTINGS_WRONG };

/* SETTINGS_RUN, or the other two after having told the user why. */
int settings_read(struct settings *settings, int argc, char **argv);
void settings_clear(struct settings *settings);

#endif
