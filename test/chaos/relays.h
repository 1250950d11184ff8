/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two relays that share an outbox, each behind a proxy and with a clock of its
 * own, and what an init system does for them: one that ends is started again.
 */
#ifndef CHAOS_RELAYS_H
#define CHAOS_RELAYS_H

#include "test/chaos/chance.h"
#include "test/support/process.h"
#include "test/support/proxy.h"

enum { RELAYS = 2 };

struct relay {
    struct process *process; /* NULL: none runs, and none shall */
    struct proxy *proxy;
    const char *conninfo;
    const char *config;
    bool frozen;
};

struct relays {
    struct relay relays[RELAYS];
    struct chance *chance;
    int restarts; /* of relays that ended by themselves: overtaken, that is */
    int skewed;   /* starts with another clock than the servers' */
};

/* The database is in the server at `address`. */
struct relays *given_relays(const char *address, const char *database, int lease_ms,
                            struct chance *chance);

void relays_start(struct relays *relays, int i);
void relays_kill(struct relays *relays, int i);
void relays_stop(struct relays *relays, int i); /* in order */
void relays_freeze(struct relays *relays, int i);
void relays_thaw(struct relays *relays, int i);

/* Starts again what has ended with a good reason; the test fails if one ended
 * with another. */
void relays_supervise(struct relays *relays);

#endif
