/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The outbox's writing side: checks messages and stores them in the caller's
 * transaction. Never begins or ends one, and never issues NOTIFY: a notifying
 * transaction holds a lock of the whole database through its commit.
 */
#include "base/pg.h"
#include "base/utf8.h"
#include "outbox/sql.h"

#include <saga/outbox.h>

#include <stdlib.h>
#include <string.h>

/* PostgreSQL's limit for one value, with some room. */
enum { PARAMETER_MAX = 0x3fff0000 };

static const char header_of_relay[] = "message-id";

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
    size_t total = 0;

    for (; header != NULL && header->name != NULL; header++) {
        if (header->value == NULL)
            return complain(err, SAGA_EINVAL, index, "a header's value is NULL");
        if (!text_valid(header->name) || !text_valid(header->value))
            return complain(err, SAGA_EINVAL, index, "a header is not valid UTF-8");
        if (strcmp(header->name, header_of_relay) == 0)
            return complain(err, SAGA_EINVAL, index,
                            "the header message-id is set by the relay; use the message's `id`");
        total += strlen(header->name) + strlen(header->value);
    }
    if (total > SAGA_HEADERS_MAX)
        return complain(err, SAGA_ELIMIT, index, "headers of more than 16384 bytes");
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
        return complain(err, SAGA_EINVAL, index, "a topic consists of A-Z a-z 0-9 . _ -");
    if (strlen(message->topic) > SAGA_TOPIC_MAX)
        return complain(err, SAGA_ELIMIT, index, "a topic of more than 249 characters");
    if (message->key != NULL && !text_valid(message->key))
        return complain(err, SAGA_EINVAL, index, "the key is not valid UTF-8");
    if (message->key != NULL && strlen(message->key) > SAGA_KEY_MAX)
        return complain(err, SAGA_ELIMIT, index, "a key of more than 1024 bytes");
    if (message->payload.data != NULL && message->payload.len > SAGA_PAYLOAD_MAX)
        return complain(err, SAGA_ELIMIT, index, "a payload of more than 983040 bytes");
    if (message->deliver_at_us != 0)
        return complain(err, SAGA_EINVAL, index,
                        "deliver_at_us is not supported by this version; set it to 0");
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

/* --- the statement's parameters ---------------------------------------- */

struct columns {
    struct pg_array ids, topics, keys, headers, payloads;
};

static void
columns_init(struct columns *columns)
{
    pg_array_init(&columns->ids, PG_OID_UUID_ARRAY);
    pg_array_init(&columns->topics, PG_OID_TEXT_ARRAY);
    pg_array_init(&columns->keys, PG_OID_TEXT_ARRAY);
    pg_array_init(&columns->headers, PG_OID_TEXT_ARRAY);
    pg_array_init(&columns->payloads, PG_OID_BYTEA_ARRAY);
}

static void
columns_clear(struct columns *columns)
{
    pg_array_clear(&columns->ids);
    pg_array_clear(&columns->topics);
    pg_array_clear(&columns->keys);
    pg_array_clear(&columns->headers);
    pg_array_clear(&columns->payloads);
}

static bool
columns_failed(const struct columns *columns)
{
    return columns->ids.bytes.failed || columns->topics.bytes.failed ||
           columns->keys.bytes.failed || columns->headers.bytes.failed ||
           columns->payloads.bytes.failed;
}

/* As an element of an array's text: in quotes, in which only two characters
 * need a backslash. */
static void
add_quoted(struct buffer *out, const char *text)
{
    buffer_add(out, "\"", 1);
    while (*text != '\0') {
        size_t plain = strcspn(text, "\"\\");

        buffer_add(out, text, plain);
        text += plain;
        if (*text != '\0') {
            buffer_add(out, "\\", 1);
            buffer_add(out, text++, 1);
        }
    }
    buffer_add(out, "\"", 1);
}

static void
add_headers(struct pg_array *array, const struct saga_pair *header, struct buffer *text)
{
    text->len = 0;
    for (; header != NULL && header->name != NULL; header++) {
        buffer_add(text, text->len == 0 ? "{" : ",", 1);
        add_quoted(text, header->name);
        buffer_add(text, ",", 1);
        add_quoted(text, header->value);
    }
    buffer_add(text, text->len == 0 ? "{}" : "}", text->len == 0 ? 2 : 1);
    pg_array_add(array, text->data, text->len);
    array->bytes.failed |= text->failed;
}

static int
columns_fill(struct columns *columns, const struct saga_message *messages, size_t n,
             struct saga_uuid *ids, struct saga_error *err)
{
    static const struct saga_uuid none;
    struct buffer text = { 0 };
    int rc = 0;

    for (size_t i = 0; i < n && rc == 0; i++) {
        const struct saga_message *message = &messages[i];

        ids[i] = message->id;
        if (memcmp(&ids[i], &none, sizeof none) == 0)
            rc = saga_uuid_make(&ids[i], err);
        pg_array_add(&columns->ids, &ids[i], sizeof ids[i]);
        pg_array_add_text(&columns->topics, message->topic);
        pg_array_add_text(&columns->keys, message->key);
        add_headers(&columns->headers, message->headers, &text);
        pg_array_add(&columns->payloads, message->payload.data, message->payload.len);
    }
    buffer_clear(&text);
    if (rc == 0 && columns->payloads.bytes.len > PARAMETER_MAX)
        rc = error_set(err, SAGA_ELIMIT,
                       "%zu messages of together more than 1 GB; use several calls", n);
    if (rc == 0 && columns_failed(columns))
        rc = error_set(err, SAGA_ENOMEM, "out of memory for %zu messages", n);
    return rc;
}

/* --- sending ----------------------------------------------------------- */

static int
run(PGconn *tx, const struct pg_arg *args, int n_args, struct saga_error *err)
{
    struct pg pg = pg_borrow(tx);

    return pg_exec(&pg, SQL_MESSAGES_INSERT, args, n_args, NULL, err);
}

/* In pipeline mode libpq copies the statement into its buffer and the caller
 * sends it with his own. */
static int
queue(PGconn *tx, const struct pg_arg *args, int n_args, struct saga_error *err)
{
    Oid types[8];
    const char *values[8];
    int lengths[8], formats[8];

    for (int i = 0; i < n_args; i++) {
        types[i] = args[i].type;
        values[i] = args[i].data;
        lengths[i] = (int)args[i].len;
        formats[i] = 1;
    }
    if (PQsendQueryParams(tx, SQL_MESSAGES_INSERT_CHECKED, n_args, types, values, lengths, formats,
                          1))
        return 0;
    error_set(err, SAGA_EDB, "the statement could not be queued: %s", PQerrorMessage(tx));
    return error_flag(err, SAGA_EDB, SAGA_ERR_FATAL | SAGA_ERR_TX_ABORTED);
}

int
saga_enqueue(PGconn *tx, const struct saga_message *messages, size_t n, struct saga_uuid *ids,
             struct saga_error *err)
{
    struct saga_uuid *made = NULL;
    struct columns columns;
    int rc = check_call(tx, messages, n, err);

    if (rc != 0)
        return rc;
    columns_init(&columns);
    made = calloc(n > 0 ? n : 1, sizeof *made);
    if (made == NULL) {
        rc = error_set(err, SAGA_ENOMEM, "out of memory");
        goto out;
    }
    rc = columns_fill(&columns, messages, n, made, err);
    if (rc != 0)
        goto out;
    rc = (PQpipelineStatus(tx) == PQ_PIPELINE_OFF ? run : queue)(
        tx,
        PG_ARGS(PG_ARRAY(&columns.ids), PG_ARRAY(&columns.topics), PG_ARRAY(&columns.keys),
                PG_ARRAY(&columns.headers), PG_ARRAY(&columns.payloads)),
        err);
    if (rc == 0 && ids != NULL)
        memcpy(ids, made, n * sizeof *made);
out:
    free(made);
    columns_clear(&columns);
    return rc;
}
