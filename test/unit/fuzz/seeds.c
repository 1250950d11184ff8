/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every target of test/fuzz with its seeds, among which is every input that has
 * ever failed. Searching for new ones is `make fuzz`.
 */
#include "test/support/process.h"
#include "test/support/run.h"

#include <glob.h>
#include <stdlib.h>
#include <string.h>

enum { SEEDS_MAX = 256, TARGET_MS = 20000 };

static const char *
name_of(const char *source)
{
    const char *file = strrchr(source, '/') + 1;

    return text_of("%.*s", (int)strcspn(file, "."), file);
}

static void
run_seeds(const char *name)
{
    const char *args[SEEDS_MAX + 2] = { text_of("test/fuzz/%s", name) };
    struct process *process;
    glob_t seeds;

    ck_assert_msg(glob(text_of("%s/test/fuzz/seeds/%s/*", source_dir(), name), 0, NULL, &seeds) ==
                      0,
                  "%s has no seeds", name);
    ck_assert_int_le((int)seeds.gl_pathc, SEEDS_MAX);
    memcpy(args + 1, seeds.gl_pathv, seeds.gl_pathc * sizeof *args);
    process = start_process(args, NULL);
    process_expect(process, 0, TARGET_MS);
    ck_assert_int_eq(atoi(process_output(process)), (int)seeds.gl_pathc);
    globfree(&seeds);
}

START_TEST(test_fuzz_seeds_of_every_target_pass)
{
    glob_t targets;

    ck_assert_int_eq(glob(text_of("%s/test/fuzz/*.c", source_dir()), 0, NULL, &targets), 0);
    for (size_t i = 0; i < targets.gl_pathc; i++)
        run_seeds(name_of(targets.gl_pathv[i]));
    ck_assert_int_ge((int)targets.gl_pathc, 4);
    globfree(&targets);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "fuzz/seeds",
        .tests = TESTS(test_fuzz_seeds_of_every_target_pass),
    });
}
