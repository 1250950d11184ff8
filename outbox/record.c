/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Headers of records: plain, and CloudEvents 1.0 in Kafka's binary mode.
 */
#include "outbox/record.h"

#include "base/error.h"
#include "outbox/headers.h"

#include <saga/outbox.h>

#include <string.h>
#include <strings.h>

enum { PLAIN_ROOM = 8, CLOUDEVENTS_ROOM = 20 };

/* --- which format ------------------------------------------------------ */

static const char *const format_names[] = {
    [RECORD_PLAIN] = "plain",
    [RECORD_CLOUDEVENTS] = "cloudevents",
};
enum { N_FORMATS = sizeof format_names / sizeof *format_names };

static bool
find_format(const char *name, enum record_format *format)
{
    for (unsigned i = 0; i < N_FORMATS; i++) {
        if (name != NULL && strcmp(format_names[i], name) == 0) {
            *format = (enum record_format)i;
            return true;
        }
    }
    return false;
}

/* Not empty, and only characters that a URI may have (RFC 3986, section 2). */
static bool
is_uri_reference(const char *text)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~%:/?#[]@!$&'()*+,;=";

    return text != NULL && *text != '\0' && text[strspn(text, letters)] == '\0';
}

int
record_check(const struct record_formats *formats, struct saga_error *err)
{
    bool needs_source = false;

    for (const struct saga_pair *pair = formats->topics; pair != NULL && pair->name != NULL;
         pair++) {
        enum record_format format;

        if (!find_format(pair->value, &format))
            return error_set(err, SAGA_EINVAL,
                             "the format of topic %s is %s; known are plain and cloudevents",
                             pair->name, pair->value != NULL ? pair->value : "not given");
        needs_source = needs_source || format == RECORD_CLOUDEVENTS;
    }
    if ((needs_source || formats->source != NULL) && !is_uri_reference(formats->source))
        return error_set(err, SAGA_EINVAL,
                         "CloudEvents need a source, which is a URI or a part of one, as /orders");
    return 0;
}

enum record_format
record_format_of(const struct record_formats *formats, const char *topic)
{
    enum record_format format = RECORD_PLAIN;

    for (const struct saga_pair *pair = formats->topics; pair != NULL && pair->name != NULL;
         pair++) {
        if (strcmp(pair->name, topic) == 0) {
            find_format(pair->value, &format);
            return format;
        }
        if (strcmp(pair->name, "*") == 0)
            find_format(pair->value, &format);
    }
    return format;
}

/* --- plain ------------------------------------------------------------- */

static bool
is(struct saga_bytes text, const char *other, size_t len)
{
    return text.len == len && memcmp(text.data, other, len) == 0;
}
#define IS(text, literal) is((text), literal, sizeof(literal) - 1)

static void
add(rd_kafka_headers_t *headers, struct saga_bytes name, struct saga_bytes value)
{
    rd_kafka_header_add(headers, name.data, (ssize_t)name.len, value.data, (ssize_t)value.len);
}

static void
add_text(rd_kafka_headers_t *headers, const char *name, const char *value)
{
    rd_kafka_header_add(headers, name, -1, value, -1);
}

/* The id under which consumers know the message, whatever a writer that went
 * around outbox.enqueue has put into the row. */
static bool
belongs_to_relay(struct saga_bytes name)
{
    return IS(name, "message-id");
}

/* --- CloudEvents ------------------------------------------------------- */

/* The attributes that the relay can give; those of tracing as the extension of
 * that name has them. */
enum attribute {
    CE_SPECVERSION,
    CE_ID,
    CE_SOURCE,
    CE_TYPE,
    CE_TIME,
    CE_SUBJECT,
    CE_TRACEPARENT,
    CE_TRACESTATE,
    N_ATTRIBUTES
};
static const char *const attributes[N_ATTRIBUTES] = {
    "ce_specversion", "ce_id",      "ce_source",      "ce_type",
    "ce_time",        "ce_subject", "ce_traceparent", "ce_tracestate",
};

/* What the writer has given. */
struct given {
    bool attribute[N_ATTRIBUTES];
    struct saga_bytes content_type, data_content_type, traceparent, tracestate;
};

static void
note(struct given *given, struct saga_bytes name, struct saga_bytes value)
{
    if (IS(name, "content-type"))
        given->content_type = value;
    else if (IS(name, "ce_datacontenttype"))
        given->data_content_type = value;
    else if (IS(name, "traceparent"))
        given->traceparent = value;
    else if (IS(name, "tracestate"))
        given->tracestate = value;
    for (int i = 0; i < N_ATTRIBUTES; i++)
        if (is(name, attributes[i], strlen(attributes[i])))
            given->attribute[i] = value.len > 0; /* the last counts */
}

static bool
comes_again(struct saga_bytes name, struct headers_reader rest)
{
    struct saga_bytes other, value;

    while (headers_next(&rest, &other, &value))
        if (other.len == name.len && memcmp(other.data, name.data, name.len) == 0)
            return true;
    return false;
}

/* Everything that is no attribute goes as it is. An attribute goes once: the
 * last counts, and an empty one is none. The type of the data has a header of
 * its own and must not go as an attribute. */
static bool
goes(struct saga_bytes name, struct saga_bytes value, struct headers_reader rest)
{
    bool attribute = name.len > 3 && memcmp(name.data, "ce_", 3) == 0;

    if (belongs_to_relay(name) || IS(name, "ce_datacontenttype"))
        return false;
    if (!attribute && !IS(name, "content-type"))
        return true;
    return value.len > 0 && !comes_again(name, rest);
}

/* The writer has made an event of it already: attributes and data together in
 * the payload ("structured mode"), which this type says. */
static bool
is_event_itself(const struct given *given)
{
    static const char type[] = "application/cloudevents";

    return given->content_type.len >= sizeof type - 1 &&
           strncasecmp(given->content_type.data, type, sizeof type - 1) == 0;
}

static char *
digits(char *at, int64_t number, int n, char behind)
{
    for (int i = n - 1; i >= 0; i--, number /= 10)
        at[i] = (char)('0' + number % 10);
    at[n] = behind;
    return at + n + 1;
}

/* RFC 3339, in UTC. The date by Howard Hinnant's days-to-civil: years begin in
 * March, so that the leap day is a year's last; 1970-01-01 is day 719468. */
static void
time_text(char text[28], int64_t unix_us)
{
    const int64_t us_of_day = INT64_C(86400) * 1000000;
    int64_t days = unix_us / us_of_day - (unix_us % us_of_day < 0);
    int64_t rest = unix_us - days * us_of_day, shifted = days + 719468;
    int64_t era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
    int64_t day_of_era = shifted - era * 146097;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month = (5 * day + 2) / 153;

    text = digits(text, year_of_era + era * 400 + (month >= 10), 4, '-');
    text = digits(text, month < 10 ? month + 3 : month - 9, 2, '-');
    text = digits(text, day - (153 * month + 2) / 5 + 1, 2, 'T');
    text = digits(text, rest / 3600000000, 2, ':');
    text = digits(text, rest / 60000000 % 60, 2, ':');
    text = digits(text, rest / 1000000 % 60, 2, '.');
    text = digits(text, rest % 1000000, 6, 'Z');
    *text = '\0';
}

static void
add_given(rd_kafka_headers_t *headers, enum attribute attribute, const struct given *given,
          struct saga_bytes value)
{
    if (!given->attribute[attribute] && value.len > 0)
        rd_kafka_header_add(headers, attributes[attribute], -1, value.data, (ssize_t)value.len);
}

static void
add_attributes(rd_kafka_headers_t *headers, const struct row_fields *fields, const char *id,
               const char *source, const struct given *given)
{
    char time[28];

    if (!given->attribute[CE_SPECVERSION])
        add_text(headers, attributes[CE_SPECVERSION], "1.0");
    if (!given->attribute[CE_ID])
        add_text(headers, attributes[CE_ID], id);
    if (!given->attribute[CE_SOURCE])
        add_text(headers, attributes[CE_SOURCE], source);
    if (!given->attribute[CE_TYPE])
        add_text(headers, attributes[CE_TYPE], fields->topic);
    if (!given->attribute[CE_TIME]) {
        time_text(time, fields->created_us);
        add_text(headers, attributes[CE_TIME], time);
    }
    add_given(headers, CE_SUBJECT, given, fields->key);
    add_given(headers, CE_TRACEPARENT, given, given->traceparent);
    add_given(headers, CE_TRACESTATE, given, given->tracestate);
    if (given->content_type.len == 0 && given->data_content_type.len > 0)
        add(headers, (struct saga_bytes){ "content-type", 12 }, given->data_content_type);
}

/* --- both -------------------------------------------------------------- */

rd_kafka_headers_t *
record_make_headers(const struct row_fields *fields, enum record_format format, const char *source)
{
    bool event = format == RECORD_CLOUDEVENTS;
    rd_kafka_headers_t *headers = rd_kafka_headers_new(event ? CLOUDEVENTS_ROOM : PLAIN_ROOM);
    char id[37], scratch[SAGA_HEADERS_MAX];
    struct headers_reader rest = { fields->headers.data, NULL, scratch };
    struct saga_bytes name, value;
    struct given given = { 0 };

    saga_uuid_text(&fields->id, id);
    rd_kafka_header_add(headers, "message-id", 10, id, 36);
    /* The table takes no longer ones. */
    rest.end =
        rest.at + (fields->headers.len < sizeof scratch ? fields->headers.len : sizeof scratch);
    while (headers_next(&rest, &name, &value)) {
        if (event ? goes(name, value, rest) : !belongs_to_relay(name))
            add(headers, name, value);
        if (event)
            note(&given, name, value);
    }
    if (event && !is_event_itself(&given))
        add_attributes(headers, fields, id, source, &given);
    return headers;
}
