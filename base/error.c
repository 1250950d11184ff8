/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filling in the caller's error struct.
 */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

_Static_assert(sizeof(struct saga_error) == 320, "public struct: only `reserved` may shrink");

void
error_clear(struct saga_error *err)
{
    if (err != NULL)
        memset(err, 0, sizeof *err);
}

/* Cuts a character that the end of the buffer has split, so that the message
 * stays valid UTF-8, and makes one line of it. */
static void
tidy(char *message)
{
    size_t len = strlen(message), start = len;

    while (start > 0 && ((unsigned char)message[start - 1] & 0xC0) == 0x80)
        start--;
    if (start > 0 && (unsigned char)message[start - 1] >= 0xC0) {
        unsigned char lead = (unsigned char)message[start - 1];
        size_t needed = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;

        if (len - (start - 1) < needed)
            message[start - 1] = '\0';
    }
    for (len = strlen(message); len > 0 && message[len - 1] == '\n'; len--)
        message[len - 1] = '\0';
    for (char *p = message; *p != '\0'; p++)
        if (*p == '\n' || *p == '\r' || *p == '\t')
            *p = ' ';
}

int
error_set(struct saga_error *err, int code, const char *format, ...)
{
    va_list args;

    if (err == NULL)
        return code;
    error_clear(err);
    err->code = code;
    va_start(args, format);
    vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    tidy(err->message);
    return code;
}

int
error_flag(struct saga_error *err, int code, uint32_t flags)
{
    if (err != NULL)
        err->flags |= flags;
    return code;
}
