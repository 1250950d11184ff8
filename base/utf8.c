/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether bytes are UTF-8, and making them so.
 */
#include "base/utf8.h"

#include <stdint.h>
#include <string.h>

/* The length of the well-formed sequence at `p`, or 0. */
static size_t
sequence_len(const uint8_t *p, size_t left)
{
    uint8_t lead = p[0], low = 0x80, high = 0xBF;
    size_t len;

    if (lead < 0x80)
        return lead != 0 ? 1 : 0;
    if (lead < 0xC2 || lead > 0xF4)
        return 0; /* a continuation, an overlong form, or beyond U+10FFFF */
    len = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (len > left)
        return 0;
    if (lead == 0xE0)
        low = 0xA0; /* overlong */
    else if (lead == 0xED)
        high = 0x9F; /* surrogates */
    else if (lead == 0xF0)
        low = 0x90; /* overlong */
    else if (lead == 0xF4)
        high = 0x8F; /* beyond U+10FFFF */
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++)
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    return len;
}

/* Eight bytes of ASCII, none of them zero: a zero borrows, and gets its top bit. */
static bool
are_plain(const uint8_t *p)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), tops = ones << 7;
    uint64_t eight;

    memcpy(&eight, p, sizeof eight);
    return ((eight | (eight - ones)) & tops) == 0;
}

bool
utf8_valid(const void *text, size_t len)
{
    const uint8_t *p = text;

    while (len > 0) {
        size_t n = len >= 8 && are_plain(p) ? 8 : sequence_len(p, len);

        if (n == 0)
            return false;
        p += n;
        len -= n;
    }
    return true;
}

char *
utf8_trim(char *text)
{
    size_t len = strlen(text), at = 0, n;

    while (at < len && (n = sequence_len((const uint8_t *)text + at, len - at)) > 0)
        at += n;
    text[at] = '\0';
    return text;
}

/* Whether the text ends inside a character that has begun well. */
static bool
cut_off(const uint8_t *p, size_t left)
{
    size_t len = *p >= 0xF0 ? 4 : *p >= 0xE0 ? 3 : 2;

    if (*p < 0xC2 || *p > 0xF4 || left >= len)
        return false;
    for (size_t i = 1; i < left; i++)
        if ((p[i] & 0xC0) != 0x80)
            return false;
    return true;
}

void
utf8_repair(char *text)
{
    uint8_t *p = (uint8_t *)text;
    size_t left = strlen(text), n;

    for (; left > 0; p += n, left -= n) {
        n = sequence_len(p, left);
        if (n == 0 && cut_off(p, left)) {
            *p = '\0';
            return;
        }
        if (n == 0) {
            *p = '?';
            n = 1;
        }
    }
}
