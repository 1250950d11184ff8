/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Delays between attempts: they grow, are capped, and are spread.
 */
#include "base/backoff.h"
#include "test/support/run.h"

START_TEST(test_backoff_doubles_up_to_the_cap)
{
    static const int64_t longest[] = { 100, 200, 400, 800, 1000, 1000 };

    for (int32_t attempt = 1; attempt <= 6; attempt++)
        ck_assert_int_eq(backoff_ms(100, 1000, attempt, 0), longest[attempt - 1]);
}
END_TEST

START_TEST(test_backoff_jitter_stays_between_half_and_all)
{
    bool low = false, high = false;

    for (uint64_t random = 0; random < 10000; random++) {
        int64_t delay = backoff_ms(100, 1000, 3, random * 7919);

        ck_assert_int_ge(delay, 200);
        ck_assert_int_le(delay, 400);
        low = low || delay < 230;
        high = high || delay > 370;
    }
    ck_assert(low && high);
}
END_TEST

START_TEST(test_backoff_extremes_stay_finite)
{
    ck_assert_int_ge(backoff_ms(1, INT64_MAX / 4, INT32_MAX, UINT64_MAX), 1);
    ck_assert_int_ge(backoff_ms(0, 0, 0, 0), 1);
    ck_assert_int_le(backoff_ms(INT64_MAX / 2, 1000, 2, 0), 1000);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){ .name = "base/backoff",
                                      .tests = TESTS(test_backoff_doubles_up_to_the_cap,
                                                     test_backoff_jitter_stays_between_half_and_all,
                                                     test_backoff_extremes_stay_finite) });
}
