/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether bytes are UTF-8: asked before they are sent, because PostgreSQL's
 * own refusal aborts the caller's transaction. And making them so, where a text
 * is only for people.
 */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Well-formed as in Unicode 15, table 3-7; no NUL inside. */
bool utf8_valid(const void *text, size_t len);

/* Makes a text valid that was cut somewhere, or is foreign: a character cut off
 * at the end goes, other wrong bytes become '?'. It never gets longer. */
void utf8_repair(char *text);

/* Ends `text` at its first byte that is not UTF-8: what cutting to a size may
 * leave of a character. Returns `text`. */
char *utf8_trim(char *text);

#endif
