/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waiting for a condition, with a deadline. Besides pace.h the only place of the
 * tests that sleeps: a test never waits for time to pass, it waits for something
 * to be so.
 *
 * Deadlines are multiplied by CK_TIMEOUT_MULTIPLIER, as Check's own are; the
 * slow builds set it.
 */
#ifndef TEST_WAIT_H
#define TEST_WAIT_H

#include <check.h>
#include <stdbool.h>
#include <stdint.h>

/* True as soon as `condition(arg)` is, false if that is not within `ms`. */
bool wait_until(bool (*condition)(void *arg), void *arg, int ms);

/* The test fails if `expr` does not become true within `ms`. */
#define WAIT_UNTIL(expr, ms)                                                                       \
    do {                                                                                           \
        struct deadline wait_deadline = deadline_in(ms);                                           \
        while (!(expr))                                                                            \
            if (!wait_a_little(&wait_deadline))                                                    \
                ck_abort_msg("not within %d ms: %s", (ms), #expr);                                 \
    } while (0)

/* The test fails if `expr` is ever false within `ms`; for what must not happen. */
#define STAYS_TRUE(expr, ms)                                                                       \
    do {                                                                                           \
        struct deadline wait_deadline = deadline_exactly_in(ms);                                   \
        do                                                                                         \
            if (!(expr))                                                                           \
                ck_abort_msg("no longer so: %s", #expr);                                           \
        while (wait_a_little(&wait_deadline));                                                     \
    } while (0)

/* What the two are made of. */
struct deadline {
    int64_t at_us;
    int step_us;
};

struct deadline deadline_in(int ms);
struct deadline deadline_exactly_in(int ms);
bool wait_a_little(struct deadline *deadline); /* false: the deadline has passed */
int64_t monotonic_us(void);

#endif
