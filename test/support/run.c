/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a table of tests on Check, one process each, and prints what failed.
 *
 * Each test is a Check test case of its own, because that is the name which
 * Check gives back with a result.
 */
#include "test/support/run.h"

#include "test/support/wait.h"

#include "test/support/server.h"

#include <fnmatch.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum { DEFAULT_TIMEOUT_S = 30 };

static const struct tests *program;
static const char *argument = "", *path = "";
static double started_at;

static struct ending {
    void (*action)(void *arg);
    void *arg;
} * endings;
static size_t n_endings, max_endings;

/* main() of a test takes no arguments; this is run before it. */
__attribute__((constructor)) static void
remember_arguments(int argc, char **argv)
{
    if (argc > 0)
        path = argv[0];
    if (argc > 1)
        argument = argv[1];
}

/* A test's threads register too. */
void
at_test_end(void (*action)(void *arg), void *arg)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

    pthread_mutex_lock(&lock);
    if (n_endings == max_endings) {
        max_endings = 2 * max_endings + 64;
        endings = realloc(endings, max_endings * sizeof *endings);
        ck_assert_ptr_nonnull(endings);
    }
    endings[n_endings++] = (struct ending){ action, arg };
    pthread_mutex_unlock(&lock);
}

const char *
text_of(const char *format, ...)
{
    char *text = NULL;
    va_list args;
    int len;

    va_start(args, format);
    len = vasprintf(&text, format, args);
    va_end(args);
    ck_assert(len >= 0);
    at_test_end(free, text);
    return text;
}

const char *
unique_name(const char *prefix)
{
    static int n;

    /* The time too: process ids come again within a long run. */
    return text_of("%s_%d_%lld_%d", prefix, (int)getpid(), (long long)(monotonic_us() / 1000), ++n);
}

const char *
build_dir(void)
{
    return BUILD_DIR;
}

const char *
source_dir(void)
{
    return SOURCE_DIR;
}

const char *
server_env(const char *name)
{
    const char *value = getenv(name);

    ck_assert_msg(value != NULL, "%s is not set: run it by `make test T=%s`, which starts servers",
                  name, program->name);
    return value;
}

static double
seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void
before_test(void)
{
    /* A test does not outlive its program, whatever kills that. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    n_endings = 0;
    started_at = seconds();
    if (program->setup != NULL)
        program->setup();
}

static void
after_test(void)
{
    if (program->teardown != NULL)
        program->teardown();
    while (n_endings > 0) {
        struct ending last = endings[--n_endings];

        last.action(last.arg);
    }
    printf("ok   %-60s %7.3f s\n", tcase_name(), seconds() - started_at);
}

/* Does the pattern stand anywhere in "unit/base/uuid base/uuid test_a"? */
static bool
matches(const char *pattern, const char *test)
{
    const char *place = strstr(path, "/test/");
    char wanted[512], all[1024];

    snprintf(wanted, sizeof wanted, "*%s*", pattern);
    snprintf(all, sizeof all, "%s %s %s", place != NULL ? place + 6 : path, program->name, test);
    return fnmatch(wanted, all, FNM_CASEFOLD) == 0;
}

/* Is it among the words of EXCEPT_TESTS? */
static bool
left_out(const char *test)
{
    const char *all = getenv("EXCEPT_TESTS"), *place = all;
    size_t len = strlen(test);

    while (place != NULL && (place = strstr(place, test)) != NULL) {
        if ((place == all || place[-1] == ' ') && (place[len] == ' ' || place[len] == '\0'))
            return true;
        place += len;
    }
    return false;
}

static bool
chosen(const char *test)
{
    const char *pattern = getenv("T");

    return !left_out(test) && (pattern == NULL || matches(pattern, test)) &&
           (argument[0] == '-' || matches(argument, test));
}

static Suite *
suite_of(const struct tests *tests)
{
    Suite *suite = suite_create(tests->name);

    for (const TTest *const *test = tests->tests; *test != NULL; test++) {
        TCase *tcase;

        if (!chosen((*test)->name))
            continue;
        tcase = tcase_create((*test)->name);
        tcase_set_timeout(tcase, tests->timeout_s > 0 ? tests->timeout_s : DEFAULT_TIMEOUT_S);
        tcase_add_checked_fixture(tcase, before_test, after_test);
        tcase_add_test(tcase, *test);
        suite_add_tcase(suite, tcase);
    }
    return suite;
}

static int
list(const struct tests *tests)
{
    for (const TTest *const *test = tests->tests; *test != NULL; test++)
        if (chosen((*test)->name))
            puts((*test)->name);
    return 0;
}

int
run_tests(const struct tests *tests)
{
    SRunner *runner;
    TestResult **failures;
    int failed, ran;

    program = tests;
    if (strcmp(argument, "--list") == 0)
        return list(tests);
    setvbuf(stdout, NULL, _IOLBF, 0);
    /* Not SIGTERM, which Check would pass on to the whole process group, make included. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    runner = srunner_create(suite_of(tests));
    srunner_run_all(runner, CK_SILENT);

    ran = srunner_ntests_run(runner);
    failed = srunner_ntests_failed(runner);
    failures = srunner_failures(runner);
    for (int i = 0; i < failed; i++)
        printf("FAIL %s\n     %s:%d: %s\n", tr_tcname(failures[i]), tr_lfile(failures[i]),
               tr_lno(failures[i]), tr_msg(failures[i]));
    free(failures);
    srunner_free(runner);
    servers_sweep();
    printf("result %d %d\n", ran - failed, failed);
    return failed == 0 ? 0 : 1;
}
