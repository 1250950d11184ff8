/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing and reading headers as lines.
 */
#include "outbox/headers.h"

#include <string.h>

/* --- writing ----------------------------------------------------------- */

/* `special`: what needs a backslash here. */
static void
add_escaped(struct buffer *out, const char *text, const char *special)
{
    while (*text != '\0') {
        size_t plain = strcspn(text, special);

        buffer_add(out, text, plain);
        text += plain;
        if (*text != '\0') {
            buffer_add(out, "\\", 1);
            buffer_add(out, *text == '\n' ? "n" : text, 1);
            text++;
        }
    }
}

void
headers_write(struct buffer *out, const struct saga_pair *headers)
{
    for (const struct saga_pair *header = headers; header != NULL && header->name != NULL;
         header++) {
        if (header != headers)
            buffer_add(out, "\n", 1);
        add_escaped(out, header->name, "\\\n:");
        buffer_add(out, ": ", 2);
        add_escaped(out, header->value, "\\\n");
    }
}

/* --- reading ----------------------------------------------------------- */

/* The text from `at` to `end`, which holds a backslash, as it was written. */
static struct saga_bytes
unescape(struct headers_reader *reader, const char *at, const char *end)
{
    char *begin = reader->scratch, *to = begin;

    while (at < end) {
        if (*at == '\\' && at + 1 < end)
            *to++ = *++at == 'n' ? '\n' : *at;
        else
            *to++ = *at;
        at++;
    }
    reader->scratch = to;
    return (struct saga_bytes){ begin, (size_t)(to - begin) };
}

static struct saga_bytes
text_between(struct headers_reader *reader, const char *at, const char *end)
{
    if (memchr(at, '\\', (size_t)(end - at)) != NULL)
        return unescape(reader, at, end);
    return (struct saga_bytes){ at, (size_t)(end - at) };
}

/* The colon behind the name, or the end of the line. */
static const char *
end_of_name(const char *at, const char *end)
{
    while (at < end && *at != ':')
        at += *at == '\\' && at + 1 < end ? 2 : 1;
    return at;
}

bool
headers_next(struct headers_reader *reader, struct saga_bytes *name, struct saga_bytes *value)
{
    const char *line = reader->at, *end, *colon;

    if (line >= reader->end)
        return false;
    end = memchr(line, '\n', (size_t)(reader->end - line));
    if (end == NULL)
        end = reader->end;
    colon = end_of_name(line, end);
    *name = text_between(reader, line, colon);
    if (colon < end)
        colon++;
    if (colon < end && *colon == ' ')
        colon++;
    *value = text_between(reader, colon, end);
    reader->at = end + 1;
    return true;
}
