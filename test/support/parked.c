/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing what is too large, and reading what is parked.
 */
#include "test/support/parked.h"

#include "test/support/outbox.h"
#include "test/support/run.h"

#include <stdlib.h>
#include <string.h>

void
enqueue_large(PGconn *conn, const char *topic, const char *key, const char *name, int bytes)
{
    db_exec(conn,
            "SELECT outbox.enqueue('%s', convert_to(rpad('%s', %d, '.'), 'UTF8'),"
            " nullif('%s', ''))",
            topic, name, bytes, key != NULL ? key : "");
}

const char *
parked(PGconn *conn)
{
    const char *text =
        db_text(conn, "SELECT string_agg(rtrim(convert_from(payload, 'UTF8'), '.'), ' ' ORDER BY"
                      " seq) FROM outbox.parked");

    return text != NULL ? text : "";
}

const char *
arrived(const char *topic)
{
    const char *text = published(topic);
    char *copy = calloc(1, strlen(text) + 1), *to = copy;

    ck_assert_ptr_nonnull(copy);
    at_test_end(free, copy);
    for (; *text != '\0'; text++)
        if (*text != '.')
            *to++ = *text;
    return copy;
}

int64_t
parked_keys(PGconn *conn)
{
    return db_int(conn, "SELECT count(*) FROM outbox.parked_key");
}
