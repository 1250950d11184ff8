/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sized options: older and newer callers.
 */
#include "base/options.h"
#include "test/support/run.h"

struct options {
    uint32_t size;
    int32_t first, second;
};

START_TEST(test_options_of_an_older_caller_leave_the_rest_at_default)
{
    struct options old = { .size = 8, .first = 5, .second = 99 }, read;

    ck_assert_int_eq(options_read(&read, sizeof read, &old, NULL), 0);
    ck_assert_int_eq(read.first, 5);
    ck_assert_int_eq(read.second, 0);
}
END_TEST

START_TEST(test_options_none_are_all_default)
{
    struct options read = { .first = 1 };

    ck_assert_int_eq(options_read(&read, sizeof read, NULL, NULL), 0);
    ck_assert_int_eq(read.first, 0);
}
END_TEST

START_TEST(test_options_without_their_size_or_from_the_future_are_refused)
{
    struct options none = { .size = 0 }, future = { .size = 64 }, read;
    struct saga_error err;

    ck_assert_int_eq(options_read(&read, sizeof read, &none, &err), SAGA_EINVAL);
    ck_assert_int_eq(options_read(&read, sizeof read, &future, &err), SAGA_EINVAL);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "base/options",
        .tests = TESTS(test_options_of_an_older_caller_leave_the_rest_at_default,
                       test_options_none_are_all_default,
                       test_options_without_their_size_or_from_the_future_are_refused) });
}
