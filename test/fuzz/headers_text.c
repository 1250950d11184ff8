/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Headers on their way in: saga_enqueue() sends those of a message as the text
 * of an array, and reading that by PostgreSQL's rules must give them back. The
 * input is names and values, each ended by a zero byte.
 */
#include "outbox/enqueue.c" /* for what is static in it */

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PAIRS_MAX = 64 };

/* Reads one quoted element, compares, and returns what follows; as array_in()
 * does: a backslash takes the next character as it is. */
static const char *
expect(const char *at, const char *text)
{
    if (*at++ != '"')
        abort();
    for (; *at != '"'; at++, text++) {
        if (*at == '\\')
            at++;
        if (*at == '\0' || *at != *text)
            abort();
    }
    if (*text != '\0')
        abort();
    return at + 1;
}

static void
check_text(const struct saga_pair *pairs, size_t n)
{
    struct pg_array array;
    struct buffer text = { 0 };
    const char *at;

    pg_array_init(&array, PG_OID_TEXT_ARRAY);
    add_headers(&array, pairs, &text);
    buffer_add(&text, "", 1);
    at = (const char *)text.data;
    if (n == 0 && strcmp(at, "{}") != 0)
        abort();
    for (size_t i = 0; i < n; i++) {
        if (*at != (i == 0 ? '{' : ','))
            abort();
        at = expect(at + 1, pairs[i].name);
        if (*at != ',')
            abort();
        at = expect(at + 1, pairs[i].value);
    }
    if (n > 0 && strcmp(at, "}") != 0)
        abort();
    buffer_clear(&text);
    pg_array_clear(&array);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct saga_pair pairs[PAIRS_MAX + 1] = { 0 };
    char *copy = malloc(size + 2), *at = copy;
    struct saga_error err;
    size_t n = 0;

    if (copy == NULL)
        return 0;
    memcpy(copy, data, size);
    copy[size] = copy[size + 1] = '\0';
    while (at < copy + size && n < PAIRS_MAX) {
        pairs[n].name = at;
        at += strlen(at) + 1;
        pairs[n].value = at <= copy + size ? at : "";
        at += strlen(pairs[n].value) + 1;
        n++;
    }
    if (check_headers(pairs, 0, &err) == 0)
        check_text(pairs, n);
    free(copy);
    return 0;
}
