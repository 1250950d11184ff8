/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding statements in a file: the one that PostgreSQL complains of, and those
 * that do not belong there. Good enough to show them to a person; nothing is
 * executed by what is found here.
 *
 * Knows what may hide a semicolon: comments, quotes, dollar quotes and
 * parentheses. Does not know SQL-standard function bodies (BEGIN ATOMIC).
 */
#include "ops/sql_text.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

/* Each of these takes a text at an opening and returns what is behind it. */

static const char *
skip_block_comment(const char *at)
{
    int depth = 0;

    do {
        if (at[0] == '/' && at[1] == '*') {
            depth++;
            at++;
        } else if (at[0] == '*' && at[1] == '/') {
            depth--;
            at++;
        }
        at++;
    } while (depth > 0 && *at != '\0');
    return at;
}

static const char *
skip_quoted(const char *at, int backslashes)
{
    char quote = *at++;

    /* A doubled quote ends one and begins another: the same in the end. */
    for (; *at != '\0' && *at != quote; at++)
        if (backslashes && *at == '\\' && at[1] != '\0')
            at++;
    return *at != '\0' ? at + 1 : at;
}

static const char *
skip_dollar_quoted(const char *at)
{
    size_t tag = 1;
    const char *end;

    while (isalnum((unsigned char)at[tag]) || at[tag] == '_')
        tag++;
    if (at[tag] != '$' || isdigit((unsigned char)at[1]))
        return at + 1; /* a parameter, or nothing special */
    tag++;
    for (end = at + tag; *end != '\0'; end++)
        if (strncmp(end, at, tag) == 0)
            return end + tag;
    return end;
}

static const char *
skip_space(const char *at)
{
    for (;;) {
        if (isspace((unsigned char)*at))
            at++;
        else if (at[0] == '-' && at[1] == '-')
            at += strcspn(at, "\n");
        else if (at[0] == '/' && at[1] == '*')
            at = skip_block_comment(at);
        else
            return at;
    }
}

/* Behind the statement that starts at `at`, without its semicolon. */
static const char *
statement_end(const char *start)
{
    const char *at = start;
    int depth = 0;

    while (*at != '\0' && (*at != ';' || depth > 0)) {
        depth += (*at == '(') - (*at == ')');
        if ((at[0] == '-' && at[1] == '-') || (at[0] == '/' && at[1] == '*'))
            at = skip_space(at);
        else if (*at == '\'' || *at == '"')
            at = skip_quoted(at, *at == '\'' && at > start && (at[-1] == 'E' || at[-1] == 'e'));
        else if (*at == '$')
            at = skip_dollar_quoted(at);
        else
            at++;
    }
    return at;
}

/* A character of UTF-8 is a byte that does not continue another. */
static const char *
character(const char *text, int position)
{
    for (; *text != '\0'; text++)
        if (((unsigned char)*text & 0xC0) != 0x80 && --position == 0)
            break;
    return text;
}

static int
line_of(const char *text, const char *at)
{
    int line = 1;

    for (; text < at; text++)
        line += *text == '\n';
    return line;
}

struct sql_place
sql_locate(const char *text, int position, unsigned index)
{
    const char *wanted = position > 0 ? character(text, position) : NULL;
    const char *start = skip_space(text), *end = statement_end(start);

    while (*end == ';' && (wanted != NULL ? end < wanted : index-- > 0)) {
        start = skip_space(end + 1);
        end = statement_end(start);
    }
    return (struct sql_place){ .line = line_of(text, wanted != NULL ? wanted : start),
                               .text = start,
                               .len = (size_t)(end - start) };
}

static bool
begins_with_word(const char *text, const char *word)
{
    size_t len = strlen(word);

    return strncasecmp(text, word, len) == 0 && !isalnum((unsigned char)text[len]) &&
           text[len] != '_';
}

struct sql_place
sql_find_transaction(const char *text)
{
    /* Not END: it also ends an SQL-standard function body. */
    static const char *const words[] = { "BEGIN", "START", "COMMIT", "ROLLBACK", "ABORT" };

    for (const char *start = skip_space(text), *end; *start != '\0'; start = skip_space(end)) {
        end = statement_end(start);
        for (size_t i = 0; i < sizeof words / sizeof *words; i++)
            if (begins_with_word(start, words[i]))
                return (struct sql_place){ line_of(text, start), start, (size_t)(end - start) };
        end += *end == ';';
    }
    return (struct sql_place){ 0, NULL, 0 };
}
