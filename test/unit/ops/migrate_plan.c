/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which migration comes next, by tables.
 */
#include "ops/migrate_plan.h"
#include "test/support/run.h"

#define APPLIED(n, at)                                                                             \
    {                                                                                              \
        .number = (n), .name = #n, .known = true, .applied = true, .position = (at)                \
    }
#define PENDING(n)                                                                                 \
    {                                                                                              \
        .number = (n), .name = #n, .known = true                                                   \
    }

enum { MAX = 3, NOTHING = -1 };

static const struct {
    const char *name;
    struct migration_state states[MAX];
    int up, down; /* what comes next: an index, or NOTHING */
} plans[] = {
    { "an empty database gets the lowest", { PENDING(1), PENDING(10), PENDING(20) }, 0, NOTHING },
    { "the lowest that is missing", { APPLIED(1, 1), PENDING(10), PENDING(20) }, 1, 0 },
    { "nothing is missing", { APPLIED(1, 1), APPLIED(10, 2), APPLIED(20, 3) }, NOTHING, 2 },
    { "one that came late is applied", { APPLIED(1, 1), PENDING(10), APPLIED(20, 2) }, 1, 2 },
    { "and undone first", { APPLIED(1, 1), APPLIED(10, 3), APPLIED(20, 2) }, NOTHING, 1 },
    { "in any order of rows", { PENDING(20), APPLIED(1, 1), PENDING(10) }, 2, 1 },
};

START_TEST(test_plan_next_is_chosen)
{
    for (size_t i = 0; i < sizeof plans / sizeof *plans; i++) {
        int up = migrate_plan_up(plans[i].states, MAX);
        int down = migrate_plan_down(plans[i].states, MAX);

        ck_assert_msg(up == plans[i].up && down == plans[i].down, "%s: up %d, down %d",
                      plans[i].name, up, down);
    }
}
END_TEST

START_TEST(test_plan_fitting_sides_are_accepted)
{
    struct saga_error err;

    for (size_t i = 0; i < sizeof plans / sizeof *plans; i++)
        ck_assert_int_eq(migrate_plan_check(plans[i].states, MAX, &err), 0);
}
END_TEST

START_TEST(test_plan_newer_database_is_refused_by_name)
{
    const struct migration_state states[] = {
        APPLIED(1, 1), { .number = 40, .name = "0040_future", .applied = true, .position = 2 }
    };
    struct saga_error err;

    ck_assert_int_eq(migrate_plan_check(states, 2, &err), SAGA_ESTATE);
    ck_assert_ptr_nonnull(strstr(err.message, "0040_future"));
    ck_assert_ptr_nonnull(strstr(err.message, "newer"));
}
END_TEST

START_TEST(test_plan_changed_migration_is_refused_by_name)
{
    struct migration_state states[] = { APPLIED(1, 1), APPLIED(10, 2) };
    struct saga_error err;

    states[1].changed = true;
    states[1].name = "0010_outbox";
    ck_assert_int_eq(migrate_plan_check(states, 2, &err), SAGA_ESTATE);
    ck_assert_ptr_nonnull(strstr(err.message, "0010_outbox was changed"));
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "ops/migrate_plan",
        .tests = TESTS(test_plan_next_is_chosen, test_plan_fitting_sides_are_accepted,
                       test_plan_newer_database_is_refused_by_name,
                       test_plan_changed_migration_is_refused_by_name) });
}
