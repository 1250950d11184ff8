/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Crash points: places at which a test may kill the process with SIGKILL, as
 * if it had died between two instructions. Compiled in only with
 * -DSAGA_CRASH_POINTS; in other builds CRASH_POINT() is nothing at all.
 *
 *     SAGA_CRASH=relay.after_produce:3   dies at the third passing
 *     SAGA_CRASH_LOG=FILE                gets a line for each of the first passings of a
 *                                        point, and one for the death:
 *                                            passed relay.after_produce 1
 *                                            died relay.after_produce 3
 *
 * The list of all points is made from the source (tools/crash-points).
 */
#ifndef BASE_CRASH_H
#define BASE_CRASH_H

#ifdef SAGA_CRASH_POINTS
void crash_here(const char *name);
#define CRASH_POINT(name) crash_here(name)
#else
#define CRASH_POINT(name) ((void)0)
#endif

#endif
