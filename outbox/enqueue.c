/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The outbox's writing side: checks messages and stores them in the caller's
 * transaction. Never begins or ends one, and never issues NOTIFY: a notifying
 * transaction holds a lock of the whole database through its commit.
 */
#include "base/clock.h"
#include "base/pg.h"
#include "base/utf8.h"
#include "base/uuid.h"
#include "outbox/headers.h"
#include "outbox/sql.h"

#include <saga/outbox.h>

#include <stdlib.h>
#include <string.h>

/* PostgreSQL's limit for one value, with some room. */
enum { PARAMETER_MAX = 0x3fff0000 };

/* 10000-01-01: outbox.delayed takes what is before it. */
#define DELIVER_AT_END_US INT64_C(253402300800000000)

static const char header_of_relay[] = "message-id";

/* SQL NULL, for messages that are delivered at once. */
static const struct pg_arg no_time = { .type = PG_OID_TIMESTAMPTZ };
static const struct pg_arg no_times = { .type = PG_OID_TIMESTAMPTZ_ARRAY };

/* --- checks, before anything is sent ----------------------------------- */

static int
complain(struct saga_error *err, int code, size_t index, const char *what)
{
    error_set(err, code, "message %zu: %s", index, what);
    if (err != NULL)
        err->index = (uint32_t)index;
    return code;
}

static bool
topic_valid(const char *topic)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";

    return topic[strspn(topic, letters)] == '\0' && strcmp(topic, ".") != 0 &&
           strcmp(topic, "..") != 0;
}

static bool
text_valid(const char *text)
{
    return utf8_valid(text, strlen(text));
}

static int
check_headers(const struct saga_pair *header, size_t index, struct saga_error *err)
{
    for (; header != NULL && header->name != NULL; header++) {
        if (header->value == NULL)
            return complain(err, SAGA_EINVAL, index, "a header's value is NULL");
        if (!text_valid(header->name) || !text_valid(header->value))
            return complain(err, SAGA_EINVAL, index, "a header is not valid UTF-8");
        if (strcmp(header->name, header_of_relay) == 0)
            return complain(err, SAGA_EINVAL, index,
                            "the header message-id is set by the relay; use the message's `id`");
    }
    return 0;
}

static int
check_message(const struct saga_message *message, size_t index, struct saga_error *err)
{
    for (size_t i = 0; i < sizeof message->reserved / sizeof *message->reserved; i++)
        if (message->reserved[i] != 0)
            return complain(err, SAGA_EINVAL, index, "`reserved` is not zero");
    if (message->topic == NULL || *message->topic == '\0')
        return complain(err, SAGA_EINVAL, index, "no topic");
    if (!topic_valid(message->topic))
        return complain(err, SAGA_EINVAL, index,
                        "a topic consists of A-Z a-z 0-9 . _ -, and is neither . nor ..");
    if (strlen(message->topic) > SAGA_TOPIC_MAX)
        return complain(err, SAGA_ELIMIT, index, "a topic of more than 249 characters");
    if (message->key != NULL && !text_valid(message->key))
        return complain(err, SAGA_EINVAL, index, "the key is not valid UTF-8");
    if (message->key != NULL && strlen(message->key) > SAGA_KEY_MAX)
        return complain(err, SAGA_ELIMIT, index, "a key of more than 1024 bytes");
    if (message->payload.data != NULL && message->payload.len > SAGA_PAYLOAD_MAX)
        return complain(err, SAGA_ELIMIT, index, "a payload of more than 983040 bytes");
    if (message->deliver_at_us < 0 || message->deliver_at_us >= DELIVER_AT_END_US)
        return complain(err, SAGA_EINVAL, index,
                        "deliver_at_us is before 1970 or after 9999; it counts microseconds");
    return check_headers(message->headers, index, err);
}

static int
check_call(PGconn *tx, const struct saga_message *messages, size_t n, struct saga_error *err)
{
    int rc = 0;

    error_clear(err);
    if (tx == NULL)
        return error_set(err, SAGA_EINVAL, "`tx` is NULL");
    if (messages == NULL && n > 0)
        return error_set(err, SAGA_EINVAL, "`messages` is NULL");
    if (n > INT32_MAX)
        return error_set(err, SAGA_ELIMIT, "more messages than an array holds");
    if (!pg_speaks_utf8(tx))
        return error_set(err, SAGA_EINVAL, "the client_encoding of `tx` must be UTF8");
    if (PQpipelineStatus(tx) == PQ_PIPELINE_OFF) {
        if (PQtransactionStatus(tx) == PQTRANS_ACTIVE)
            return error_set(err, SAGA_EINVAL, "`tx` is busy; read its results first");
        if (PQtransactionStatus(tx) == PQTRANS_IDLE)
            return error_set(err, SAGA_ENOTX,
                             "no transaction is open: a message must commit together with what it "
                             "tells of; call saga_begin() first");
    }
    for (size_t i = 0; i < n && rc == 0; i++)
        rc = check_message(&messages[i], i, err);
    return rc;
}

/* The id that the caller has given, or a new one. A message that is delivered
 * later has one of that time: consumers forget ids by the time inside them. */
static int
id_of(struct saga_uuid *id, const struct saga_message *message, struct saga_error *err)
{
    static const struct saga_uuid none;
    int64_t now = clock_wall_us();

    *id = message->id;
    if (memcmp(id, &none, sizeof none) != 0)
        return 0;
    return uuid_make_of(id, message->deliver_at_us > now ? message->deliver_at_us : now, err);
}

/* --- sending ----------------------------------------------------------- */

/* In pipeline mode libpq copies the statement into its buffer and the caller
 * sends it with his own. */
static int
queue(PGconn *tx, const char *sql, const struct pg_arg *args, int n_args, struct saga_error *err)
{
    Oid types[8];
    const char *values[8];
    int lengths[8], formats[8];
    uint8_t numbers[8][8];

    for (int i = 0; i < n_args; i++) {
        types[i] = args[i].type;
        values[i] = args[i].data;
        lengths[i] = (int)args[i].len;
        formats[i] = 1;
        if (args[i].number_len > 0) {
            put_u64(numbers[i], (uint64_t)args[i].number);
            values[i] = (const char *)numbers[i] + 8 - args[i].number_len;
            lengths[i] = args[i].number_len;
        }
    }
    if (PQsendQueryParams(tx, sql, n_args, types, values, lengths, formats, 1))
        return 0;
    error_set(err, SAGA_EDB, "the statement could not be queued: %s", PQerrorMessage(tx));
    return error_flag(err, SAGA_EDB, SAGA_ERR_FATAL | SAGA_ERR_TX_ABORTED);
}

static int
submit(PGconn *tx, const char *sql, const struct pg_arg *args, int n_args, struct saga_error *err)
{
    struct pg pg = pg_borrow(tx);

    if (PQpipelineStatus(tx) != PQ_PIPELINE_OFF)
        return queue(tx, sql, args, n_args, err);
    return pg_exec(&pg, sql, args, n_args, NULL, err);
}

/* Without a pipeline, check_call() has seen that a transaction is open. */
static struct pg_arg
transaction_known(const PGconn *tx)
{
    return PG_BOOL(PQpipelineStatus(tx) == PQ_PIPELINE_OFF);
}

/* As a text that ends with a zero byte, instead of what `out` held. */
static int
write_headers(struct buffer *out, const struct saga_message *message, size_t index,
              struct saga_error *err)
{
    out->len = 0;
    headers_write(out, message->headers);
    buffer_add(out, "", 1);
    if (out->failed)
        return error_set(err, SAGA_ENOMEM, "out of memory for headers");
    if (out->len - 1 > SAGA_HEADERS_MAX)
        return complain(err, SAGA_ELIMIT, index, "headers of more than 16384 bytes");
    return 0;
}

/* --- one message -------------------------------------------------------- */

static int
enqueue_one(PGconn *tx, const struct saga_message *message, struct saga_uuid *id,
            struct saga_error *err)
{
    struct buffer headers = { 0 };
    int rc = id_of(id, message, err);

    if (rc != 0)
        return rc;
    rc = write_headers(&headers, message, 0, err);
    if (rc == 0)
        rc =
            submit(tx, SQL_ENQUEUE_ONE,
                   PG_ARGS(transaction_known(tx), PG_UUID(id), PG_TEXT(message->topic),
                           PG_TEXT(message->key), PG_TEXT((const char *)headers.data),
                           PG_BYTEA(message->payload),
                           message->deliver_at_us != 0 ? PG_TIME(message->deliver_at_us) : no_time),
                   err);
    buffer_clear(&headers);
    return rc;
}

/* --- many messages ------------------------------------------------------ */

struct columns {
    struct pg_array ids, topics, keys, headers, payloads, times;
    bool timed; /* at least one message has a time */
};

static void
columns_init(struct columns *columns)
{
    columns->timed = false;
    pg_array_init(&columns->ids, PG_OID_UUID_ARRAY);
    pg_array_init(&columns->topics, PG_OID_TEXT_ARRAY);
    pg_array_init(&columns->keys, PG_OID_TEXT_ARRAY);
    pg_array_init(&columns->headers, PG_OID_TEXT_ARRAY);
    pg_array_init(&columns->payloads, PG_OID_BYTEA_ARRAY);
    pg_array_init(&columns->times, PG_OID_TIMESTAMPTZ_ARRAY);
}

static void
columns_clear(struct columns *columns)
{
    pg_array_clear(&columns->ids);
    pg_array_clear(&columns->topics);
    pg_array_clear(&columns->keys);
    pg_array_clear(&columns->headers);
    pg_array_clear(&columns->payloads);
    pg_array_clear(&columns->times);
}

static bool
columns_failed(const struct columns *columns)
{
    return columns->ids.bytes.failed || columns->topics.bytes.failed ||
           columns->keys.bytes.failed || columns->headers.bytes.failed ||
           columns->payloads.bytes.failed || columns->times.bytes.failed;
}

static void
add_time(struct columns *columns, int64_t unix_us)
{
    if (unix_us == 0) {
        pg_array_add(&columns->times, NULL, 0);
        return;
    }
    pg_array_add_time(&columns->times, unix_us);
    columns->timed = true;
}

static int
columns_fill(struct columns *columns, const struct saga_message *messages, size_t n,
             struct saga_uuid *ids, struct saga_error *err)
{
    struct buffer headers = { 0 };
    int rc = 0;

    for (size_t i = 0; i < n; i++) {
        const struct saga_message *message = &messages[i];

        rc = id_of(&ids[i], message, err);
        if (rc == 0)
            rc = write_headers(&headers, message, i, err);
        if (rc != 0)
            break;
        pg_array_add(&columns->ids, &ids[i], sizeof ids[i]);
        pg_array_add_text(&columns->topics, message->topic);
        pg_array_add_text(&columns->keys, message->key);
        pg_array_add_text(&columns->headers, (const char *)headers.data);
        pg_array_add(&columns->payloads, message->payload.data, message->payload.len);
        add_time(columns, message->deliver_at_us);
    }
    buffer_clear(&headers);
    if (rc == 0 && columns->payloads.bytes.len > PARAMETER_MAX)
        rc = error_set(err, SAGA_ELIMIT,
                       "%zu messages of together more than 1 GB; use several calls", n);
    if (rc == 0 && columns_failed(columns))
        rc = error_set(err, SAGA_ENOMEM, "out of memory for %zu messages", n);
    return rc;
}

static int
enqueue_all(PGconn *tx, const struct saga_message *messages, size_t n, struct saga_uuid *ids,
            struct saga_error *err)
{
    struct columns columns;
    int rc;

    columns_init(&columns);
    rc = columns_fill(&columns, messages, n, ids, err);
    if (rc == 0)
        rc = submit(tx, SQL_ENQUEUE_ALL,
                    PG_ARGS(transaction_known(tx), PG_ARRAY(&columns.ids),
                            PG_ARRAY(&columns.topics), PG_ARRAY(&columns.keys),
                            PG_ARRAY(&columns.headers), PG_ARRAY(&columns.payloads),
                            columns.timed ? PG_ARRAY(&columns.times) : no_times),
                    err);
    columns_clear(&columns);
    return rc;
}

int
saga_enqueue(PGconn *tx, const struct saga_message *messages, size_t n, struct saga_uuid *ids,
             struct saga_error *err)
{
    struct saga_uuid one, *made = &one;
    int rc = check_call(tx, messages, n, err);

    if (rc != 0)
        return rc;
    if (n > 1 && (made = malloc(n * sizeof *made)) == NULL)
        return error_set(err, SAGA_ENOMEM, "out of memory for %zu messages", n);
    rc = n == 1 ? enqueue_one(tx, messages, made, err) : enqueue_all(tx, messages, n, made, err);
    if (rc == 0 && ids != NULL)
        memcpy(ids, made, n * sizeof *made);
    if (made != &one)
        free(made);
    return rc;
}
