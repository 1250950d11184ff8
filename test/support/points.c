/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the list of points, and prints what became of them.
 */
#include "test/support/points.h"

#include "test/support/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static const char *const kinds[N_KINDS] = { "relay", "participant", "orchestrator", "customers" };

static void
load_points(struct score *score)
{
    char command[1024];
    FILE *list;

    snprintf(command, sizeof command, "%s/tools/crash-points", source_dir());
    list = popen(command, "re");
    while (list != NULL && score->n_points < POINTS_MAX &&
           fscanf(list, "%63s %63s", score->points[score->n_points].name,
                  score->points[score->n_points].file) == 2)
        score->n_points++;
    if (list == NULL || pclose(list) != 0 || score->n_points == POINTS_MAX)
        exit(2);
}

struct score *
score_new(void)
{
    struct score *score =
        mmap(NULL, sizeof *score, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (score == MAP_FAILED)
        exit(2);
    load_points(score);
    return score;
}

int
point_index(const struct score *score, const char *name)
{
    for (int i = 0; i < score->n_points; i++)
        if (strcmp(score->points[i].name, name) == 0)
            return i;
    ck_abort_msg("tools/crash-points does not list %s", name);
    return -1;
}

const char *
kind_name(int kind)
{
    return kinds[kind];
}

bool
point_swept(const struct score *score, int point)
{
    for (int kind = 0; kind < N_KINDS; kind++)
        for (int hit = 1; hit <= HIT_MAX; hit++)
            if (score->killed[kind][point][hit] > 0)
                return true;
    return false;
}

static int
kills_at(const struct score *score, int kind, int point)
{
    int n = 0;

    for (int hit = 1; hit <= HIT_MAX; hit++)
        n += score->killed[kind][point][hit];
    return n;
}

void
score_print_points(const struct score *score)
{
    printf("  %-32s", "kills at");
    for (int kind = 0; kind < N_KINDS; kind++)
        printf(" %12s", kinds[kind]);
    printf("\n");
    for (int point = 0; point < score->n_points; point++) {
        printf("  %-32s", score->points[point].name);
        for (int kind = 0; kind < N_KINDS; kind++)
            if (kills_at(score, kind, point) > 0)
                printf(" %12d", kills_at(score, kind, point));
            else
                printf(" %12s", score->passed[kind][point][1] ? "passed" : "");
        printf("\n");
    }
}

void
score_print(const struct score *score, double seconds)
{
    int swept = 0;

    for (int point = 0; point < score->n_points; point++)
        swept += point_swept(score, point);
    printf("  crash points       %d of %d swept\n", swept, score->n_points);
    printf("  kills              %ld, processes started %ld\n", score->kills, score->starts);
    printf("  orders             %ld: completed %ld, compensated %ld, parked %ld\n", score->orders,
           score->completed, score->compensated, score->parked);
    printf(
        "  duplicates         %ld records published again, %ld commands sent again; suppressed at"
        " least %ld\n",
        score->published_again, score->sent_again, score->suppressed);
    printf("  lost               %ld\n", score->lost);
    printf("  doubled effects    %ld\n", score->doubled);
    printf("  seconds            %.0f, in %d rounds\n", seconds, score->rounds);
}
