/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parking: a message that its handler has failed on too often goes to
 * idempotency.parked, in the transaction that moves the offset past it, and the
 * later ones of its key go there behind it.
 *
 * Owns what is known of the parked keys. Only who has the partition parks one,
 * and moves the offset with it; so whoever has read the offset and then the keys
 * knows them all, or is fenced by the offset.
 */
#include "base/utf8.h"
#include "idempotency/consumer_state.h"
#include "idempotency/sql.h"

#include <stdlib.h>
#include <string.h>

char *
readable(int rc, const struct saga_error *err)
{
    const char *text = err->message[0] != '\0'    ? err->message
                       : rc == SAGA_HANDLER_RETRY ? "the handler wants it to be tried later"
                                                  : "the handler gives no reason";
    char *copy = strdup(text);

    /* The handler's words, maybe cut in the middle of a character. */
    if (copy != NULL && !utf8_valid(copy, strlen(copy)))
        for (char *at = copy; *at != '\0'; at++)
            if ((unsigned char)*at >= 0x80)
                *at = '?';
    return copy;
}

bool
park_load(struct saga_consumer *consumer, const struct partition *partition)
{
    /* The route's text lives as long as the consumer. */
    const char *topic = partition->route->topic;
    struct pg_rows rows = PG_ROWS_INIT;
    struct saga_error err;
    int rc = pg_exec(&consumer->pg, SQL_PARKED_KEYS,
                     PG_ARGS(PG_TEXT(consumer->options.group), PG_TEXT(topic)), &rows, &err);

    for (int i = 0; rc == 0 && i < rows.n; i++)
        if (!parked_keys_add(&consumer->parked, topic, pg_bytes(&rows, i, 0)))
            rc = error_set(&err, SAGA_ENOMEM, "out of memory");
    pg_rows_clear(&rows);
    if (rc != 0)
        database_failed(consumer, &err);
    return rc == 0;
}

/* `error` NULL: behind its key, if that is still parked. */
static int
park(struct saga_consumer *consumer, struct taken *taken, const char *error, struct saga_error *err)
{
    const struct saga_record *public = &taken->record.public;
    struct pg_rows rows = PG_ROWS_INIT;
    struct pg_array headers;
    int rc;

    pg_array_init(&headers, PG_OID_TEXT_ARRAY);
    rc = record_headers(&taken->record, &headers, err);
    if (rc == 0)
        rc =
            pg_exec(&consumer->pg, SQL_PARK,
                    PG_ARGS(PG_TEXT(consumer->options.group), PG_TEXT(public->topic),
                            PG_BYTEA(public->key), PG_UUID(&public->id), PG_BYTEA(public->hash),
                            PG_INT4(public->partition), PG_INT8(public->offset), PG_ARRAY(&headers),
                            PG_BYTEA(public->payload), PG_TEXT(error), PG_INT4(taken->failures)),
                    &rows, err);
    if (rc == 0)
        taken->parked = pg_bool(&rows, 0, 0);
    pg_rows_clear(&rows);
    pg_array_clear(&headers);
    return rc;
}

static int
park_one(struct saga_consumer *consumer, struct taken *taken, struct saga_error *err)
{
    const char *topic = taken->partition->route->topic;
    struct saga_bytes key = taken->record.public.key;
    int rc;

    if (taken->given_up == NULL &&
        !(taken->item.has_key && parked_keys_has(&consumer->parked, topic, key)))
        return 0;
    rc = park(consumer, taken, taken->given_up, err);
    if (rc != 0 || !taken->item.has_key)
        return rc;
    if (!taken->parked)
        parked_keys_remove(&consumer->parked, topic, key);
    /* Before the COMMIT: one too many costs a question, one too few the order. */
    else if (!parked_keys_add(&consumer->parked, topic, key))
        rc = error_set(err, SAGA_ENOMEM, "out of memory");
    return rc;
}

static bool
is_duplicate_with_answer(const struct taken *taken)
{
    return taken->record.flaw == NULL && taken->verdict == SAGA_INBOX_DUPLICATE &&
           taken->partition->route->answers;
}

/* Duplicates of what is parked: their handler has not answered yet, and is not
 * asked before its time. */
static int
leave_to_retry(struct saga_consumer *consumer, const struct batch *batch, struct saga_error *err)
{
    struct pg_rows rows = PG_ROWS_INIT;
    struct pg_array ids;
    int rc = 0;

    pg_array_init(&ids, PG_OID_UUID_ARRAY);
    for (size_t i = 0; i < batch->n; i++)
        if (is_duplicate_with_answer(batch->items[i]))
            pg_array_add(&ids, batch->items[i]->record.public.id.bytes, sizeof(struct saga_uuid));
    if (ids.bytes.failed)
        rc = error_set(err, SAGA_ENOMEM, "out of memory");
    else if (ids.n > 0)
        rc = pg_exec(&consumer->pg, SQL_PARKED,
                     PG_ARGS(PG_TEXT(consumer->options.group), PG_ARRAY(&ids)), &rows, err);
    for (int row = 0; rc == 0 && row < rows.n; row++) {
        struct saga_uuid id = pg_uuid(&rows, row, 0);

        for (size_t i = 0; i < batch->n; i++)
            if (is_duplicate_with_answer(batch->items[i]) &&
                memcmp(&id, &batch->items[i]->record.public.id, sizeof id) == 0)
                batch->items[i]->parked = true;
    }
    pg_rows_clear(&rows);
    pg_array_clear(&ids);
    return rc;
}

int
park_batch(struct saga_consumer *consumer, const struct batch *batch, struct saga_error *err)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < batch->n; i++) {
        struct taken *taken = batch->items[i];

        taken->parked = false;
        if (taken->record.flaw == NULL && taken->verdict == SAGA_INBOX_NEW)
            rc = park_one(consumer, taken, err);
    }
    return rc != 0 ? rc : leave_to_retry(consumer, batch, err);
}
