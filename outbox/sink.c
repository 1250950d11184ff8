/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing to Kafka through librdkafka.
 */
#include "outbox/sink.h"

#include "base/clock.h"
#include "base/crash.h"
#include "base/error.h"

#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { COMPLAIN_MS = 60000, CLOSE_MS = 2000 };

struct sink_topic {
    rd_kafka_topic_t *handle;
    enum record_format format;
};

struct sink {
    rd_kafka_t *producer;
    const struct record_formats *formats;
    struct sink_topic *topics; /* sorted by name */
    size_t n_topics;
    struct window *window;
    const struct saga_log *log;
    struct tally *tally;
    bool broken;
    struct {
        char error[256], topic[256];
        int64_t seq; /* 0: not a matter of one message */
    } failure;       /* the first one that explains something */
    int64_t refused;
    int64_t progress_ms; /* when something was last acknowledged or begun */
    int64_t *complained_ms;
};

/* --- properties -------------------------------------------------------- */

/* May be changed. The largest message that the outbox takes has to fit, with
 * its headers and what Kafka adds; the brokers' own default is as large. */
static const struct saga_pair ours[] = {
    { "client.id", "outbox-relay" },
    { "linger.ms", "1" },
    { "message.max.bytes", "1048588" },
    { "batch.size", "1000000" },
    { "queue.buffering.max.kbytes", "262144" },
    { NULL, NULL },
};

/*
 * May not be changed; the promises rest on them. No timeout: a message that was
 * given up in the middle of a batch would be overtaken. Gapless: when a batch
 * fails for good, the ones behind it must not go through on their own. The
 * partitioner is Java's, so that a key lands where any other producer puts it.
 */
static const struct saga_pair fixed[] = {
    { "enable.idempotence", "true" },
    { "acks", "all" },
    { "message.timeout.ms", "0" },
    { "enable.gapless.guarantee", "true" },
    { "partitioner", "murmur2_random" },
    { "delivery.report.only.error", "false" },
    { "log.queue", "true" },
    { NULL, NULL },
};
static const char *const other_names[] = { "request.required.acks", "delivery.timeout.ms",
                                           "transactional.id",      "bootstrap.servers",
                                           "metadata.broker.list",  NULL };

static bool
belongs_to_relay(const char *name)
{
    for (const struct saga_pair *pair = fixed; pair->name != NULL; pair++)
        if (strcasecmp(pair->name, name) == 0)
            return true;
    for (const char *const *other = other_names; *other != NULL; other++)
        if (strcasecmp(*other, name) == 0)
            return true;
    return false;
}

static int
set_all(rd_kafka_conf_t *conf, const struct saga_pair *pairs, struct saga_error *err)
{
    char why[192];

    for (; pairs != NULL && pairs->name != NULL; pairs++)
        if (rd_kafka_conf_set(conf, pairs->name, pairs->value, why, sizeof why) != RD_KAFKA_CONF_OK)
            return error_set(err, SAGA_EINVAL, "librdkafka: %s", why);
    return 0;
}

static int
configure(rd_kafka_conf_t *conf, const struct sink_options *options, struct saga_error *err)
{
    const struct saga_pair brokers[] = { { "bootstrap.servers", options->brokers },
                                         { NULL, NULL } };
    int rc = set_all(conf, ours, err);

    for (const struct saga_pair *pair = options->properties;
         rc == 0 && pair != NULL && pair->name != NULL; pair++)
        if (belongs_to_relay(pair->name))
            rc = error_set(err, SAGA_EINVAL, "the property %s is set by the relay", pair->name);
    if (rc == 0)
        rc = set_all(conf, options->properties, err);
    if (rc == 0)
        rc = set_all(conf, fixed, err);
    if (rc == 0)
        rc = set_all(conf, brokers, err);
    return rc;
}

int
sink_check(const struct sink_options *options, struct saga_error *err)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    int rc = configure(conf, options, err);

    rd_kafka_conf_destroy(conf);
    return rc != 0 ? rc : record_check(&options->formats, err);
}

/* --- what librdkafka tells --------------------------------------------- */

/* At most once a minute: what goes wrong with Kafka goes wrong again and again. */
static bool
may_complain(struct sink *sink)
{
    int64_t now = clock_mono_ms();

    if (*sink->complained_ms != 0 && now - *sink->complained_ms < COMPLAIN_MS)
        return false;
    *sink->complained_ms = now;
    return true;
}

/* Notes why the sink is of no further use; told when it is closed. A message
 * that was refused explains more than the producer's end that follows from it. */
static void
fail(struct sink *sink, const char *error, const char *topic, int64_t seq)
{
    sink->broken = true;
    if (seq != 0)
        sink->refused++;
    if (sink->failure.seq != 0 || (sink->failure.error[0] != '\0' && seq == 0))
        return;
    snprintf(sink->failure.error, sizeof sink->failure.error, "%s", error);
    snprintf(sink->failure.topic, sizeof sink->failure.topic, "%s", topic);
    sink->failure.seq = seq;
}

static void
tell_failure(struct sink *sink)
{
    if (sink->failure.error[0] == '\0' || !may_complain(sink))
        return;
    if (sink->failure.seq == 0)
        log_event(sink->log, SAGA_LOG_WARNING,
                  "the producer has given up; going on from the cursor with a new one",
                  LOG_TEXT("error", sink->failure.error));
    else
        log_event(sink->log, SAGA_LOG_WARNING,
                  "Kafka refused a message; it is sent again until it is accepted",
                  LOG_TEXT("error", sink->failure.error), LOG_TEXT("topic", sink->failure.topic),
                  LOG_INT("seq", sink->failure.seq));
}

/* The one place where a message counts as published. */
static void
delivered(rd_kafka_t *producer, const rd_kafka_message_t *message, void *user)
{
    struct sink *sink = user;
    uint64_t position = (uint64_t)(uintptr_t)message->_private;

    (void)producer;
    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
        CRASH_POINT("relay.before_ack");
        window_ack(sink->window, position);
        tally_ack(sink->tally, rd_kafka_message_latency(message));
        sink->progress_ms = clock_mono_ms();
        return;
    }
    sink->broken = true;
    /* What we gave up ourselves, or lost together with another, explains nothing. */
    if (message->err != RD_KAFKA_RESP_ERR__PURGE_QUEUE &&
        message->err != RD_KAFKA_RESP_ERR__PURGE_INFLIGHT &&
        message->err != RD_KAFKA_RESP_ERR__FATAL)
        fail(sink, rd_kafka_err2str(message->err), rd_kafka_topic_name(message->rkt),
             window_seq(sink->window, position));
}

static void
on_error(rd_kafka_t *producer, int error, const char *reason, void *user)
{
    struct sink *sink = user;
    char why[256];

    if (error == RD_KAFKA_RESP_ERR__FATAL) {
        rd_kafka_fatal_error(producer, why, sizeof why);
        fail(sink, why, "", 0);
    } else if (may_complain(sink)) {
        log_event(sink->log, SAGA_LOG_WARNING, "trouble with Kafka; trying again",
                  LOG_TEXT("error", reason),
                  LOG_INT("waiting", (int64_t)window_open(sink->window)));
    }
}

static void
on_log(const rd_kafka_t *producer, int level, const char *facility, const char *line)
{
    struct sink *sink = rd_kafka_opaque(producer);

    (void)level;
    log_event(sink->log, SAGA_LOG_DEBUG, "librdkafka", LOG_TEXT("facility", facility),
              LOG_TEXT("line", line));
}

/* --- opening and closing ----------------------------------------------- */

int
sink_open(struct sink **sink, const struct sink_options *options, struct window *window,
          struct saga_error *err)
{
    struct sink *made = calloc(1, sizeof *made);
    rd_kafka_conf_t *conf;
    char why[192];
    int rc;

    if (made == NULL)
        return error_set(err, SAGA_ENOMEM, "out of memory");
    made->window = window;
    made->formats = &options->formats;
    made->log = options->log;
    made->tally = options->tally;
    made->complained_ms = options->complained_ms;
    conf = rd_kafka_conf_new();
    rc = configure(conf, options, err);
    if (rc != 0)
        goto fail;
    rd_kafka_conf_set_opaque(conf, made);
    rd_kafka_conf_set_dr_msg_cb(conf, delivered);
    rd_kafka_conf_set_error_cb(conf, on_error);
    rd_kafka_conf_set_log_cb(conf, on_log);
    made->producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    if (made->producer == NULL) {
        rc = error_set(err, SAGA_EINVAL, "librdkafka: %s", why);
        goto fail;
    }
    /* The log comes through sink_serve() too, on the caller's thread. */
    rd_kafka_set_log_queue(made->producer, NULL);
    *sink = made;
    return 0;
fail:
    rd_kafka_conf_destroy(conf);
    free(made);
    return rc;
}

int64_t
sink_close(struct sink *sink)
{
    int64_t refused;

    if (sink == NULL)
        return 0;
    rd_kafka_purge(sink->producer, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    rd_kafka_flush(sink->producer, CLOSE_MS);
    tell_failure(sink);
    for (size_t i = 0; i < sink->n_topics; i++)
        rd_kafka_topic_destroy(sink->topics[i].handle);
    free(sink->topics);
    rd_kafka_destroy(sink->producer);
    refused = sink->refused;
    free(sink);
    return refused;
}

/* --- producing --------------------------------------------------------- */

/* What is kept of a topic; made once. NULL: out of memory, or no valid name. */
static const struct sink_topic *
topic_of(struct sink *sink, const char *name)
{
    size_t low = 0, high = sink->n_topics;
    struct sink_topic *grown;

    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strcmp(name, rd_kafka_topic_name(sink->topics[middle].handle));

        if (order == 0)
            return &sink->topics[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    grown = realloc(sink->topics, (sink->n_topics + 1) * sizeof *grown);
    if (grown == NULL)
        return NULL;
    sink->topics = grown;
    memmove(grown + low + 1, grown + low, (sink->n_topics - low) * sizeof *grown);
    grown[low] = (struct sink_topic){ .handle = rd_kafka_topic_new(sink->producer, name, NULL),
                                      .format = record_format_of(sink->formats, name) };
    if (grown[low].handle == NULL) {
        memmove(grown + low, grown + low + 1, (sink->n_topics - low) * sizeof *grown);
        return NULL;
    }
    sink->n_topics++;
    return &grown[low];
}

/* librdkafka reads the payload where it lies; an empty one is not no payload. */
static rd_kafka_resp_err_t
hand_over(struct sink *sink, const struct sink_topic *topic, const struct row_fields *fields,
          uint64_t position)
{
    rd_kafka_headers_t *headers = record_make_headers(fields, topic->format, sink->formats->source);
    rd_kafka_vu_t vu[] = {
        { .vtype = RD_KAFKA_VTYPE_RKT, .u.rkt = topic->handle },
        { .vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = headers },
        { .vtype = RD_KAFKA_VTYPE_OPAQUE, .u.ptr = (void *)(uintptr_t)position },
        { .vtype = RD_KAFKA_VTYPE_KEY,
          .u.mem = { (void *)(uintptr_t)fields->key.data, fields->key.len } },
        { .vtype = RD_KAFKA_VTYPE_VALUE,
          .u.mem = { (void *)(uintptr_t)fields->payload.data, fields->payload.len } },
    };
    rd_kafka_error_t *error = rd_kafka_produceva(sink->producer, vu, sizeof vu / sizeof *vu);
    rd_kafka_resp_err_t code = rd_kafka_error_code(error);

    if (error != NULL) {
        rd_kafka_headers_destroy(headers); /* they stay ours on failure */
        rd_kafka_error_destroy(error);
    }
    return code;
}

int
sink_produce(struct sink *sink, const struct row *row)
{
    struct row_fields fields;
    const struct sink_topic *topic;
    rd_kafka_resp_err_t code;
    uint64_t position;

    if (sink->broken)
        return SINK_BROKEN;
    row_read(row, &fields);
    topic = topic_of(sink, fields.topic);
    if (topic == NULL || !window_push(sink->window, row->seq, &position)) {
        fail(sink, "out of memory", fields.topic, 0);
        return SINK_BROKEN;
    }
    if (window_open(sink->window) == 1)
        sink->progress_ms = clock_mono_ms();
    code = hand_over(sink, topic, &fields, position);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
        return SINK_TAKEN;
    window_pop(sink->window);
    if (code == RD_KAFKA_RESP_ERR__QUEUE_FULL)
        return SINK_FULL;
    fail(sink, rd_kafka_err2str(code), fields.topic, row->seq);
    return SINK_BROKEN;
}

void
sink_serve(struct sink *sink, int wait_ms)
{
    rd_kafka_poll(sink->producer, wait_ms);
    if (window_open(sink->window) > 0 && clock_mono_ms() - sink->progress_ms >= COMPLAIN_MS &&
        may_complain(sink))
        log_event(sink->log, SAGA_LOG_WARNING, "no answer from Kafka; still trying",
                  LOG_INT("waiting", (int64_t)window_open(sink->window)));
}

bool
sink_broken(const struct sink *sink)
{
    return sink->broken;
}
