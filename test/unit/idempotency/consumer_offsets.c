/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a partition is read from.
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

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "idempotency/consumer_offsets",
        .tests = TESTS(test_offsets_start_goes_back_to_a_database_that_is_behind),
    });
}
