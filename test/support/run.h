/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The main() of a test program: which tests it has, and what surrounds each.
 *
 * A test program is one file, test/unit/<module>/<file>.c or
 * test/integration/<module>_<thing>.c or test/crash/<thing>.c; the build finds
 * it by its place. Every test runs in a process of its own.
 *
 *     build/release/test/unit/base/uuid              all its tests
 *     build/release/test/unit/base/uuid version      those with "version" in their names
 *     build/release/test/unit/base/uuid --list       their names
 *     CK_FORK=no gdb ...                             all in one process
 *
 * The environment variable T chooses as the argument does; it also matches the
 * program's name, and may hold * and ?.
 */
#ifndef TEST_RUN_H
#define TEST_RUN_H

#include <check.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tests {
    const char *name;          /* "base/uuid" */
    const TTest *const *tests; /* TESTS(test_a, test_b) */
    void (*setup)(void);       /* before each test, in its process; or NULL */
    void (*teardown)(void);    /* after each test that did not fail; or NULL */
    int timeout_s;             /* of one test; 0: 30 */
};

#define TESTS(...) ((const TTest *const[]){ __VA_ARGS__, NULL })

/* Runs them and returns main()'s answer. Its last line on standard output is
 * "result PASSED FAILED", for test/run. */
int run_tests(const struct tests *tests);

/*
 * Calls `action` with `arg` when the test has ended, the last one registered
 * first; for the given_...() functions of this folder. Not called where the
 * test failed: its process is gone then, and what it started is killed.
 */
void at_test_end(void (*action)(void *arg), void *arg);

/* A text that lives until the test ends. */
const char *text_of(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A name that no other test, in this or another program, will get: "prefix_4711_1". */
const char *unique_name(const char *prefix);

/* Where this flavour's programs are, and the top of the source tree; absolute. */
const char *build_dir(void);
const char *source_dir(void);

/* The environment variable, or the test fails and says how to run it. */
const char *server_env(const char *name);

#endif
