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
        int64_t seq;
        const char *says; /* NULL: accepted */
    } cases[] = {
        { "never used", { 0, 0, 0 }, { 7, 1, 0 }, 100, 50, NULL },
        { "the same", { 7, 1, 0 }, { 7, 1, 99 }, 100, 50, NULL },
        { "a standby took over", { 7, 1, 0 }, { 7, 2, 99 }, 100, 50, NULL },
        { "another cluster", { 8, 1, 0 }, { 7, 1, 99 }, 100, 50, "system identifier 8" },
        { "xids from the future", { 7, 1, 0 }, { 7, 1, 101 }, 100, 50, "transaction id 101" },
        { "the same, restored before the first relay",
          { 0, 0, 0 },
          { 7, 1, 101 },
          100,
          50,
          "restored" },
        { "all that the sequence has given", { 7, 1 }, { 7, 1, 99, 50 }, 100, 50, NULL },
        { "seqs from the future", { 7, 1 }, { 7, 1, 99, 51 }, 100, 50, "only to 50" },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct saga_error err = { 0 };
        int rc =
            place_check(&cases[i].stored, &cases[i].here, cases[i].fresh_xid, cases[i].seq, &err);

        ck_assert_msg(rc == (cases[i].says != NULL ? SAGA_EMISMATCH : 0), "%s", cases[i].name);
        ck_assert_msg(rc == 0 || strstr(err.message, cases[i].says) != NULL, "%s: %s",
                      cases[i].name, err.message);
    }
}
END_TEST

START_TEST(test_place_knows_what_is_latest_of_the_cursor)
{
    static const struct {
        const char *name, *prev, *cur;
        uint64_t floor_xid, cur_floor_xid;
        int64_t floor_seq, cur_floor_seq, last_seq;
        uint64_t newest_xid;
        int64_t newest_seq;
    } cases[] = {
        { "a new outbox", "3:3:", NULL, 3, 0, 0, 0, 0, 3, 0 },
        { "the snapshot's end", "90:100:95", NULL, 99, 0, 7, 0, 0, 100, 7 },
        { "the floor, assigned behind the snapshot", "90:100:", NULL, 120, 0, 7, 0, 0, 120, 7 },
        { "the open pair's end", "90:100:", "100:200:", 120, 150, 7, 9, 8, 200, 9 },
        { "the open pair's floor", "90:100:", "100:200:", 120, 250, 7, 9, 8, 250, 9 },
        { "acknowledged behind the floor", "9:10:", "10:20:", 12, 15, 7, 9, 11, 20, 11 },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct place here = { 0 };
        struct cursor cursor = { .prev = (char *)(uintptr_t)cases[i].prev,
                                 .cur = (char *)(uintptr_t)cases[i].cur,
                                 .floor_xid = cases[i].floor_xid,
                                 .cur_floor_xid = cases[i].cur_floor_xid,
                                 .floor_seq = cases[i].floor_seq,
                                 .cur_floor_seq = cases[i].cur_floor_seq,
                                 .last_seq = cases[i].last_seq };

        place_add_cursor(&here, &cursor);
        ck_assert_msg(here.newest_xid == cases[i].newest_xid, "%s: %" PRIu64, cases[i].name,
                      here.newest_xid);
        ck_assert_msg(here.newest_seq == cases[i].newest_seq, "%s: %" PRId64, cases[i].name,
                      here.newest_seq);
    }
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox/place",
        .tests = TESTS(test_place_must_be_the_one_of_the_cursor,
                       test_place_knows_what_is_latest_of_the_cursor),
    });
}
