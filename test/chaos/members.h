/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two groups of three consumers each that read one topic into one database: the
 * first group rebalances eagerly, the second one cooperatively. Each consumer is
 * behind a proxy, and starts each time with another size of batch and another
 * clock.
 */
#ifndef CHAOS_MEMBERS_H
#define CHAOS_MEMBERS_H

#include "test/chaos/chance.h"
#include "test/support/process.h"
#include "test/support/proxy.h"

enum {
    GROUPS = 2,
    MEMBERS = 6,
    SESSION_MS = 2000,
    POLL_MS = 3000, /* max.poll.interval.ms */
    WINDOW_MS = 10000
};

struct member {
    struct process *process; /* NULL: none runs, and none shall */
    struct proxy *proxy;     /* to PostgreSQL */
    const char *conninfo, *group;
    bool frozen;
};

struct members {
    struct member members[MEMBERS];
    const char *groups[GROUPS], *topic;
    struct proxy *redis;
    struct chance *chance;
    long long applied, by_mark, by_inbox; /* as told by those who ended in order */
};

struct members *given_members(const char *postgres, const char *database, const char *redis,
                              const char *topic, struct chance *chance);

void members_start(struct members *members, int i);
void members_kill(struct members *members, int i);
void members_leave(struct members *members, int i); /* in order */
void members_freeze(struct members *members, int i);
void members_thaw(struct members *members, int i);

/* No member ends by itself: the test fails. */
void members_supervise(struct members *members);

#endif
