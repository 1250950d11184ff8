/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text of a snapshot; two of them, one a line: what the relay makes of the
 * first is that nothing is late which the second does not show.
 */
#include "outbox/snapshot.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
compare(const struct snapshot *prev, const struct snapshot *cur)
{
    uint64_t *late = malloc((prev->n_running + 1) * sizeof *late);
    size_t n;

    if (late == NULL)
        return;
    n = snapshot_late(prev, cur, late);
    if (n > prev->n_running)
        abort();
    for (size_t i = 0; i < n; i++)
        if (!snapshot_shows(cur, late[i]))
            abort();
    free(late);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct snapshot prev = { 0 }, cur = { 0 };
    char *text = malloc(size + 1), *second;

    if (text == NULL)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    second = strchr(text, '\n');
    if (second != NULL)
        *second++ = '\0';
    if (snapshot_parse(&prev, text) && second != NULL && snapshot_parse(&cur, second))
        compare(&prev, &cur);
    snapshot_clear(&prev);
    snapshot_clear(&cur);
    free(text);
    return 0;
}
