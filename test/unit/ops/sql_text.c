/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding a statement and its line in a text.
 */
#include "ops/sql_text.h"
#include "test/support/run.h"

#include <string.h>

static const char file[] = "-- a comment; with a semicolon\n"
                           "CREATE TABLE t (a text DEFAULT 'x;y', \"b;c\" int);\n"
                           "/* a /* nested; */ one; */\n"
                           "CREATE FUNCTION f() RETURNS int AS $x$ SELECT 1; $x$ LANGUAGE sql;\n"
                           "INSERT INTO t VALUES (E'it\\'s;', 'don''t;'),\n"
                           "    ('\xC3\xA9', $1);\n"
                           "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2);\n"
                           "SELECT 1";

static const struct {
    const char *begins;
    int line;
} statements[] = {
    { "CREATE TABLE", 2 }, { "CREATE FUNCTION", 4 }, { "INSERT", 5 },
    { "CREATE RULE", 7 },  { "SELECT 1", 8 },
};

START_TEST(test_locate_by_index_finds_each_statement)
{
    for (unsigned i = 0; i < sizeof statements / sizeof *statements; i++) {
        struct sql_place place = sql_locate(file, 0, i);

        ck_assert_int_eq(place.line, statements[i].line);
        ck_assert_int_eq(strncmp(place.text, statements[i].begins, strlen(statements[i].begins)),
                         0);
    }
}
END_TEST

START_TEST(test_locate_by_position_counts_characters)
{
    /* One character less than bytes, because of the e with an accent. */
    int position = (int)(strstr(file, "CREATE RULE") - file);
    struct sql_place place = sql_locate(file, position, 0);

    ck_assert_int_eq(place.line, 7);
    ck_assert_int_eq(strncmp(place.text, "CREATE RULE", 11), 0);

    position = (int)(strstr(file, "\xC3") - file) + 1;
    place = sql_locate(file, position, 0);
    ck_assert_int_eq(place.line, 6);
    ck_assert_int_eq(strncmp(place.text, "INSERT", 6), 0);
}
END_TEST

START_TEST(test_locate_outside_of_the_text_gives_its_end)
{
    ck_assert_int_eq(sql_locate(file, 100000, 0).line, 8);
    ck_assert_int_eq(sql_locate(file, 0, 100).line, 8);
    ck_assert_int_eq((int)sql_locate("", 7, 7).len, 0);
    ck_assert_int_eq((int)sql_locate("/* open", 7, 7).len, 0);
    ck_assert_int_eq((int)sql_locate("SELECT 'open", 0, 0).len, 12);
    ck_assert_int_eq((int)sql_locate("SELECT $x$open; $y$", 0, 0).len, 19);
}
END_TEST

static const struct {
    const char *text;
    int line; /* 0: there is none */
} transactions[] = {
    { "", 0 },
    { file, 0 },
    { "SELECT 1;\n;\nCommit;", 3 },
    { "-- COMMIT;\nSELECT 'COMMIT'; begin", 2 },
    { "DO $$ BEGIN NULL; END $$;\nROLLBACK TO s", 2 },
    { "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; END;", 0 },
    { "committed", 0 },
    { "start TRANSACTION", 1 },
};

START_TEST(test_transaction_words_are_found_where_statements_begin)
{
    for (size_t i = 0; i < sizeof transactions / sizeof *transactions; i++)
        ck_assert_msg(sql_find_transaction(transactions[i].text).line == transactions[i].line,
                      "%s: line %d", transactions[i].text,
                      sql_find_transaction(transactions[i].text).line);
}
END_TEST

int
main(void)
{
    return run_tests(
        &(struct tests){ .name = "ops/sql_text",
                         .tests = TESTS(test_locate_by_index_finds_each_statement,
                                        test_locate_by_position_counts_characters,
                                        test_locate_outside_of_the_text_gives_its_end,
                                        test_transaction_words_are_found_where_statements_begin) });
}
