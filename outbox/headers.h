/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a message's headers stand in the outbox: a text, a line "name: value" for
 * each, which people read as it is and the server sends without taking it
 * apart. In a name or value \n stands for the end of a line and \\ for a
 * backslash; in a name \: for a colon. A backslash before anything else means
 * nothing, and a line without a colon is a name, so every text can be read.
 * docs/decisions/0008-headers-as-text.md
 */
#ifndef OUTBOX_HEADERS_H
#define OUTBOX_HEADERS_H

#include "base/bytes.h"

#include <saga/base.h>

/* Appends the text of `headers` to `out`; NULL: none. */
void headers_write(struct buffer *out, const struct saga_pair *headers);

/* Reads the text at `rest`, up to `end`. */
struct headers_reader {
    const char *at, *end;
    char *scratch; /* as much room as the text has bytes; names and values with escapes go here */
};

/* Takes the next header; name and value are valid as long as text and scratch
 * are. False: no more. */
bool headers_next(struct headers_reader *reader, struct saga_bytes *name, struct saga_bytes *value);

#endif
