/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Headers are read as they were written. The input is names and values, each
 * ended by a zero byte.
 */
#include "outbox/headers.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PAIRS_MAX = 64 };

static void
expect(struct saga_bytes found, const char *text)
{
    if (found.len != strlen(text) || memcmp(found.data, text, found.len) != 0)
        abort();
}

static void
check(const struct saga_pair *pairs)
{
    struct buffer text = { 0 };
    struct headers_reader reader;
    struct saga_bytes name, value;
    char *scratch;

    headers_write(&text, pairs);
    scratch = malloc(text.len + 1);
    reader = (struct headers_reader){ (const char *)text.data, (const char *)text.data + text.len,
                                      scratch };
    for (; pairs->name != NULL; pairs++) {
        if (!headers_next(&reader, &name, &value))
            abort();
        expect(name, pairs->name);
        expect(value, pairs->value);
    }
    if (headers_next(&reader, &name, &value))
        abort();
    free(scratch);
    buffer_clear(&text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct saga_pair pairs[PAIRS_MAX + 1] = { 0 };
    char *copy = malloc(size + 2), *at = copy;

    if (copy == NULL)
        return 0;
    memcpy(copy, data, size);
    copy[size] = copy[size + 1] = '\0';
    for (size_t n = 0; at < copy + size && n < PAIRS_MAX; n++) {
        pairs[n].name = at;
        at += strlen(at) + 1;
        pairs[n].value = at <= copy + size ? at : "";
        at += strlen(pairs[n].value) + 1;
    }
    check(pairs);
    free(copy);
    return 0;
}
