/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a relay counts.
 */
#include "outbox/tally.h"

#include "base/clock.h"
#include "test/support/run.h"

static int64_t now_ms = 1000;

static int64_t
mono_ms(void)
{
    return now_ms;
}

static struct saga_relay_stats
stats_of(const struct tally *tally)
{
    struct saga_relay_stats stats = { SAGA_RELAY_STATS };

    tally_read(tally, &stats);
    return stats;
}

START_TEST(test_tally_spreads_values_over_1_2_5_10)
{
    static const struct {
        int64_t rows;
        int bucket;
    } vectors[] = { { 0, 0 },      { 1, 0 },      { 2, 1 },
                    { 3, 2 },      { 5, 2 },      { 6, 3 },
                    { 10, 3 },     { 11, 4 },     { 50, 5 },
                    { 51, 6 },     { 1000, 9 },   { 1001, 10 },
                    { 50000, 14 }, { 50001, 15 }, { INT64_C(1) << 40, 15 } };

    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        struct tally tally = { 0 };
        struct saga_relay_stats stats;

        tally_page(&tally, vectors[i].rows);
        stats = stats_of(&tally);
        ck_assert_msg(stats.pages[vectors[i].bucket] == 1, "%lld rows", (long long)vectors[i].rows);
        ck_assert_int_eq(stats.page_rows, vectors[i].rows);
    }
}
END_TEST

START_TEST(test_tally_counts_acknowledgements_in_milliseconds)
{
    struct tally tally = { 0 };

    tally_ack(&tally, 900);
    tally_ack(&tally, 1100);
    tally_ack(&tally, 70000000);
    tally_ack(&tally, -1); /* librdkafka does not know */
    ck_assert_int_eq(stats_of(&tally).acks[0], 1);
    ck_assert_int_eq(stats_of(&tally).acks[1], 1);
    ck_assert_int_eq(stats_of(&tally).acks[SAGA_RELAY_BUCKETS - 1], 1);
    ck_assert_int_eq(stats_of(&tally).ack_us, 70002000);
}
END_TEST

START_TEST(test_tally_knows_how_long_the_oldest_transaction_is_open)
{
    struct tally tally = { 0 };

    clock_replace(NULL, mono_ms);
    tally_snapshot(&tally, "100:100:");
    ck_assert_int_eq(stats_of(&tally).open_us, 0);
    tally_snapshot(&tally, "100:120:100,110");
    now_ms += 5;
    tally_snapshot(&tally, "100:130:100");
    ck_assert_int_eq(stats_of(&tally).open_us, 5000);
    tally_snapshot(&tally, "129:130:129");
    now_ms += 2;
    ck_assert_int_eq(stats_of(&tally).open_us, 2000);
    tally_state(&tally, SAGA_RELAY_STANDBY, 0);
    ck_assert_int_eq(stats_of(&tally).open_us, 0);
    ck_assert_int_eq(stats_of(&tally).alive_us, now_ms * 1000);
    clock_replace(NULL, NULL);
}
END_TEST

START_TEST(test_tally_fills_in_no_more_than_an_older_caller_knows)
{
    struct saga_relay_stats stats = { .size = 24, .polls = 7 };
    struct tally tally = { .published = 3, .polls = 9 };

    tally_read(&tally, &stats);
    ck_assert_int_eq(stats.published, 3);
    ck_assert_int_eq(stats.polls, 7);
}
END_TEST

int
main(void)
{
    return run_tests(
        &(struct tests){ .name = "outbox/tally",
                         .tests = TESTS(test_tally_spreads_values_over_1_2_5_10,
                                        test_tally_counts_acknowledgements_in_milliseconds,
                                        test_tally_knows_how_long_the_oldest_transaction_is_open,
                                        test_tally_fills_in_no_more_than_an_older_caller_knows) });
}
