/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that are migrations, and files that are none.
 */
#include "ops/migration_set.h"
#include "test/support/run.h"

#include <string.h>

static struct saga_error err;

START_TEST(test_set_pairs_files_and_sorts_them)
{
    struct migration_set set = { NULL, 0 };

    ck_assert_int_eq(migration_set_add(&set, "0010_b.up.sql", "up b", &err), 0);
    ck_assert_int_eq(migration_set_add(&set, "0002_a.down.sql", "down a", &err), 0);
    ck_assert_int_eq(migration_set_add(&set, "0002_a.up.sql", "up a", &err), 0);
    ck_assert_int_eq(migration_set_finish(&set, &err), 0);
    ck_assert_uint_eq(set.n, 2);
    ck_assert_int_eq(set.items[0].number, 2);
    ck_assert_str_eq(set.items[0].name, "0002_a");
    ck_assert_str_eq(set.items[0].up, "up a");
    ck_assert_str_eq(set.items[0].down, "down a");
    ck_assert_str_eq(set.items[1].name, "0010_b");
    ck_assert_ptr_null(set.items[1].down);
    migration_set_clear(&set);
}
END_TEST

START_TEST(test_set_wrong_names_are_refused)
{
    static const char *const names[] = { ".up.sql",        "0001.up.sql", "1_a.up.sql",
                                         "0001_.up.sql",   "0001_a.sql",  "0001a.up.sql",
                                         "00001_a.up.sql", "up.sql",      "a" };
    struct migration_set set = { NULL, 0 };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        int rc = migration_set_add(&set, names[i], "", &err);

        ck_assert_msg(rc == SAGA_EINVAL, "%s was accepted", names[i]);
        ck_assert_ptr_nonnull(strstr(err.message, names[i]));
    }
    ck_assert_uint_eq(set.n, 0);
    migration_set_clear(&set);
}
END_TEST

START_TEST(test_set_that_does_not_fit_together_is_refused)
{
    struct migration_set set = { NULL, 0 };

    ck_assert_int_eq(migration_set_finish(&set, &err), SAGA_EINVAL);
    ck_assert_int_eq(migration_set_add(&set, "0001_a.down.sql", "", &err), 0);
    ck_assert_int_eq(migration_set_add(&set, "0001_b.up.sql", "", &err), SAGA_EINVAL);
    ck_assert_int_eq(migration_set_finish(&set, &err), SAGA_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.message, "0001_a"));
    migration_set_clear(&set);
}
END_TEST

START_TEST(test_set_embedded_is_complete)
{
    struct migration_set set;

    ck_assert_int_eq(migration_set_load(&set, NULL, &err), 0);
    ck_assert_str_eq(set.items[0].name, "0001_schemas");
    for (size_t i = 0; i < set.n; i++)
        ck_assert_msg(set.items[i].down != NULL, "%s cannot be undone", set.items[i].name);
    migration_set_clear(&set);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){ .name = "ops/migration_set",
                                      .tests = TESTS(test_set_pairs_files_and_sorts_them,
                                                     test_set_wrong_names_are_refused,
                                                     test_set_that_does_not_fit_together_is_refused,
                                                     test_set_embedded_is_complete) });
}
