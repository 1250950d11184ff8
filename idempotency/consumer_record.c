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

static rd_kafka_headers_t *
headers_of(const rd_kafka_message_t *message)
{
    rd_kafka_headers_t *headers = NULL;

    return rd_kafka_message_headers(message, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR ? headers
                                                                                     : NULL;
}

static bool
next_header(rd_kafka_headers_t *headers, size_t i, const char **name, const void **value,
            size_t *len)
{
    return headers != NULL &&
           rd_kafka_header_get_all(headers, i, name, value, len) == RD_KAFKA_RESP_ERR_NO_ERROR;
}

/* Of two texts, the last one counts, as everywhere in Kafka; what is no text is not
 * there, as for all headers. Behind a value, librdkafka has put a NUL. */
static const char *
read_id(struct incoming *record, const rd_kafka_message_t *message)
{
    static const struct saga_uuid none;
    rd_kafka_headers_t *headers = headers_of(message);
    const void *value;
    const char *text = NULL;
    size_t len;

    for (size_t i = 0; headers != NULL && rd_kafka_header_get(headers, i, message_id, &value,
                                                              &len) == RD_KAFKA_RESP_ERR_NO_ERROR;
         i++)
        if (value != NULL && utf8_valid(value, len))
            text = value;
    if (text == NULL)
        return "no message-id: a header of that name with a uuid as text is needed";
    if (saga_uuid_parse(&record->public.id, text, NULL) != 0)
        return "the message-id is not a uuid";
    if (memcmp(&record->public.id, &none, sizeof none) == 0)
        return "the message-id is the nil uuid";
    return NULL;
}

int
record_read(struct incoming *record, const rd_kafka_message_t *message, EVP_MD_CTX *digest,
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
    record->texts = (struct buffer){ 0 };
    record->pairs = NULL;
    rc = hash_message(record, message, digest, err);
    if (rc == 0)
        record->flaw = read_id(record, message);
    return rc;
}

/* Offsets first: the buffer moves while it grows. */
int
record_read_headers(struct incoming *record, const rd_kafka_message_t *message,
                    struct saga_error *err)
{
    rd_kafka_headers_t *headers = headers_of(message);
    size_t n = headers != NULL ? rd_kafka_header_cnt(headers) : 0, kept = 0, len;
    const char *name, *texts;
    const void *value;

    if (record->pairs != NULL)
        return 0;
    record->pairs = calloc(n + 1, sizeof *record->pairs);
    for (size_t i = 0; next_header(headers, i, &name, &value, &len); i++) {
        if (value == NULL || !utf8_valid(value, len) || !utf8_valid(name, strlen(name)))
            continue;
        buffer_add(&record->texts, name, strlen(name) + 1);
        buffer_add(&record->texts, value, len);
        buffer_add(&record->texts, "", 1);
        kept++;
    }
    if (record->pairs == NULL || record->texts.failed) {
        record_clear(record);
        return error_set(err, SAGA_ENOMEM, "out of memory");
    }
    texts = (const char *)record->texts.data;
    for (size_t i = 0; i < kept; i++) {
        record->pairs[i].name = texts;
        record->pairs[i].value = texts + strlen(texts) + 1;
        texts = record->pairs[i].value + strlen(record->pairs[i].value) + 1;
    }
    record->public.headers = record->pairs;
    return 0;
}

void
record_clear(struct incoming *record)
{
    buffer_clear(&record->texts);
    free(record->pairs);
    record->pairs = NULL;
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
record_headers(const rd_kafka_message_t *message, struct pg_array *into, struct saga_error *err)
{
    rd_kafka_headers_t *headers = headers_of(message);
    const char *name;
    const void *value;
    size_t len;

    for (size_t i = 0; next_header(headers, i, &name, &value, &len); i++) {
        add_text(into, name, strlen(name));
        add_text(into, value, len);
    }
    return into->bytes.failed ? error_set(err, SAGA_ENOMEM, "out of memory") : 0;
}
