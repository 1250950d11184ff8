/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When a stream may be taken, and in which database.
 */
#include "outbox/lease.h"
#include "test/support/run.h"

#include <string.h>

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
        { "somebody's whose session is gone",
          { .owned = true, .abandoned = true, .running = true, .left_ms = 1000 },
          true },
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

START_TEST(test_place_must_be_the_one_of_the_cursor)
{
    static const struct {
        const char *name;
        struct place stored, here;
        uint64_t fresh_xid;
        const char *says; /* NULL: accepted */
    } cases[] = {
        { "never used", { 0, 0, 0 }, { 7, 1, 0 }, 100, NULL },
        { "the same", { 7, 1, 0 }, { 7, 1, 99 }, 100, NULL },
        { "a standby took over", { 7, 1, 0 }, { 7, 2, 99 }, 100, NULL },
        { "another cluster", { 8, 1, 0 }, { 7, 1, 99 }, 100, "system identifier 8" },
        { "xids from the future", { 7, 1, 0 }, { 7, 1, 101 }, 100, "transaction id 101" },
        { "the same, restored before the first relay",
          { 0, 0, 0 },
          { 7, 1, 101 },
          100,
          "restored" },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct saga_error err = { 0 };
        int rc = place_check(&cases[i].stored, &cases[i].here, cases[i].fresh_xid, &err);

        ck_assert_msg(rc == (cases[i].says != NULL ? SAGA_EMISMATCH : 0), "%s", cases[i].name);
        ck_assert_msg(rc == 0 || strstr(err.message, cases[i].says) != NULL, "%s: %s",
                      cases[i].name, err.message);
    }
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox/lease",
        .tests = TESTS(test_lease_is_free_by_its_table, test_place_must_be_the_one_of_the_cursor),
    });
}
