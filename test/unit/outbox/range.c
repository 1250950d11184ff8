/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which ranges come of acknowledgements.
 */
#include "outbox/range.h"

#include "test/support/run.h"

#include <string.h>

static int64_t floor_seq;
static struct ranges ranges;

static void
given_no_ranges(void)
{
    floor_seq = 0;
    ranges = (struct ranges){ .wanted = true, .floor_seq = &floor_seq };
}

/* What is to be stored: "topic/partition seqs offsets; ..." */
static const char *
to_store(void)
{
    const char *all = "";

    for (size_t i = 0; i < ranges.n; i++) {
        const struct range *r = &ranges.all[i];

        if (!r->stored)
            all = text_of("%s%s%s/%d %d-%d at %lld-%lld", all, *all != '\0' ? "; " : "", r->topic,
                          r->partition, (int)r->first_seq, (int)r->last_seq,
                          (long long)r->first_offset, (long long)r->last_offset);
    }
    return all;
}

static const struct {
    const char *name;
    struct ack {
        const char *topic;
        int32_t partition;
        int64_t offset, seq, at_ms;
        bool then_store;
    } acks[6];
    int64_t floor_seq;
    const char *left; /* to be stored after all these */
} cases[] = {
    { "one range for each partition of each topic",
      { { "a", 0, 10, 1, 0, false },
        { "a", 1, 20, 2, 0, false },
        { "b", 0, 30, 3, 0, false },
        { "a", 0, 11, 4, 1, false } },
      0,
      "a/0 1-4 at 10-11; a/1 2-2 at 20-20; b/0 3-3 at 30-30" },
    { "what is stored is not stored again", { { "a", 0, 10, 1, 0, true } }, 0, "" },
    { "it grows for a while",
      { { "a", 0, 10, 1, 0, true }, { "a", 0, 11, 2, 499, false } },
      0,
      "a/0 1-2 at 10-11" },
    { "and is left alone then",
      { { "a", 0, 10, 1, 0, true }, { "a", 0, 11, 2, 500, false } },
      0,
      "a/0 2-2 at 11-11" },
    { "not before it is stored",
      { { "a", 0, 10, 1, 0, false }, { "a", 0, 11, 2, 9000, false } },
      0,
      "a/0 1-2 at 10-11" },
    { "sent again after a failure: both copies",
      { { "a", 0, 10, 1, 0, false }, { "a", 0, 11, 2, 0, false }, { "a", 0, 12, 1, 1, false } },
      0,
      "a/0 1-2 at 10-12" },
    { "a stored one never begins earlier",
      { { "a", 0, 10, 5, 0, true }, { "a", 0, 11, 4, 1, false } },
      0,
      "a/0 4-4 at 11-11" },
    { "rows from below the floor have ranges of their own",
      { { "a", 0, 10, 3, 0, false },
        { "a", 0, 11, 5, 0, false },
        { "a", 0, 12, 8, 0, false },
        { "a", 0, 13, 9, 0, false } },
      7,
      "a/0 3-3 at 10-10; a/0 5-5 at 11-11; a/0 8-9 at 12-13" },
    { "and are done with once they are stored",
      { { "a", 0, 10, 3, 0, true }, { "a", 0, 11, 5, 0, false } },
      7,
      "a/0 5-5 at 11-11" },
    { "an offset that Kafka did not tell is behind all others",
      { { "a", 0, -1, 1, 0, false }, { "a", 0, 11, 2, 0, false } },
      0,
      "a/0 1-2 at 11-9223372036854775807" },
};

START_TEST(test_range_covers_what_was_acknowledged)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        given_no_ranges();
        floor_seq = cases[i].floor_seq;
        for (const struct ack *ack = cases[i].acks; ack->topic != NULL; ack++) {
            ranges_note(&ranges, ack->topic, ack->partition, ack->offset, ack->seq, ack->at_ms);
            ck_assert(ranges_pending(&ranges));
            if (ack->then_store)
                ranges_stored(&ranges);
        }
        ck_assert_msg(strcmp(to_store(), cases[i].left) == 0, "%s: %s", cases[i].name, to_store());
        ck_assert(ranges_pending(&ranges) == (*cases[i].left != '\0'));
        ranges_clear(&ranges);
        ck_assert(ranges.wanted && !ranges_pending(&ranges));
    }
}
END_TEST

/* A transaction that wrote many and ended late: bounded, and each is covered. */
START_TEST(test_range_of_many_late_rows_is_one_in_the_end)
{
    given_no_ranges();
    floor_seq = 100000;
    for (int64_t seq = 1; seq <= 100000; seq++)
        ranges_note(&ranges, seq % 2 == 0 ? "a" : "b", 3, seq, seq, 0);
    ck_assert_uint_le(ranges.n, 300);
    for (int64_t seq = 1; seq <= 100000; seq++) {
        bool covered = false;

        for (size_t i = 0; i < ranges.n && !covered; i++) {
            const struct range *r = &ranges.all[i];

            covered = strcmp(r->topic, seq % 2 == 0 ? "a" : "b") == 0 && r->first_seq <= seq &&
                      seq <= r->last_seq && r->last_offset >= seq;
        }
        ck_assert(covered);
    }
    ranges_stored(&ranges);
    ck_assert_uint_eq(ranges.n, 0);
    ranges_clear(&ranges);
}
END_TEST

START_TEST(test_range_arrays_hold_only_what_is_to_be_stored)
{
    struct range_columns columns;

    given_no_ranges();
    ranges_note(&ranges, "a", 0, 10, 1, 0);
    ranges_note(&ranges, "a", 1, 11, 2, 0);
    ranges_stored(&ranges);
    ranges_note(&ranges, "a", 1, 12, 3, 0);
    range_columns_init(&columns, &ranges);
    ck_assert_uint_eq(columns.topics.n, 1);
    ck_assert_uint_eq(columns.last_offsets.n, 1);
    range_columns_clear(&columns);
    ranges_clear(&ranges);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox/range",
        .tests = TESTS(test_range_covers_what_was_acknowledged,
                       test_range_of_many_late_rows_is_one_in_the_end,
                       test_range_arrays_hold_only_what_is_to_be_stored),
    });
}
