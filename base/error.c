/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filling in the caller's error struct.
 */
#include "base/error.h"

#include "base/utf8.h"

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

/* Texts from elsewhere may be in it, and any of them may have been cut: valid
 * UTF-8 again, and one line. */
static void
tidy(char *message)
{
    utf8_repair(message);
    for (size_t len = strlen(message); len > 0 && message[len - 1] == '\n'; len--)
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
