/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A binary array of PostgreSQL, element by element.
 */
#include "base/pg.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size);
    struct pg_elements rest;
    struct saga_bytes element;
    size_t seen = 0;
    volatile uint8_t last = 0;

    if (copy == NULL)
        return 0;
    if (size > 0)
        memcpy(copy, data, size);
    rest = pg_elements_of((struct saga_bytes){ copy, size });
    while (pg_elements_next(&rest, &element)) {
        seen += 4 + element.len;
        if (element.len > 0)
            last = ((const uint8_t *)element.data)[element.len - 1];
    }
    (void)last;
    if (seen > size)
        abort();
    free(copy);
    return 0;
}
