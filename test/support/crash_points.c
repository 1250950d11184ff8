/* SPDX-License-Identifier: Apache-2.0 */
/*
 * By the first part of their names.
 */
#include "test/support/crash_points.h"

#include "test/support/process.h"
#include "test/support/run.h"

#include <stdlib.h>
#include <string.h>

/* What the shop of the sweep never comes to: nothing is parked there, its topics are not
 * compacted, and its participants answer each duplicate. */
static const struct {
    const char *prefix, *program;
} others[] = {
    { "parked.", "crash/outbox_parked" },           { "retry.", "crash/outbox_parked" },
    { "consumer.after_look", "crash/idempotency" }, { "redo.", "crash/idempotency_parked" },
    { "transaction.", "crash/outbox_transaction" },
};

const char *
crash_point_owner(const char *point)
{
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (strncmp(point, others[i].prefix, strlen(others[i].prefix)) == 0)
            return others[i].program;
    return "crash/sweep";
}

const char *const *
crash_points_of(const char *program)
{
    enum { POINTS_MAX = 200 };
    const char *line = run_process(ARGS(text_of("%s/tools/crash-points", source_dir())));
    const char **points = calloc(POINTS_MAX, sizeof *points);
    size_t n = 0;

    ck_assert_ptr_nonnull(points);
    at_test_end(free, points);
    for (; *line != '\0'; line += strcspn(line, "\n"), line += *line == '\n') {
        const char *point = text_of("%.*s", (int)strcspn(line, " \n"), line);

        if (strcmp(crash_point_owner(point), program) != 0)
            continue;
        ck_assert_int_lt(n + 1, POINTS_MAX);
        points[n++] = point;
    }
    ck_assert_msg(n > 0, "no point of the source is %s's", program);
    return points;
}
