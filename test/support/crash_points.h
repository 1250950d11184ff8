/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The crash points of the source, and which program of test/crash kills at
 * which of them.
 *
 * A point that is nobody else's is crash/sweep's, which fails if nobody dies
 * there; the others ask here for theirs, and fail in the same way.
 */
#ifndef TEST_CRASH_POINTS_H
#define TEST_CRASH_POINTS_H

/* For example "crash/sweep". */
const char *crash_point_owner(const char *point);

/* Those of one program, and NULL after the last; the test fails if there are none. */
const char *const *crash_points_of(const char *program);

#endif
