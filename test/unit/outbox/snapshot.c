/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a snapshot shows.
 */
#include "outbox/snapshot.h"
#include "test/support/run.h"

#include <stdio.h>

static struct snapshot
read_snapshot(const char *text)
{
    struct snapshot snapshot = { 0 };

    ck_assert_msg(snapshot_parse(&snapshot, text), "%s", text);
    return snapshot;
}

START_TEST(test_snapshot_shows_what_has_ended)
{
    static const struct {
        const char *snapshot;
        uint64_t xid;
        bool shown;
    } cases[] = {
        { "10:20:12,15", 9, true },
        { "10:20:12,15", 11, true },
        { "10:20:12,15", 12, false },
        { "10:20:12,15", 13, true },
        { "10:20:12,15", 15, false },
        { "10:20:12,15", 19, true },
        { "10:20:12,15", 20, false },
        { "10:20:12,15", 21, false },
        { "3:3:", 3, false },
        { "3:3:", 2, true },
        { "7:8:7", 7, false },
        { "4294967300:4294967301:", 5, true },
        { "18446744073709551614:18446744073709551615:", 18446744073709551614U, true },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct snapshot snapshot = read_snapshot(cases[i].snapshot);

        ck_assert_msg(snapshot_shows(&snapshot, cases[i].xid) == cases[i].shown, "%s, xid %llu",
                      cases[i].snapshot, (unsigned long long)cases[i].xid);
        snapshot_clear(&snapshot);
    }
}
END_TEST

START_TEST(test_snapshot_late_are_those_that_ended_since)
{
    static const struct {
        const char *prev, *cur, *late;
    } cases[] = {
        { "10:20:12,15", "10:20:12,15", "" },
        { "10:20:12,15", "15:20:15", "12 " },
        { "10:20:12,15", "20:20:", "12 15 " },
        { "10:20:12,15", "12:30:12,25", "15 " },
        { "20:20:", "30:30:", "" },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct snapshot prev = read_snapshot(cases[i].prev), cur = read_snapshot(cases[i].cur);
        uint64_t xids[4];
        char text[64] = "";
        size_t n = snapshot_late(&prev, &cur, xids), len = 0;

        for (size_t j = 0; j < n; j++)
            len += (size_t)snprintf(text + len, sizeof text - len, "%llu ",
                                    (unsigned long long)xids[j]);
        ck_assert_str_eq(text, cases[i].late);
        snapshot_clear(&prev);
        snapshot_clear(&cur);
    }
}
END_TEST

START_TEST(test_snapshot_refuses_other_texts)
{
    static const char *const texts[] = {
        "",       "1",      "1:",    "1:2",    "a:2:",  "1:b:",  "1:2:c",
        "1:2:3,", "1:2:,3", "-1:2:", "1:2:3x", "1 :2:", "1:2:3;"
    };

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct snapshot snapshot = { 0 };

        ck_assert_msg(!snapshot_parse(&snapshot, texts[i]), "'%s'", texts[i]);
    }
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox/snapshot",
        .tests =
            TESTS(test_snapshot_shows_what_has_ended, test_snapshot_late_are_those_that_ended_since,
                  test_snapshot_refuses_other_texts),
    });
}
