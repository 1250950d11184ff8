/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a snapshot of PostgreSQL shows.
 */
#include "outbox/snapshot.h"

#include <stdlib.h>
#include <string.h>

/* One number and the character behind it; false if it is not there. */
static bool
take_number(const char **text, char end, uint64_t *number)
{
    char *rest;

    if (**text < '0' || **text > '9')
        return false;
    *number = strtoull(*text, &rest, 10);
    if (*rest != end)
        return false;
    *text = end != '\0' ? rest + 1 : rest;
    return true;
}

static size_t
count_commas(const char *text)
{
    size_t n = 0;

    for (; *text != '\0'; text++)
        n += *text == ',';
    return n;
}

bool
snapshot_parse(struct snapshot *snapshot, const char *text)
{
    struct snapshot read = { 0 };
    size_t n;

    if (!take_number(&text, ':', &read.xmin) || !take_number(&text, ':', &read.xmax))
        return false;
    n = *text != '\0' ? count_commas(text) + 1 : 0;
    read.running = malloc((n > 0 ? n : 1) * sizeof *read.running);
    if (read.running == NULL)
        return false;
    for (; read.n_running < n; read.n_running++) {
        if (!take_number(&text, read.n_running + 1 < n ? ',' : '\0',
                         &read.running[read.n_running])) {
            free(read.running);
            return false;
        }
    }
    snapshot_clear(snapshot);
    *snapshot = read;
    return true;
}

void
snapshot_clear(struct snapshot *snapshot)
{
    free(snapshot->running);
    *snapshot = (struct snapshot){ 0 };
}

static int
compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

bool
snapshot_shows(const struct snapshot *snapshot, uint64_t xid)
{
    if (xid < snapshot->xmin)
        return true;
    if (xid >= snapshot->xmax)
        return false;
    /* PostgreSQL writes the list in ascending order. */
    return bsearch(&xid, snapshot->running, snapshot->n_running, sizeof xid, compare) == NULL;
}

size_t
snapshot_late(const struct snapshot *prev, const struct snapshot *cur, uint64_t *xids)
{
    size_t n = 0;

    for (size_t i = 0; i < prev->n_running; i++)
        if (snapshot_shows(cur, prev->running[i]))
            xids[n++] = prev->running[i];
    return n;
}
