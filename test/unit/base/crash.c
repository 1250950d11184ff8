/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is given to users cannot be killed from its environment: no build but
 * the sweep's own contains a crash point.
 */
#include "test/support/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const given_to_users[] = { "libsaga.a",    "libsaga-kafka.a",
                                              "libsaga.so.0", "libsaga-kafka.so.0",
                                              "sagactl",      "outbox-relay" };

static void
expect_absent(const char *file, const char *text)
{
    char *bytes;
    FILE *in = fopen(text_of("%s/%s", build_dir(), file), "rb");
    long size;

    ck_assert_msg(in != NULL, "%s is not built", file);
    fseek(in, 0, SEEK_END);
    size = ftell(in);
    rewind(in);
    bytes = malloc((size_t)size);
    ck_assert_uint_eq(fread(bytes, 1, (size_t)size, in), (size_t)size);
    fclose(in);
    ck_assert_msg(memmem(bytes, (size_t)size, text, strlen(text)) == NULL, "%s contains \"%s\"",
                  file, text);
    free(bytes);
}

START_TEST(test_crash_points_in_what_is_given_to_users_are_absent)
{
    FILE *points = popen(text_of("%s/tools/crash-points", source_dir()), "re");
    char name[128];
    int n = 0;

    ck_assert_ptr_nonnull(points);
    while (fscanf(points, "%127s %*s", name) == 1) {
        n++;
        for (size_t i = 0; i < sizeof given_to_users / sizeof *given_to_users; i++)
            expect_absent(given_to_users[i], name);
    }
    ck_assert_int_eq(pclose(points), 0);
    ck_assert_int_gt(n, 0);
    for (size_t i = 0; i < sizeof given_to_users / sizeof *given_to_users; i++) {
        expect_absent(given_to_users[i], "crash_here");
        expect_absent(given_to_users[i], "SAGA_CRASH");
    }
}
END_TEST

int
main(void)
{
    const struct tests tests = {
        .name = "base/crash",
        .tests = TESTS(test_crash_points_in_what_is_given_to_users_are_absent),
    };

    return run_tests(&tests);
}
