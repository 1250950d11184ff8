/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading INI through libinih.
 */
#include "outbox/daemon_ini.h"

#include <ini.h>
#include <stdio.h>
#include <string.h>

static const char malformed[] = "neither [section], nor name = value, nor a comment";

struct reading {
    const char *begin;
    const char *at, *end; /* what is left of the text */
    int line;
    ini_fn *each;
    void *user;
    const char *why;
    int refused; /* the line that the library has not seen; 0: none */
};

/*
 * The library's own choices would cut a line at 200 characters and take the
 * rest for the next one, and end a value at " ;", which a password may hold.
 */
static void
choose(size_t len)
{
    ini_use_stack = false;
    ini_allow_realloc = true;
    ini_max_line = (int)len + 3; /* as it wants them: for the line's end */
    ini_allow_inline_comments = false;
    ini_allow_multiline = false;
    ini_stop_on_first_error = true;
}

/* The library does not tell of a section in which there is nothing. */
static bool
announce_section(struct reading *reading, const char *text, int line)
{
    char name[64];
    const char *end;

    if (line == 1 && strncmp(text, "\xef\xbb\xbf", 3) == 0)
        text += 3;
    text += strspn(text, " \t");
    end = strchr(text, ']');
    if (*text != '[' || end == NULL)
        return true;
    snprintf(name, sizeof name, "%.*s", (int)(end - text - 1), text + 1);
    if (*name != '\0' && reading->each(reading->user, name, "", "", line))
        return true;
    reading->why = *name == '\0' ? "a section without a name" : NULL;
    reading->refused = line;
    return false;
}

/* As fgets(). A line that does not fit comes in pieces. */
static char *
next_piece(char *into, int size, void *stream)
{
    struct reading *reading = stream;
    size_t left = (size_t)(reading->end - reading->at), n = (size_t)size - 1;
    const char *newline;
    bool begins; /* a line */

    if (left == 0)
        return NULL;
    n = n < left ? n : left;
    newline = memchr(reading->at, '\n', n);
    if (newline != NULL)
        n = (size_t)(newline - reading->at) + 1;
    if (memchr(reading->at, '\0', n) != NULL) {
        reading->why = "a byte 0";
        reading->refused = reading->line + 1;
        return NULL;
    }
    reading->line += newline != NULL;
    memcpy(into, reading->at, n);
    into[n] = '\0';
    begins = reading->at == reading->begin || reading->at[-1] == '\n';
    reading->at += n;
    if (begins && !announce_section(reading, into, reading->line + (newline == NULL)))
        return NULL;
    return into;
}

/* A line that is handed over has been read to its end, unless it is the last. */
static int
on_setting(void *user, const char *section, const char *name, const char *value)
{
    struct reading *reading = user;
    int line = reading->at[-1] == '\n' ? reading->line : reading->line + 1;

    if (*name == '\0')
        reading->why = "a value without a name";
    else if (*section == '\0')
        reading->why = "a setting before the first [section]";
    else if (!reading->each(reading->user, section, name, value, line))
        reading->why = NULL;
    else
        return 1;
    return 0;
}

int
ini_read(const char *text, size_t len, ini_fn *each, void *user, const char **why)
{
    struct reading reading = {
        .begin = text, .at = text, .end = text + len, .each = each, .user = user, .why = malformed
    };
    int line;

    choose(len);
    line = ini_parse_stream(next_piece, &reading, on_setting, &reading);
    *why = line < 0 ? "out of memory" : reading.why;
    if (line == 0)
        line = reading.refused;
    return line < 0 ? 1 : line;
}
