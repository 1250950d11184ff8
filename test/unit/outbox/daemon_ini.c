/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Settings in INI form.
 */
#include "outbox/daemon_ini.h"

#include "test/support/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Writes "section/name=value@line;", and of a section's own line "section@line;". */
static bool
each(void *user, const char *section, const char *name, const char *value, int line)
{
    char *text = user;

    if (*name == '\0')
        sprintf(text + strlen(text), "%s@%d;", section, line);
    else
        sprintf(text + strlen(text), "%s/%s=%s@%d;", section, name, value, line);
    return strcmp(name, "refused") != 0;
}

START_TEST(test_ini_reads_what_is_there)
{
    static const struct {
        const char *text, *settings;
    } vectors[] = {
        { "", "" },
        { "\n\n  \t\n", "" },
        { "[a]\nx=1", "a@1;a/x=1@2;" },
        { "[a]\n  x  =  1 2  \r\n", "a@1;a/x=1 2@2;" },
        { "\xef\xbb\xbf[a]\n# x = 1\n ; y = 2\nz = 3\n", "a@1;a/z=3@4;" },
        /* Nothing in a value is a comment, a separator or a quote. */
        { "[a]\np = a=b;c #d \"e\" ; f\n", "a@1;a/p=a=b;c #d \"e\" ; f@2;" },
        { "[a]\nempty =\n[b]\nempty=\n", "a@1;a/empty=@2;b@3;b/empty=@4;" },
        { "[a]\nx = 1\n  y = 2\n", "a@1;a/x=1@2;a/y=2@3;" },
        { "[a]\nx = y:z=1\n", "a@1;a/x=y:z=1@2;" },
    };

    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        char *text = strdup(vectors[i].text), settings[400] = "";
        const char *why;

        ck_assert_int_eq(ini_read(text, strlen(text), each, settings, &why), 0);
        ck_assert_str_eq(settings, vectors[i].settings);
        free(text);
    }
}
END_TEST

START_TEST(test_ini_names_the_line_that_is_wrong)
{
    static const struct {
        const char *text;
        size_t len; /* 0: the text's */
        int line;
        const char *why;
    } vectors[] = {
        { "x = 1\n", 0, 1, "before the first" },         { "[a]\n\nx\n", 0, 3, "neither" },
        { "[a]\n= 1\n", 0, 2, "without a name" },        { "[a\nx = 1\n", 0, 1, "neither" },
        { "[a]\n[]\n", 0, 2, "section without a name" }, { "[a]\nx = 1\0002\n", 11, 2, "byte 0" },
        { "[a]\nx = 1\nrefused = 1\n", 0, 3, NULL },     { "[a]\nx\ny = \0\n", 12, 2, "neither" },
    };

    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        size_t len = vectors[i].len != 0 ? vectors[i].len : strlen(vectors[i].text);
        char *text = calloc(1, len + 1), settings[400] = "";
        const char *why;

        memcpy(text, vectors[i].text, len);
        ck_assert_int_eq(ini_read(text, len, each, settings, &why), vectors[i].line);
        if (vectors[i].why == NULL)
            ck_assert_ptr_null(why);
        else
            ck_assert_msg(strstr(why, vectors[i].why) != NULL, "%s", why);
        free(text);
    }
}
END_TEST

/* A line of any length is one line. */
START_TEST(test_ini_cuts_no_value)
{
    enum { LONG = 100000 };
    char *text = malloc(LONG + 20), *settings = malloc(LONG + 40);
    const char *why;

    *settings = '\0';
    strcpy(text, "[a]\nx = ");
    memset(text + 8, 'v', LONG);
    memcpy(text + 8 + 195 - strlen("x = "), "[no]", 4); /* where a piece of it begins */
    strcpy(text + 8 + LONG, "\n");
    ck_assert_int_eq(ini_read(text, strlen(text), each, settings, &why), 0);
    ck_assert_uint_eq(strspn(settings + strlen("a@1;a/x="), "v[no]"), LONG);
    free(text);
    free(settings);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){ .name = "outbox/daemon_ini",
                                      .tests = TESTS(test_ini_reads_what_is_there,
                                                     test_ini_names_the_line_that_is_wrong,
                                                     test_ini_cuts_no_value) });
}
