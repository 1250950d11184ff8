/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One process of the shop in a sweep: started to die at a crash point, or to live;
 * watched for what it passes; told to end.
 *
 * Knows nothing of who should die where; the round in test/crash/sweep.c does.
 */
#ifndef TEST_MEMBER_H
#define TEST_MEMBER_H

#include "test/support/points.h"
#include "test/support/shop.h"

#include <stdint.h>

/* Where somebody is to die: the `hit`-th passing of the point. Nowhere: hit 0. */
struct target {
    int point, hit;
};

struct member {
    int kind, service, instance;
    const char *name;
    struct process *process; /* NULL: not started */
    struct target target;
    bool near, told_to_end; /* near: it has passed a point of its target's module */
    int64_t since_us;       /* it was started, or told to end */

    const char *log; /* of the points it passes */
    long read;       /* so far */
    bool died;
};

enum member_state { MEMBER_LIVES, MEMBER_DIED, MEMBER_ENDED };

struct member member_of(int kind, int service, int instance);

void member_start(struct member *member, const struct shop *shop, struct target target,
                  struct score *score);

void member_tell_to_end(struct member *member);

/*
 * Notes in the score what it has passed since the last look. MEMBER_DIED: killed at
 * its target. MEMBER_ENDED: by itself, and it was meant to; otherwise the test
 * fails. After both, `process` is NULL and `target` is what it was.
 */
enum member_state member_look(struct member *member, struct score *score);

#endif
