/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a partition is read from, and how far it is finished.
 */
#include "idempotency/consumer_offsets.h"
#include "test/support/run.h"

static const struct {
    const char *name;
    int64_t kafka, postgres;
    struct offsets_start start;
} starts[] = {
    { "a new group begins at the beginning", OFFSET_NONE, OFFSET_NONE, { OFFSET_NONE, 0 } },
    { "a group that was reset reads all again", OFFSET_NONE, 70, { OFFSET_NONE, 0 } },
    { "both agree", 70, 70, { 70, 0 } },
    { "Kafka's commit came too late", 60, 70, { 60, 0 } },
    { "a replay", 0, 70, { 0, 0 } },
    { "the database has lost its last commits (I26)", 70, 60, { 60, 70 } },
    { "the database has lost all of them", 70, OFFSET_NONE, { OFFSET_NONE, 70 } },
    { "nothing was read so far", 0, OFFSET_NONE, { 0, 0 } },
};

START_TEST(test_offsets_start_goes_back_to_a_database_that_is_behind)
{
    for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++) {
        struct offsets_start start = offsets_start(starts[i].kafka, starts[i].postgres);

        ck_assert_msg(start.from == starts[i].start.from &&
                          start.distrust_below == starts[i].start.distrust_below,
                      "%s: from %ld, distrust below %ld", starts[i].name, (long)start.from,
                      (long)start.distrust_below);
    }
}
END_TEST

START_TEST(test_offsets_prefix_moves_only_over_what_is_finished_without_holes)
{
    struct offsets_prefix prefix;

    offsets_reset(&prefix);
    ck_assert_int_eq(prefix.next, OFFSET_NONE);
    ck_assert(offsets_take(&prefix, 5));
    ck_assert(offsets_take(&prefix, 6));
    ck_assert(offsets_take(&prefix, 9)); /* 7 and 8 were compacted away */
    ck_assert(!offsets_finish(&prefix, 9));
    ck_assert(!offsets_finish(&prefix, 6));
    ck_assert_int_eq(prefix.next, OFFSET_NONE);
    ck_assert(offsets_finish(&prefix, 5));
    ck_assert_int_eq(prefix.next, 10);
    ck_assert_int_eq(prefix.n, 0);
}
END_TEST

START_TEST(test_offsets_prefix_refuses_what_it_cannot_account_for)
{
    struct offsets_prefix prefix;

    offsets_reset(&prefix);
    ck_assert(!offsets_finish(&prefix, 5)); /* not taken */
    ck_assert(offsets_take(&prefix, 5));
    ck_assert(!offsets_take(&prefix, 5)); /* twice */
    ck_assert(!offsets_take(&prefix, 4)); /* backwards */
    ck_assert(offsets_finish(&prefix, 5));
    ck_assert(!offsets_take(&prefix, 5)); /* finished before */
    for (int64_t i = 0; i < OFFSETS_OPEN_MAX; i++)
        ck_assert(offsets_take(&prefix, 6 + i));
    ck_assert(!offsets_take(&prefix, 1000)); /* full */
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "idempotency/consumer_offsets",
        .tests = TESTS(test_offsets_start_goes_back_to_a_database_that_is_behind,
                       test_offsets_prefix_moves_only_over_what_is_finished_without_holes,
                       test_offsets_prefix_refuses_what_it_cannot_account_for),
    });
}
