/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parked messages that an operator wants to be tried again: one after the other,
 * in their order, each in a transaction of its own, whatever the inbox knows.
 * That it is parked is the proof that it was not applied.
 *
 * Any member of the group may do this: who takes one holds its key's row, and the
 * one who reads later messages of the key waits for that row.
 */
#include "base/clock.h"
#include "base/crash.h"
#include "base/utf8.h"
#include "idempotency/consumer_state.h"
#include "idempotency/sql.h"

#include <stdlib.h>
#include <string.h>

enum { LOOK_MS = 500 };

/* The columns of SQL_TAKE_RETRIED. */
enum { ID, TOPIC, KEY, MESSAGE_ID, HASH, PARTITION, OFFSET, HEADERS, PAYLOAD, ATTEMPTS };

struct retried {
    struct pg_rows rows; /* what the record points into */
    struct saga_record record;
    struct buffer texts;
    struct saga_pair *pairs;
};

static void
retried_clear(struct retried *retried)
{
    pg_rows_clear(&retried->rows);
    buffer_clear(&retried->texts);
    free(retried->pairs);
}

/* --- reading it -------------------------------------------------------------------- */

static int
hex_digit(uint8_t digit)
{
    return digit <= '9' ? digit - '0' : digit - 'a' + 10;
}

/* As record_headers() has written it. False: it is no text. */
static bool
add_text(struct buffer *into, struct saga_bytes stored)
{
    const uint8_t *at = stored.data;
    size_t before = into->len;

    if (stored.data == NULL)
        return false;
    if (stored.len < 2 || memcmp(at, "\\x", 2) != 0) {
        buffer_add(into, at, stored.len);
    } else {
        for (size_t i = 2; i + 1 < stored.len; i += 2) {
            uint8_t byte = (uint8_t)(hex_digit(at[i]) << 4 | hex_digit(at[i + 1]));

            buffer_add(into, &byte, 1);
        }
        if (!into->failed && !utf8_valid((const char *)into->data + before, into->len - before))
            return false;
    }
    buffer_add(into, "", 1);
    return true;
}

/* As record_read() would have done: what is no text is left out. */
static int
read_headers(struct retried *retried, struct saga_error *err)
{
    struct pg_elements rest = pg_elements_of(pg_bytes(&retried->rows, 0, HEADERS));
    struct saga_bytes name, value;
    size_t n = 0, kept = 0;
    const char *texts;

    while (pg_elements_next(&rest, &name) && pg_elements_next(&rest, &value)) {
        size_t before = retried->texts.len;

        if (add_text(&retried->texts, name) && add_text(&retried->texts, value))
            n++;
        else
            retried->texts.len = before;
    }
    retried->pairs = calloc(n + 1, sizeof *retried->pairs);
    if (retried->pairs == NULL || retried->texts.failed)
        return error_set(err, SAGA_ENOMEM, "out of memory");
    texts = (const char *)retried->texts.data;
    for (; kept < n; kept++) {
        retried->pairs[kept].name = texts;
        retried->pairs[kept].value = texts + strlen(texts) + 1;
        texts = retried->pairs[kept].value + strlen(retried->pairs[kept].value) + 1;
    }
    return 0;
}

static int
read_record(struct retried *retried, struct saga_error *err)
{
    const struct pg_rows *rows = &retried->rows;

    retried->record = (struct saga_record){
        .id = pg_uuid(rows, 0, MESSAGE_ID),
        .topic = pg_text(rows, 0, TOPIC),
        .partition = (int32_t)pg_int(rows, 0, PARTITION),
        .offset = pg_int(rows, 0, OFFSET),
        .key = pg_bytes(rows, 0, KEY),
        .payload = pg_bytes(rows, 0, PAYLOAD),
        .hash = pg_bytes(rows, 0, HASH),
    };
    if (read_headers(retried, err) != 0)
        return err->code;
    retried->record.headers = retried->pairs;
    return 0;
}

/* --- trying it --------------------------------------------------------------------- */

static int
topics_of(const struct saga_consumer *consumer, struct pg_array *topics, struct saga_error *err)
{
    pg_array_init(topics, PG_OID_TEXT_ARRAY);
    for (size_t i = 0; i < consumer->n_routes; i++)
        pg_array_add_text(topics, consumer->routes[i].topic);
    return topics->bytes.failed ? error_set(err, SAGA_ENOMEM, "out of memory") : 0;
}

static int
is_asked(struct saga_consumer *consumer, struct pg_array *topics, bool *asked,
         struct saga_error *err)
{
    struct pg_rows rows = PG_ROWS_INIT;
    int rc = pg_exec(&consumer->pg, SQL_RETRY_ASKED,
                     PG_ARGS(PG_TEXT(consumer->options.group), PG_ARRAY(topics)), &rows, err);

    *asked = rc == 0 && database_is(consumer, pg_text(&rows, 0, 1)) && pg_bool(&rows, 0, 0);
    pg_rows_clear(&rows);
    return rc;
}

/* Opens the transaction. No row: there is nothing to try, or others are at it. */
static int
take(struct saga_consumer *consumer, struct pg_array *topics, struct pg_rows *rows,
     struct saga_error *err)
{
    const struct pg_arg args[] = { PG_TEXT(consumer->options.group), PG_ARRAY(topics) };
    const struct pg_statement statements[] = {
        { .sql = PG_SQL_BEGIN },
        { .sql = PG_SQL_DURABLE },
        { .sql = SQL_TAKE_RETRIED, .args = args, .n_args = 2, .rows = rows },
    };

    return pg_batch(&consumer->pg, statements, 3, err);
}

/* A handler that has rolled back and begun another transaction would have its
 * effects committed, and the message tried once more. */
static int
check_taken(struct saga_consumer *consumer, int64_t id, struct saga_error *err)
{
    struct pg_rows rows = PG_ROWS_INIT;
    int rc = pg_exec(&consumer->pg, SQL_STILL_PARKED, PG_ARGS(PG_INT8(id)), &rows, err);

    if (rc == 0 && rows.n > 0)
        rc = error_set(err, SAGA_ESTATE,
                       "the handler has ended the transaction and begun another one");
    pg_rows_clear(&rows);
    return rc;
}

static int
apply(struct saga_consumer *consumer, struct retried *retried, struct saga_error *err)
{
    const struct consumer_route *route;
    int rc = read_record(retried, err);

    CRASH_POINT("redo.after_take");
    if (rc != 0)
        return rc;
    route = find_route(consumer, retried->record.topic);
    /* It was never answered: new, although the inbox has it. */
    rc = call_handler(consumer, route, &retried->record, SAGA_INBOX_NEW, err);
    CRASH_POINT("redo.after_handler");
    return rc != 0 ? rc : check_taken(consumer, pg_int(&retried->rows, 0, ID), err);
}

/* Not the message's fault, as far as can be told: the request stands. */
static bool
is_passing(const struct saga_consumer *consumer, const struct saga_error *err)
{
    return !pg_connected(&consumer->pg) || err->code == SAGA_ENOMEM ||
           strncmp(err->sqlstate, "40", 2) == 0 || strcmp(err->sqlstate, "55P03") == 0;
}

static void
log_retried(struct saga_consumer *consumer, const struct retried *retried, int level,
            const char *event, const char *error)
{
    char id[37];

    saga_uuid_text(&retried->record.id, id);
    log_event(&consumer->options.log, level, event, LOG_TEXT("message_id", id),
              LOG_TEXT("topic", retried->record.topic),
              LOG_INT("partition", retried->record.partition),
              LOG_INT("offset", retried->record.offset), LOG_TEXT("error", error));
}

static void
failed(struct saga_consumer *consumer, const struct retried *retried, int rc,
       const struct saga_error *err)
{
    char *error = readable(rc, err);
    struct saga_error again;

    pg_rollback(&consumer->pg);
    atomic_fetch_add(&consumer->counters.retries, 1);
    CRASH_POINT("redo.before_park_again");
    if (error != NULL && !is_passing(consumer, err) &&
        pg_exec(&consumer->pg, SQL_PARK_AGAIN,
                PG_ARGS(PG_INT8(pg_int(&retried->rows, 0, ID)), PG_TEXT(error)), NULL, &again) == 0)
        log_retried(consumer, retried, SAGA_LOG_ERROR,
                    "a parked message has failed again, and stays parked", error);
    consumer->look_ms = clock_mono_ms() + LOOK_MS;
    free(error);
}

static bool
try_one(struct saga_consumer *consumer, struct pg_array *topics, struct saga_error *err)
{
    struct retried retried = { .rows = PG_ROWS_INIT };
    int rc = take(consumer, topics, &retried.rows, err);
    bool found = rc == 0 && retried.rows.n > 0;

    if (found) {
        rc = apply(consumer, &retried, err);
        if (rc == 0)
            rc = pg_commit(&consumer->pg, err);
        CRASH_POINT("redo.after_commit");
        if (rc == 0) {
            atomic_fetch_add(&consumer->counters.applied, 1);
            log_retried(consumer, &retried, SAGA_LOG_INFO, "a parked message is applied", NULL);
        } else {
            failed(consumer, &retried, rc, err);
        }
    } else if (pg_connected(&consumer->pg)) {
        pg_rollback(&consumer->pg);
    }
    retried_clear(&retried);
    return found;
}

bool
retry_parked(struct saga_consumer *consumer, bool at_once)
{
    struct saga_error err = { 0 };
    struct pg_array topics;
    bool asked = false, found = false;

    if (!pg_connected(&consumer->pg) || (!at_once && clock_mono_ms() < consumer->look_ms))
        return false;
    if (topics_of(consumer, &topics, &err) == 0 && is_asked(consumer, &topics, &asked, &err) == 0 &&
        asked)
        found = try_one(consumer, &topics, &err);
    /* One after the other, as long as there are any. */
    if (!found)
        consumer->look_ms = clock_mono_ms() + LOOK_MS;
    if (!pg_connected(&consumer->pg))
        pg_disconnect(&consumer->pg);
    /* What was found and has failed is the handler's. */
    if (!found && err.code != 0)
        database_failed(consumer, &err);
    pg_array_clear(&topics);
    return found;
}
