/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When a stream may be taken.
 */
#include "outbox/lease.h"
#include "test/support/run.h"

START_TEST(test_lease_is_free_by_its_table)
{
    static const struct {
        const char *name;
        struct lease lease;
        bool free;
    } cases[] = {
        { "nobody's", { .owned = false, .running = true, .left_ms = 1000 }, true },
        { "ours, from before a lost connection",
          { .owned = true, .ours = true, .running = true, .left_ms = 1000 },
          true },
        { "somebody's who is at work", { .owned = true, .running = true, .left_ms = 1000 }, false },
        { "somebody's who was silent too long", { .owned = true, .left_ms = -1 }, true },
        { "the longest lease",
          { .owned = true, .running = true, .left_ms = LEASE_LONGEST_MS },
          false },
        { "longer than any lease: the clock was set back",
          { .owned = true, .running = true, .left_ms = LEASE_LONGEST_MS + 1 },
          true },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ck_assert_msg(lease_free(&cases[i].lease) == cases[i].free, "%s", cases[i].name);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox/lease",
        .tests = TESTS(test_lease_is_free_by_its_table),
    });
}
