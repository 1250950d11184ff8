/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Error details: what is filled in, cut, and cleared.
 */
#include "base/error.h"
#include "test/support/run.h"

#include <string.h>

START_TEST(test_error_set_fills_in_code_and_message)
{
    struct saga_error err = { .flags = 7, .index = 3, .sqlstate = "40001" };

    ck_assert_int_eq(error_set(&err, SAGA_ELIMIT, "%d bytes", 12), SAGA_ELIMIT);
    ck_assert_int_eq(err.code, SAGA_ELIMIT);
    ck_assert_str_eq(err.message, "12 bytes");
    ck_assert_uint_eq(err.flags, 0);
    ck_assert_uint_eq(err.index, 0);
    ck_assert_str_eq(err.sqlstate, "");
}
END_TEST

START_TEST(test_error_set_without_a_struct_returns_the_code)
{
    ck_assert_int_eq(error_set(NULL, SAGA_EDB, "x"), SAGA_EDB);
    ck_assert_int_eq(error_flag(NULL, SAGA_EDB, SAGA_ERR_FATAL), SAGA_EDB);
}
END_TEST

START_TEST(test_error_message_too_long_is_cut_between_characters)
{
    static const struct {
        const char *fill; /* repeated until the message is too long */
        size_t len;
    } cuts[] = {
        { "a", 255 }, { "\xC3\xA9", 254 }, { "\xE2\x82\xAC", 255 }, { "\xF0\x9F\x98\x80", 252 }
    };

    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        struct saga_error err;
        char text[1200] = "";

        while (strlen(text) < 600)
            strcat(text, cuts[i].fill);
        error_set(&err, SAGA_EDB, "%s", text);
        ck_assert_uint_eq(strlen(err.message), cuts[i].len);
    }
}
END_TEST

START_TEST(test_error_message_is_one_line)
{
    struct saga_error err;

    error_set(&err, SAGA_EDB, "first\nsecond\n\n");
    ck_assert_str_eq(err.message, "first second");
}
END_TEST

START_TEST(test_error_codes_all_have_a_name_and_a_sentence)
{
    for (int code = SAGA_ETIMEOUT; code <= 0; code++) {
        ck_assert_str_ne(saga_error_name(code), saga_error_name(1));
        ck_assert_str_ne(saga_error_text(code), saga_error_text(1));
    }
}
END_TEST

int
main(void)
{
    return run_tests(
        &(struct tests){ .name = "base/error",
                         .tests = TESTS(test_error_set_fills_in_code_and_message,
                                        test_error_set_without_a_struct_returns_the_code,
                                        test_error_message_too_long_is_cut_between_characters,
                                        test_error_message_is_one_line,
                                        test_error_codes_all_have_a_name_and_a_sentence) });
}
