/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading INI, line by line.
 */
#include "outbox/daemon_ini.h"

#include <string.h>

static bool
blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* Without blanks around it; `end` is where its NUL may be written. */
static char *
trim(char *from, char *end)
{
    while (from < end && blank(*from))
        from++;
    while (end > from && blank(end[-1]))
        end--;
    *end = '\0';
    return from;
}

/* NULL, or what is wrong. */
static const char *
read_section(char *line, const char **section)
{
    char *end = line + strlen(line) - 1;

    if (*end != ']')
        return "a section is written [name], on a line of its own";
    *section = trim(line + 1, end);
    return **section != '\0' ? NULL : "a section without a name";
}

static const char *
read_setting(char *line, const char *section, const char **name, const char **value)
{
    char *equals = strchr(line, '=');

    if (equals == NULL)
        return "neither [section], nor name = value, nor a comment";
    if (equals == line)
        return "a value without a name";
    if (section == NULL)
        return "a setting before the first [section]";
    *value = trim(equals + 1, equals + strlen(equals));
    *name = trim(line, equals);
    return NULL;
}

int
ini_read(char *text, size_t len, ini_fn *each, void *user, const char **why)
{
    char *at = text, *stop = text + len;
    const char *section = NULL, *name, *value;

    if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        at += 3; /* some editors put it there */
    for (int n = 1; at < stop; n++) {
        char *end = memchr(at, '\n', (size_t)(stop - at)), *line;

        if (end == NULL)
            end = stop;
        *why = memchr(at, '\0', (size_t)(end - at)) != NULL ? "a byte 0" : NULL;
        line = trim(at, end);
        at = end + 1;
        if (*why == NULL && (*line == '\0' || *line == '#' || *line == ';'))
            continue;
        if (*why == NULL && *line == '[') {
            *why = read_section(line, &section);
            if (*why == NULL)
                continue;
        }
        if (*why == NULL)
            *why = read_setting(line, section, &name, &value);
        if (*why != NULL || !each(user, section, name, value, n))
            return n;
    }
    return 0;
}
