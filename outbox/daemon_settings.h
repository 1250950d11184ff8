/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The settings of outbox-relay: which there are, and what each may be.
 *
 * The command line wins over the environment, and that over the file.
 */
#ifndef OUTBOX_DAEMON_SETTINGS_H
#define OUTBOX_DAEMON_SETTINGS_H

#include "outbox/daemon_arguments.h"
#include "outbox/daemon_values.h"

#include <saga/relay.h>

struct settings {
    struct saga_relay_options options; /* points into the rest */
    const char *listen;                /* of /metrics and /healthz; NULL: nowhere */
    int32_t stall_ms;                  /* a relay that makes no round for so long hangs */
    int32_t once_ms;                   /* --once gives up when nothing is published for so long */
    char ignored[64];                  /* a variable that looks like a setting; "": none */

    struct values values;
    struct saga_pair *kafka, *formats;
    char *groups; /* cut into watch */
    const char **watch;
};

/*
 * Reads all of them; can be called again for the same `arguments`.
 *
 * Returns 0, or SAGA_EINVAL with a sentence that names the place, the setting
 * and what is allowed, and never its value; or SAGA_ENOMEM.
 */
int settings_read(struct settings *settings, const struct arguments *arguments,
                  char *const *environment, struct saga_error *err);
/* Puts in front of what saga_relay_new() says of a property or of a topic where that
 * is set: the library knows no files. */
void settings_locate(const struct settings *settings, struct saga_error *err);

void settings_clear(struct settings *settings);

#endif
