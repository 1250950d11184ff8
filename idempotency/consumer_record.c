/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A Kafka message, read as a record: id, hash, headers as texts; or the reason
 * why it is none.
 */
#include "idempotency/consumer_record.h"

#include "base/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char message_id[] = "message-id";

/* A NULL key and an empty one, or bytes that move from key to payload, give
 * another hash: each part goes in behind its length. */
static bool
hash_part(EVP_MD_CTX *digest, const void *data, size_t len)
{
    uint8_t prefix[8];

    put_u64(prefix, data != NULL ? (uint64_t)len : UINT64_MAX);
    return EVP_DigestUpdate(digest, prefix, sizeof prefix) == 1 &&
           (data == NULL || len == 0 || EVP_DigestUpdate(digest, data, len) == 1);
}

EVP_MD_CTX *
record_digest(void)
{
    EVP_MD_CTX *digest = EVP_MD_CTX_new();

    if (digest != NULL && EVP_DigestInit_ex(digest, EVP_sha256(), NULL) == 1)
        return digest;
    EVP_MD_CTX_free(digest);
    return NULL;
}

static int
hash_message(struct incoming *record, const rd_kafka_message_t *message, EVP_MD_CTX *digest,
             struct saga_error *err)
{
    static const char digits[] = "0123456789abcdef";

    if (EVP_DigestInit_ex(digest, NULL, NULL) != 1 ||
        !hash_part(digest, message->key, message->key_len) ||
        !hash_part(digest, message->payload, message->len) ||
        EVP_DigestFinal_ex(digest, record->hash, NULL) != 1)
        return error_set(err, SAGA_ENOMEM, "SHA-256 failed");
    for (size_t i = 0; i < sizeof record->hash; i++) {
        record->hash_text[2 * i] = digits[record->hash[i] >> 4];
        record->hash_text[2 * i + 1] = digits[record->hash[i] & 15];
    }
    record->hash_text[2 * sizeof record->hash] = '\0';
    return 0;
}

/* --- headers, as they came ---------------------------------------------------------- */

enum { NO_VALUE = -1, KEEP_BYTES = 4096 };

/* In `raw`: the value's length, and both with a NUL behind. Whoever keeps librdkafka's list instead
 * keeps five allocations for each message in hand. */
static void
keep_header(struct buffer *raw, const char *name, const void *value, size_t len)
{
    int64_t value_len = value != NULL ? (int64_t)len : NO_VALUE;

    buffer_add(raw, &value_len, sizeof value_len);
    buffer_add(raw, name, strlen(name) + 1);
    buffer_add(raw, value, value != NULL ? len : 0);
    buffer_add(raw, "", 1);
}

struct header {
    const char *name;
    struct saga_bytes value; /* data NULL: none */
};

static bool
next_header(const struct buffer *raw, size_t *at, struct header *header)
{
    int64_t value_len;

    if (*at >= raw->len)
        return false;
    memcpy(&value_len, raw->data + *at, sizeof value_len);
    header->name = (const char *)raw->data + *at + sizeof value_len;
    header->value.data = header->name + strlen(header->name) + 1;
    header->value.len = value_len != NO_VALUE ? (size_t)value_len : 0;
    *at = (size_t)((const uint8_t *)header->value.data - raw->data) + header->value.len + 1;
    if (value_len == NO_VALUE)
        header->value.data = NULL;
    return true;
}

static bool
is_text(struct saga_bytes value)
{
    return value.data != NULL && utf8_valid(value.data, value.len);
}

static void
read_raw(struct incoming *record, rd_kafka_message_t *message)
{
    rd_kafka_headers_t *headers;
    const char *name;
    const void *value;
    size_t len;

    record->raw.len = 0;
    if (rd_kafka_message_detach_headers(message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return;
    for (size_t i = 0;
         rd_kafka_header_get_all(headers, i, &name, &value, &len) == RD_KAFKA_RESP_ERR_NO_ERROR;
         i++)
        keep_header(&record->raw, name, value, len);
    rd_kafka_headers_destroy(headers);
}

/* Of two texts, the last one counts, as everywhere in Kafka; what is no text is not
 * there, as for all headers. */
static const char *
read_id(struct incoming *record)
{
    static const struct saga_uuid none;
    const char *text = NULL;
    struct header header;

    for (size_t at = 0; next_header(&record->raw, &at, &header);)
        if (strcmp(header.name, message_id) == 0 && is_text(header.value))
            text = header.value.data;
    if (text == NULL)
        return "no message-id: a header of that name with a uuid as text is needed";
    if (saga_uuid_parse(&record->public.id, text, NULL) != 0)
        return "the message-id is not a uuid";
    if (memcmp(&record->public.id, &none, sizeof none) == 0)
        return "the message-id is the nil uuid";
    return NULL;
}

/* --- the record ----------------------------------------------------------------------- */

int
record_read(struct incoming *record, rd_kafka_message_t *message, EVP_MD_CTX *digest,
            struct saga_error *err)
{
    static const struct saga_pair no_headers[1];
    rd_kafka_timestamp_type_t type;
    int rc;

    record->public = (struct saga_record){
        .topic = rd_kafka_topic_name(message->rkt),
        .partition = message->partition,
        .offset = message->offset,
        .timestamp_us = rd_kafka_message_timestamp(message, &type) * 1000,
        .key = { message->key, message->key_len },
        .payload = { message->payload, message->len },
        .hash = { record->hash, sizeof record->hash },
        .headers = no_headers,
    };
    record->pairs = NULL;
    rc = hash_message(record, message, digest, err);
    read_raw(record, message);
    if (rc == 0 && record->raw.failed)
        rc = error_set(err, SAGA_ENOMEM, "out of memory");
    if (rc == 0)
        record->flaw = read_id(record);
    return rc;
}

int
record_read_headers(struct incoming *record, struct saga_error *err)
{
    struct header header;
    size_t n = 0;

    if (record->pairs != NULL)
        return 0;
    for (size_t at = 0; next_header(&record->raw, &at, &header);)
        n++;
    record->pairs = calloc(n + 1, sizeof *record->pairs);
    if (record->pairs == NULL)
        return error_set(err, SAGA_ENOMEM, "out of memory");
    n = 0;
    for (size_t at = 0; next_header(&record->raw, &at, &header);)
        if (is_text(header.value) && utf8_valid(header.name, strlen(header.name)))
            record->pairs[n++] = (struct saga_pair){ header.name, header.value.data };
    record->public.headers = record->pairs;
    return 0;
}

void
record_clear(struct incoming *record)
{
    free(record->pairs);
    record->pairs = NULL;
    if (record->raw.capacity > KEEP_BYTES)
        buffer_clear(&record->raw);
}

void
record_free(struct incoming *record)
{
    record_clear(record);
    buffer_clear(&record->raw);
}

static void
add_text(struct pg_array *into, const void *value, size_t len)
{
    struct buffer hex = { 0 };
    const uint8_t *bytes = value;
    char digits[3];

    if (value == NULL || (utf8_valid(value, len) && !(len >= 2 && memcmp(value, "\\x", 2) == 0))) {
        pg_array_add(into, value, len);
        return;
    }
    buffer_add(&hex, "\\x", 2);
    for (size_t i = 0; i < len; i++) {
        snprintf(digits, sizeof digits, "%02x", bytes[i]);
        buffer_add(&hex, digits, 2);
    }
    if (hex.failed)
        into->bytes.failed = true;
    else
        pg_array_add(into, hex.data, hex.len);
    buffer_clear(&hex);
}

int
record_headers(const struct incoming *record, struct pg_array *into, struct saga_error *err)
{
    struct header header;

    for (size_t at = 0; next_header(&record->raw, &at, &header);) {
        add_text(into, header.name, strlen(header.name));
        add_text(into, header.value.data, header.value.len);
    }
    return into->bytes.failed ? error_set(err, SAGA_ENOMEM, "out of memory") : 0;
}
