/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All crash points of the source, who was seen passing them, and who was killed there.
 *
 * The score lies in memory that the tests of a program share, though each runs in
 * a process of its own; main() makes it.
 */
#ifndef TEST_POINTS_H
#define TEST_POINTS_H

#include <stdbool.h>
#include <stddef.h>

/* Kinds of process. What is in which is not written down anywhere: it is seen. */
enum { KIND_RELAY, KIND_PARTICIPANT, KIND_ORCHESTRATOR, KIND_CUSTOMERS, N_KINDS };

enum { POINTS_MAX = 200, HIT_MAX = 3 }; /* base/crash.c logs so many passings of a point */

struct score {
    int n_points;
    struct {
        char name[64], file[64];
    } points[POINTS_MAX];

    /* By kind, point, and the number of the passing in one process's life. `passed`: one
     * bit for each service that was seen, because not every participant answers later. */
    unsigned passed[N_KINDS][POINTS_MAX][HIT_MAX + 1];
    bool at_stop[N_KINDS][POINTS_MAX]; /* first passed by one that was told to end */
    int killed[N_KINDS][POINTS_MAX][HIT_MAX + 1];

    bool warmed_up; /* everybody has worked undisturbed, and `passed` is known */
    int rounds;
    long kills, starts, orders, completed, compensated, parked;
    long published_again, sent_again, suppressed, lost, doubled;
};

/* Asks tools/crash-points; ends the program if that refuses. */
struct score *score_new(void);

/* Its index; the test fails if the source has no such point. */
int point_index(const struct score *score, const char *name);

const char *kind_name(int kind);

/* Was anybody killed there? */
bool point_swept(const struct score *score, int point);

/* Who was killed where; and the sums. */
void score_print_points(const struct score *score);
void score_print(const struct score *score, double seconds);

#endif
