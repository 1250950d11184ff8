/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What counts as UTF-8: the borders of Unicode 15, table 3-7.
 */
#include "base/utf8.h"
#include "test/support/run.h"

#include <string.h>

static const struct {
    const char *bytes;
    bool valid;
} texts[] = {
    { "", true },
    { "plain", true },
    { "\x7F", true },
    { "\x80", false },
    { "\xC1\xBF", false },
    { "\xC2\x80", true },
    { "\xDF\xBF", true },
    { "\xC2", false },
    { "\xC2\x41", false },
    { "\xE0\x9F\xBF", false },
    { "\xE0\xA0\x80", true },
    { "\xED\x9F\xBF", true },
    { "\xED\xA0\x80", false },
    { "\xEE\x80\x80", true },
    { "\xEF\xBF\xBF", true },
    { "\xE2\x82", false },
    { "\xF0\x8F\xBF\xBF", false },
    { "\xF0\x90\x80\x80", true },
    { "\xF4\x8F\xBF\xBF", true },
    { "\xF4\x90\x80\x80", false },
    { "\xF5\x80\x80\x80", false },
    { "\xFF", false },
    { "good\xE2\x82\xACgood\xF0\x9F\x98", false },
};

START_TEST(test_utf8_borders)
{
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        ck_assert_msg(utf8_valid(texts[i].bytes, strlen(texts[i].bytes)) == texts[i].valid,
                      "text %zu is judged wrongly", i);
}
END_TEST

START_TEST(test_utf8_nul_inside_is_refused)
{
    ck_assert(!utf8_valid("a\0b", 3));
}
END_TEST

START_TEST(test_utf8_repair_cuts_at_the_end_and_replaces_elsewhere)
{
    static const char *const repairs[][2] = {
        { "", "" },
        { "h\xC3\xA9", "h\xC3\xA9" },
        { "h\xC3", "h" },
        { "\xF0\x9F\x92", "" },
        { "\xC3'", "?'" },
        { "a\xFF\x80z", "a??z" },
        { "\xED\xA0\x80", "???" },
        { "\xE2\x82 \xE2\x82\xAC", "?? \xE2\x82\xAC" },
    };

    for (size_t i = 0; i < sizeof repairs / sizeof *repairs; i++) {
        char text[16];

        strcpy(text, repairs[i][0]);
        utf8_repair(text);
        ck_assert_str_eq(text, repairs[i][1]);
        ck_assert(utf8_valid(text, strlen(text)));
    }
}
END_TEST

int
main(void)
{
    return run_tests(
        &(struct tests){ .name = "base/utf8",
                         .tests = TESTS(test_utf8_borders, test_utf8_nul_inside_is_refused,
                                        test_utf8_repair_cuts_at_the_end_and_replaces_elsewhere) });
}
