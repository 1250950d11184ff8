/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The postman.
 */
#include "test/support/post.h"

#include "outbox/headers.h"
#include "test/support/db.h"
#include "test/support/run.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MESSAGE "FROM outbox.message WHERE seq = %" PRId64

static struct saga_pair *
take_headers(PGconn *conn, int64_t seq)
{
    const char *text = db_text(conn, "SELECT headers " MESSAGE, seq);
    struct headers_reader reader = { text, text + strlen(text), malloc(strlen(text) + 1) };
    struct saga_bytes name, value;
    struct saga_pair *headers = NULL;
    size_t n = 0;

    ck_assert_ptr_nonnull(reader.scratch);
    at_test_end(free, reader.scratch);
    do {
        headers = realloc(headers, (n + 1) * sizeof *headers);
        ck_assert_ptr_nonnull(headers);
        headers[n] = (struct saga_pair){ NULL, NULL };
        if (!headers_next(&reader, &name, &value))
            break;
        headers[n++] =
            (struct saga_pair){ text_of("%.*s", (int)name.len, (const char *)name.data),
                                text_of("%.*s", (int)value.len, (const char *)value.data) };
    } while (true);
    at_test_end(free, headers);
    return headers;
}

bool
post_take(struct post *post, struct saga_record *record)
{
    const char *next =
        db_text(post->from, "SELECT min(seq) FROM outbox.message WHERE seq > %" PRId64, post->seq);
    const char *key, *payload;

    if (next == NULL)
        return false;
    post->seq = atoll(next);
    key = db_text(post->from, "SELECT key " MESSAGE, post->seq);
    payload = db_text(post->from, "SELECT convert_from(payload, 'UTF8') " MESSAGE, post->seq);
    *record = (struct saga_record){
        .topic = db_text(post->from, "SELECT topic " MESSAGE, post->seq),
        .offset = post->seq,
        .key = { key, strlen(key) },
        .payload = { payload, strlen(payload) },
        .headers = take_headers(post->from, post->seq),
        .hash = { payload, strlen(payload) },
    };
    ck_assert_int_eq(saga_uuid_parse(&record->id,
                                     db_text(post->from, "SELECT message_id " MESSAGE, post->seq),
                                     NULL),
                     0);
    return true;
}

const char *
record_text(const struct saga_record *record, const char *name)
{
    for (const struct saga_pair *p = record->headers; p->name != NULL; p++)
        if (strcmp(p->name, name) == 0)
            return p->value;
    return NULL;
}
