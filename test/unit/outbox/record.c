/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The headers of records, for each format. No server: headers are librdkafka's
 * lists, read back.
 */
#include "outbox/record.h"

#include "outbox/headers.h"
#include "test/support/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXTS_MAX = 12 };

static const char id_text[] = "019a5b2e-7c00-7a10-8000-0000000000aa";

/* 2026-02-28T23:59:59.000123Z, unless a case says another. */
enum { SOME_DAY_S = 1772323199 };

struct given_row {
    const char *key; /* NULL: none */
    const char *texts[TEXTS_MAX];
};

/* "name=value, ..." in the order of the record. */
static const char *
record_text(struct saga_bytes text, const char *key, enum record_format format, int64_t created_us)
{
    struct row_fields fields = { .topic = "orders", .headers = text, .created_us = created_us };
    const char *all = "", *name;
    rd_kafka_headers_t *headers;
    const void *value;
    size_t size;

    ck_assert_int_eq(saga_uuid_parse(&fields.id, id_text, NULL), 0);
    if (key != NULL)
        fields.key = (struct saga_bytes){ key, strlen(key) };
    headers = record_make_headers(&fields, format, "/shop");
    for (size_t i = 0;
         rd_kafka_header_get_all(headers, i, &name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR;
         i++)
        all = text_of("%s%s%s=%.*s", all, i > 0 ? ", " : "", name, (int)size, (const char *)value);
    rd_kafka_headers_destroy(headers);
    return all;
}

static const char *
headers_of(const struct given_row *given, enum record_format format, int64_t created_us)
{
    struct saga_pair pairs[TEXTS_MAX / 2 + 1] = { 0 };
    struct buffer text = { 0 };
    const char *all;

    for (int i = 0; given->texts[i] != NULL; i += 2)
        pairs[i / 2] = (struct saga_pair){ given->texts[i], given->texts[i + 1] };
    headers_write(&text, pairs);
    all = record_text((struct saga_bytes){ text.data, text.len }, given->key, format, created_us);
    buffer_clear(&text);
    return all;
}

static const struct {
    const char *name;
    struct given_row row;
    const char *headers; /* behind the message-id */
} plain[] = {
    { "nothing", { NULL, { NULL } }, "" },
    { "the writer's, as they are, traceparent too",
      { "k", { "b", "2", "a", "1", "traceparent", "00-ab-cd-01", "b", "3" } },
      ", b=2, a=1, traceparent=00-ab-cd-01, b=3" },
    { "an empty value is a value", { NULL, { "a", "", "b", "x" } }, ", a=, b=x" },
    { "attributes of events mean nothing",
      { "k", { "ce_type", "", "ce_id", "1" } },
      ", ce_type=, ce_id=1" },
    { "a message-id of the writer's does not go",
      { NULL, { "message-id", "forged", "a", "1" } },
      ", a=1" },
    { "what the lines of the table could not hold as it is",
      { NULL, { "a:b\\", "c: d\n\\n", "", "", "e", " f" } },
      ", a:b\\=c: d\n\\n, =, e= f" },
};

/* A table is open to other writers too: any text is headers. */
static const struct {
    const char *text, *headers;
} by_hand[] = {
    { "", "" },
    { "a", ", a=" },
    { "a:b", ", a=b" },
    { "a:  b: c ", ", a= b: c " },
    { "\n\na: b\n", ", =, =, a=b" },
    { "mess\\age-id: forged\na: \\", ", a=\\" },
    { "a\\: b", ", a: b=" },
};

START_TEST(test_record_headers_by_hand)
{
    for (size_t i = 0; i < sizeof by_hand / sizeof *by_hand; i++) {
        const struct saga_bytes text = { by_hand[i].text, strlen(by_hand[i].text) };
        const char *found = record_text(text, NULL, RECORD_PLAIN, 0);

        ck_assert_msg(strcmp(found, text_of("message-id=%s%s", id_text, by_hand[i].headers)) == 0,
                      "%s: %s", by_hand[i].text, found);
    }
}
END_TEST

START_TEST(test_record_plain_headers_go_as_they_are)
{
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        ck_assert_msg(strcmp(headers_of(&plain[i].row, RECORD_PLAIN, 0),
                             text_of("message-id=%s%s", id_text, plain[i].headers)) == 0,
                      "%s: %s", plain[i].name, headers_of(&plain[i].row, RECORD_PLAIN, 0));
}
END_TEST

#define TIME "ce_time=2026-02-28T23:59:59.000123Z"
#define ID   "ce_id=019a5b2e-7c00-7a10-8000-0000000000aa"

static const struct {
    const char *name;
    struct given_row row;
    const char *headers; /* behind the message-id */
} events[] = {
    { "what every event must have",
      { NULL, { NULL } },
      "ce_specversion=1.0, " ID ", ce_source=/shop, ce_type=orders, " TIME },
    { "the key is the subject",
      { "order-7", { NULL } },
      "ce_specversion=1.0, " ID ", ce_source=/shop, ce_type=orders, " TIME ", ce_subject=order-7" },
    { "an empty key is none: no attribute may be empty",
      { "", { NULL } },
      "ce_specversion=1.0, " ID ", ce_source=/shop, ce_type=orders, " TIME },
    { "the type of the data, and headers that are no attributes",
      { NULL, { "content-type", "application/json", "tenant", "a" } },
      "content-type=application/json, tenant=a, ce_specversion=1.0, " ID
      ", ce_source=/shop, ce_type=orders, " TIME },
    { "the type of the data, called as the attribute is",
      { NULL, { "ce_datacontenttype", "text/plain" } },
      "ce_specversion=1.0, " ID ", ce_source=/shop, ce_type=orders, " TIME
      ", content-type=text/plain" },
    { "both: the header",
      { NULL, { "content-type", "text/xml", "ce_datacontenttype", "text/plain" } },
      "content-type=text/xml, ce_specversion=1.0, " ID ", ce_source=/shop, ce_type=orders, " TIME },
    { "trace context as it is, and as attributes",
      { NULL, { "traceparent", "00-ab-cd-01", "tracestate", "v=1" } },
      "traceparent=00-ab-cd-01, tracestate=v=1, ce_specversion=1.0, " ID
      ", ce_source=/shop, ce_type=orders, " TIME
      ", ce_traceparent=00-ab-cd-01, ce_tracestate=v=1" },
    { "the writer's attributes win",
      { "k",
        { "ce_type", "order.created", "ce_source", "/a", "ce_id", "7", "ce_subject", "s", "ce_time",
          "t" } },
      "ce_type=order.created, ce_source=/a, ce_id=7, ce_subject=s, ce_time=t, "
      "ce_specversion=1.0" },
    { "so do these, and extensions go",
      { NULL,
        { "ce_specversion", "1.0.2", "ce_traceparent", "x", "traceparent", "y", "ce_partitionkey",
          "p" } },
      "ce_specversion=1.0.2, ce_traceparent=x, traceparent=y, ce_partitionkey=p, " ID
      ", ce_source=/shop, ce_type=orders, " TIME },
    { "of an attribute that is repeated the last counts",
      { NULL, { "ce_type", "a", "x", "1", "ce_type", "b", "x", "2" } },
      "x=1, ce_type=b, x=2, ce_specversion=1.0, " ID ", ce_source=/shop, " TIME },
    { "an empty attribute is none",
      { NULL, { "ce_type", "a", "ce_type", "" } },
      "ce_specversion=1.0, " ID ", ce_source=/shop, ce_type=orders, " TIME },
    { "so is an empty type of the data",
      { NULL, { "content-type", "" } },
      "ce_specversion=1.0, " ID ", ce_source=/shop, ce_type=orders, " TIME },
    { "the writer has put the whole event into the payload",
      { "k", { "content-type", "Application/CloudEvents+json; charset=UTF-8", "a", "1" } },
      "content-type=Application/CloudEvents+json; charset=UTF-8, a=1" },
    { "a message-id of the writer's does not go",
      { NULL, { "message-id", "forged" } },
      "ce_specversion=1.0, " ID ", ce_source=/shop, ce_type=orders, " TIME },
};

START_TEST(test_record_cloudevents_have_each_attribute_once)
{
    for (size_t i = 0; i < sizeof events / sizeof *events; i++) {
        const char *found =
            headers_of(&events[i].row, RECORD_CLOUDEVENTS, SOME_DAY_S * INT64_C(1000000) + 123);

        ck_assert_msg(strcmp(found, text_of("message-id=%s, %s", id_text, events[i].headers)) == 0,
                      "%s: %s", events[i].name, found);
    }
}
END_TEST

START_TEST(test_record_cloudevents_tell_the_time)
{
    static const struct {
        int64_t unix_us;
        const char *text;
    } times[] = {
        { 0, "1970-01-01T00:00:00.000000Z" },
        { 951782400 * INT64_C(1000000), "2000-02-29T00:00:00.000000Z" },
        { 951868799999999, "2000-02-29T23:59:59.999999Z" },
        { 951868800000000, "2000-03-01T00:00:00.000000Z" },
        { 1735689599999999, "2024-12-31T23:59:59.999999Z" },
        { 1735689600000000, "2025-01-01T00:00:00.000000Z" },
        { -1, "1969-12-31T23:59:59.999999Z" },
        { 4107542400000000, "2100-03-01T00:00:00.000000Z" },
    };

    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        const char *found =
            headers_of(&(struct given_row){ NULL, { NULL } }, RECORD_CLOUDEVENTS, times[i].unix_us);

        ck_assert_msg(strstr(found, text_of("ce_time=%s", times[i].text)) != NULL, "%s: %s",
                      times[i].text, found);
    }
}
END_TEST

START_TEST(test_record_formats_are_chosen_by_topic)
{
    const struct record_formats none = { NULL, NULL },
                                some = { SAGA_PAIRS({ "b", "plain" }, { "*", "cloudevents" }),
                                         "/shop" },
                                one = { SAGA_PAIRS({ "b", "cloudevents" }), "/shop" };

    ck_assert_int_eq(record_format_of(&none, "a"), RECORD_PLAIN);
    ck_assert_int_eq(record_format_of(&some, "a"), RECORD_CLOUDEVENTS);
    ck_assert_int_eq(record_format_of(&some, "b"), RECORD_PLAIN);
    ck_assert_int_eq(record_format_of(&one, "a"), RECORD_PLAIN);
    ck_assert_int_eq(record_format_of(&one, "b"), RECORD_CLOUDEVENTS);
}
END_TEST

START_TEST(test_record_formats_that_are_wrong_are_named)
{
    static const struct {
        struct saga_pair pair;
        const char *source, *says; /* NULL: right */
    } cases[] = {
        { { "t", "plain" }, NULL, NULL },
        { { "t", "cloudevents" }, "https://shop.example/orders?a=%20", NULL },
        { { "t", "avro" }, NULL, "the format of topic t is avro" },
        { { "t", NULL }, NULL, "not given" },
        { { "t", "cloudevents" }, NULL, "need a source" },
        { { "t", "cloudevents" }, "", "need a source" },
        { { "t", "cloudevents" }, "two words", "need a source" },
        { { "t", "plain" }, "f\xc3\xbcr", "need a source" },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct saga_pair topics[] = { cases[i].pair, { NULL, NULL } };
        const struct record_formats formats = { topics, cases[i].source };
        struct saga_error err = { 0 };
        int rc = record_check(&formats, &err);

        ck_assert_int_eq(rc, cases[i].says != NULL ? SAGA_EINVAL : 0);
        ck_assert_msg(cases[i].says == NULL || strstr(err.message, cases[i].says) != NULL, "%s",
                      err.message);
    }
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox/record",
        .tests = TESTS(
            test_record_plain_headers_go_as_they_are, test_record_headers_by_hand,
            test_record_cloudevents_have_each_attribute_once, test_record_cloudevents_tell_the_time,
            test_record_formats_are_chosen_by_topic, test_record_formats_that_are_wrong_are_named),
    });
}
