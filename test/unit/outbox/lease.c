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
        { "nobody's, and kept for another instance",
          { .promised = true, .running = true, .left_ms = 1000 },
          false },
        { "nobody's, and another instance has not come",
          { .promised = true, .left_ms = -1 },
          true },
        { "nobody's, and kept for longer than any lease",
          { .promised = true, .running = true, .left_ms = LEASE_LONGEST_MS + 1 },
          true },
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

START_TEST(test_lease_is_asked_for_by_its_table)
{
    static const struct {
        const char *name;
        struct lease lease; /* of stream 3 */
        bool ask;
    } cases[] = {
        { "they have all four",
          { .owned = true, .foreign = true, .theirs = 4, .own = 0, .last = 3 },
          true },
        { "another of theirs is asked for first",
          { .owned = true, .foreign = true, .theirs = 4, .own = 0, .last = 2 },
          false },
        { "two and two",
          { .owned = true, .foreign = true, .theirs = 2, .own = 2, .last = 3 },
          false },
        { "one more cannot be helped",
          { .owned = true, .foreign = true, .theirs = 2, .own = 1, .last = 3 },
          false },
        { "two more can",
          { .owned = true, .foreign = true, .theirs = 3, .own = 1, .last = 3 },
          true },
        { "the only stream", { .owned = true, .foreign = true, .theirs = 1, .last = 0 }, false },
        { "our own process has it", { .owned = true, .theirs = 4, .own = 4, .last = 3 }, false },
        { "nobody has it", { .foreign = true, .theirs = 4, .last = 3 }, false },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ck_assert_msg(lease_unfair(&cases[i].lease, 3) == cases[i].ask, "%s", cases[i].name);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox/lease",
        .tests = TESTS(test_lease_is_free_by_its_table, test_lease_is_asked_for_by_its_table),
    });
}
