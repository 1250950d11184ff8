/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a database can be the one in which the cursor was made.
 */
#include "outbox/place.h"
#include "test/support/run.h"

#include <inttypes.h>
#include <string.h>

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

START_TEST(test_place_newest_xid_is_the_latest_that_the_cursor_names)
{
    static const struct {
        const char *name, *prev, *cur;
        uint64_t floor_xid, cur_floor_xid, newest;
    } cases[] = {
        { "a new outbox", "3:3:", NULL, 3, 0, 3 },
        { "the snapshot's end", "90:100:95", NULL, 99, 0, 100 },
        { "the floor, which was assigned behind the snapshot", "90:100:", NULL, 120, 0, 120 },
        { "the open pair's end", "90:100:", "100:200:", 120, 150, 200 },
        { "the open pair's floor", "90:100:", "100:200:", 120, 250, 250 },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct cursor cursor = { .prev = (char *)(uintptr_t)cases[i].prev,
                                 .cur = (char *)(uintptr_t)cases[i].cur,
                                 .floor_xid = cases[i].floor_xid,
                                 .cur_floor_xid = cases[i].cur_floor_xid };

        ck_assert_msg(place_newest_xid(&cursor) == cases[i].newest, "%s: %" PRIu64, cases[i].name,
                      place_newest_xid(&cursor));
    }
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox/place",
        .tests = TESTS(test_place_must_be_the_one_of_the_cursor,
                       test_place_newest_xid_is_the_latest_that_the_cursor_names),
    });
}
