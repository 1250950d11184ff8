/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing to Kafka through librdkafka.
 */
#include "outbox/sink.h"

#include "base/clock.h"
#include "base/crash.h"
#include "base/error.h"
#include "outbox/limits.h"
#include "outbox/record_size.h"
#include "outbox/sink_properties.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COMPLAIN_MS = 60000, ASKING_MS = 5 };

struct sink {
    rd_kafka_t *producer; /* NULL: it could not be made, so the sink is broken */
    const struct record_formats *formats;
    struct window *window;
    struct topics *topics;
    struct judge *judge;
    struct limits limits;
    struct transaction transaction;
    int64_t batch_bytes;
    const struct saga_log *log;
    struct tally *tally;
    struct ranges *ranges;
    bool broken;
    struct {
        char error[256], topic[256];
        int64_t seq; /* 0: not a matter of one message */
    } failure;       /* the first one that explains something */
    int64_t refused;
    int64_t unanswered;  /* messages that librdkafka has taken and not reported on */
    bool acked;          /* by the last call of librdkafka */
    int64_t latency_us;  /* of the first one of these */
    int64_t progress_ms; /* when something was last acknowledged or begun */
    int64_t *complained_ms;
    int32_t close_ms;
};

static void
say_nothing(const rd_kafka_t *producer, int level, const char *facility, const char *line)
{
    (void)producer;
    (void)level;
    (void)facility;
    (void)line;
}

static int
configure(rd_kafka_conf_t *conf, const struct sink_options *options, const char *brokers,
          struct saga_error *err)
{
    int rc = sink_properties_set(conf, brokers, options->properties, err);

    if (rc == 0 && options->transactional_id != NULL)
        rd_kafka_conf_set(conf, "transactional.id", options->transactional_id, NULL, 0);
    return rc;
}

/* Some properties are judged only when a producer is made of them, such as files
 * of certificates. One without brokers connects to nothing. */
int
sink_check(const struct sink_options *options, struct saga_error *err)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_t *producer;
    char why[192];
    int rc = configure(conf, options, NULL, err);

    if (rc == 0) {
        rd_kafka_conf_set_log_cb(conf, say_nothing);
        producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
        if (producer != NULL) {
            rd_kafka_destroy(producer); /* and conf, which is its own now */
            return record_check(&options->formats, err);
        }
        rc = error_set(err, SAGA_EINVAL, "librdkafka: %s", why);
    }
    rd_kafka_conf_destroy(conf);
    return rc;
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
        log_event(sink->log, SAGA_LOG_WARNING, "Kafka refused a message; it is tried again",
                  LOG_TEXT("error", sink->failure.error), LOG_TEXT("topic", sink->failure.topic),
                  LOG_INT("seq", sink->failure.seq));
}

/* The one place where a message counts as published. */
static void
delivered(rd_kafka_t *producer, const rd_kafka_message_t *message, void *user)
{
    struct sink *sink = user;
    struct topic *topic = rd_kafka_topic_opaque(message->rkt);
    uint64_t position = (uint64_t)(uintptr_t)message->_private;

    (void)producer;
    sink->unanswered--;
    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
        CRASH_POINT("relay.before_ack");
        if (sink->transaction.producer == NULL)
            window_ack(sink->window, position);
        topic->delivered = true;
        topic->refusals = 0;
        if (!sink->acked) /* what comes together was sent together; each look at the clock costs */
            sink->latency_us = rd_kafka_message_latency(message);
        tally_ack(sink->tally, sink->latency_us);
        sink->acked = true;
        if (sink->ranges->wanted)
            ranges_note(sink->ranges, topic->name, message->partition, message->offset,
                        window_seq(sink->window, position), clock_mono_coarse_ms());
        return;
    }
    sink->broken = true;
    /* What we gave up ourselves, or lost together with another, explains nothing. */
    if (message->err == RD_KAFKA_RESP_ERR__PURGE_QUEUE ||
        message->err == RD_KAFKA_RESP_ERR__PURGE_INFLIGHT ||
        message->err == RD_KAFKA_RESP_ERR__FATAL)
        return;
    fail(sink, rd_kafka_err2str(message->err), rd_kafka_topic_name(message->rkt),
         window_seq(sink->window, position));
    judge_refused(sink->judge, topic, window_seq(sink->window, position), (int)message->err,
                  clock_mono_ms());
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
                  LOG_TEXT("error", reason), LOG_INT("waiting", sink->unanswered));
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

/* NULL: not now. The same properties were right when sink_check() tried them, so
 * there are no file descriptors left, or a file of certificates is being
 * replaced: it has to be tried again. */
static rd_kafka_t *
make_producer(struct sink *sink, const struct sink_options *options)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_t *producer = NULL;
    struct saga_error err;
    int rc = configure(conf, options, options->brokers, &err);

    if (rc == 0) {
        sink->batch_bytes = sink_properties_batch(conf, sink->topics->smallest);
        sink->judge->compresses = sink_properties_compress(conf);
        rd_kafka_conf_set_opaque(conf, sink);
        rd_kafka_conf_set_dr_msg_cb(conf, delivered);
        rd_kafka_conf_set_error_cb(conf, on_error);
        rd_kafka_conf_set_log_cb(conf, on_log);
        producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, err.message, sizeof err.message);
    }
    if (producer != NULL)
        return producer;
    rd_kafka_conf_destroy(conf);
    if (may_complain(sink))
        log_event(sink->log, SAGA_LOG_WARNING, "cannot make a producer; trying again",
                  LOG_TEXT("error", err.message));
    return NULL;
}

int
sink_open(struct sink **sink, const struct sink_options *options, struct window *window,
          struct topics *topics, struct judge *judge, struct saga_error *err)
{
    struct sink *made = calloc(1, sizeof *made);

    if (made == NULL)
        return error_set(err, SAGA_ENOMEM, "out of memory");
    made->window = window;
    made->topics = topics;
    made->judge = judge;
    made->formats = &options->formats;
    made->log = options->log;
    made->tally = options->tally;
    made->ranges = options->ranges;
    made->complained_ms = options->complained_ms;
    made->close_ms = options->close_ms;
    *sink = made;
    made->producer = make_producer(made, options);
    made->broken = made->producer == NULL;
    if (made->broken)
        return 0;
    /* The log comes through sink_serve() too, on the caller's thread. */
    rd_kafka_set_log_queue(made->producer, NULL);
    limits_open(&made->limits, made->producer);
    if (options->transactional_id != NULL)
        made->transaction.producer = made->producer;
    return 0;
}

/* What the next producer has to make anew. */
static void
detach(struct topic *topic)
{
    if (topic->handle != NULL)
        rd_kafka_topic_destroy(topic->handle);
    topic->handle = NULL;
    topic->delivered = false;
    topic_interrupted(topic, clock_mono_ms());
}

int64_t
sink_close(struct sink *sink)
{
    int64_t refused;

    if (sink == NULL)
        return 0;
    if (sink->producer == NULL)
        goto out;
    transaction_close(&sink->transaction, sink->close_ms);
    rd_kafka_purge(sink->producer, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    rd_kafka_flush(sink->producer, sink->close_ms);
    ranges_abort(sink->ranges);
    tell_failure(sink);
    limits_close(&sink->limits);
    for (size_t i = 0; i < sink->topics->n; i++)
        detach(sink->topics->at[i]);
    rd_kafka_destroy(sink->producer);
out:
    refused = sink->refused;
    free(sink);
    return refused;
}

/* --- producing --------------------------------------------------------- */

/* Makes the topic's handle, once. False: out of memory. */
static bool
attach(struct sink *sink, struct topic *topic)
{
    rd_kafka_topic_conf_t *conf;

    if (topic->handle != NULL)
        return true;
    conf = rd_kafka_default_topic_conf_dup(sink->producer);
    rd_kafka_topic_conf_set_opaque(conf, topic);
    topic->handle = rd_kafka_topic_new(sink->producer, topic->name, conf);
    if (topic->handle == NULL)
        rd_kafka_topic_conf_destroy(conf);
    return topic->handle != NULL;
}

static rd_kafka_headers_t *
headers_of(const struct sink *sink, const struct topic *topic, const struct row_fields *fields)
{
    return record_make_headers(fields, (enum record_format)topic->format, sink->formats->source);
}

int64_t
sink_record_bytes(const struct sink *sink, const struct topic *topic,
                  const struct row_fields *fields)
{
    enum { NAMES_AND_THE_LIKE = 1024 };
    size_t source = sink->formats->source != NULL ? strlen(sink->formats->source) : 0;
    /* Everything of it, twice where a format may repeat it. */
    int64_t bytes = (int64_t)(fields->payload.len + 2 * (fields->key.len + fields->headers.len) +
                              source + NAMES_AND_THE_LIKE);
    rd_kafka_headers_t *headers;

    if (bytes <= topic->max_bytes)
        return bytes;
    headers = headers_of(sink, topic, fields);
    bytes = record_batch_bytes(fields->key, fields->payload, headers);
    rd_kafka_headers_destroy(headers);
    return bytes;
}

/* librdkafka reads the payload where it lies; an empty one is not no payload. */
static rd_kafka_resp_err_t
hand_over(struct sink *sink, const struct topic *topic, const struct row_fields *fields,
          uint64_t position)
{
    rd_kafka_headers_t *headers = headers_of(sink, topic, fields);
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

/* The transaction, or rather the producer, has come to its end. Whether that is
 * because another one has fenced it, the cursor knows. */
static bool
well(struct sink *sink, rd_kafka_error_t *error)
{
    if (error == NULL)
        return true;
    fail(sink, rd_kafka_error_string(error), "", 0);
    rd_kafka_error_destroy(error);
    return false;
}

int
sink_produce(struct sink *sink, struct topic *topic, const struct row_fields *fields, int64_t seq)
{
    rd_kafka_resp_err_t code;
    uint64_t position;
    bool may;

    if (sink->broken || !well(sink, transaction_enter(&sink->transaction, &may)))
        return SINK_BROKEN;
    if (!may)
        return SINK_FULL;
    if (!attach(sink, topic) || !window_push(sink->window, seq, &position)) {
        fail(sink, "out of memory", topic->name, 0);
        return SINK_BROKEN;
    }
    if (sink->unanswered == 0)
        sink->progress_ms = clock_mono_ms();
    code = hand_over(sink, topic, fields, position);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR) {
        sink->unanswered++;
        transaction_add(&sink->transaction, position);
        return SINK_TAKEN;
    }
    window_pop(sink->window);
    if (code == RD_KAFKA_RESP_ERR__QUEUE_FULL)
        return SINK_FULL;
    if (judge_not_taken(sink->judge, topic, seq, (int)code, clock_mono_ms()))
        return SINK_REFUSED;
    fail(sink, rd_kafka_err2str(code), topic->name, seq);
    return SINK_BROKEN;
}

/* Batches were refused as too large by another limit than the one that we know
 * now: what the new one allows need not be suspected. */
static void
limit_changed(void *user, const struct topic *topic)
{
    struct sink *sink = user;

    judge_acquit(sink->judge, topic);
}

void
sink_ask(struct sink *sink, struct topic *topic)
{
    if (!topic->asking && sink->producer != NULL)
        limits_ask(&sink->limits, topic);
}

bool
sink_asking(const struct sink *sink)
{
    return sink->limits.waiting > 0;
}

int64_t
sink_batch_bytes(const struct sink *sink)
{
    return sink->batch_bytes;
}

/* Takes in what else has come, and notes whether there was progress. */
static void
look_around(struct sink *sink)
{
    if (sink->acked)
        sink->progress_ms = clock_mono_ms();
    if (sink->unanswered > 0 && clock_mono_ms() - sink->progress_ms >= COMPLAIN_MS &&
        may_complain(sink))
        log_event(sink->log, SAGA_LOG_WARNING, "no answer from Kafka; still trying",
                  LOG_INT("waiting", sink->unanswered));
}

/* Topics' limits come by another queue, and only one can be waited for: returns
 * for how long. */
static int
serve_limits(struct sink *sink, int wait_ms)
{
    if (!sink_asking(sink))
        return wait_ms;
    limits_serve(&sink->limits, sink->topics, limit_changed, sink);
    return wait_ms < ASKING_MS ? wait_ms : ASKING_MS;
}

/* What it has acknowledged counts when it is committed. */
static void
serve_transaction(struct sink *sink, int wait_ms)
{
    bool any = sink->transaction.n > 0;

    if (well(sink, transaction_serve(&sink->transaction, sink->window, wait_ms)) && any &&
        sink->transaction.n == 0)
        ranges_commit(sink->ranges, clock_mono_coarse_ms());
}

void
sink_serve(struct sink *sink, int wait_ms)
{
    if (sink->producer == NULL) {
        poll(NULL, 0, wait_ms);
        return;
    }
    wait_ms = serve_limits(sink, wait_ms);
    sink->acked = false;
    if (!sink->broken)
        serve_transaction(sink, wait_ms);
    rd_kafka_poll(sink->producer,
                  sink->transaction.producer != NULL && window_open(sink->window) > 0 ? 0
                                                                                      : wait_ms);
    look_around(sink);
}

void
sink_push(struct sink *sink, int wait_ms)
{
    /* A transaction's end pushes by itself. */
    if (sink->broken || sink->transaction.producer != NULL) {
        sink_serve(sink, wait_ms);
        return;
    }
    wait_ms = serve_limits(sink, wait_ms);
    sink->acked = false;
    /* While this waits linger.ms counts as nothing. It returns when all is
     * answered; its success says no more than that (only reports count). */
    rd_kafka_flush(sink->producer, wait_ms);
    look_around(sink);
}

bool
sink_answered(const struct sink *sink)
{
    return sink->acked;
}

bool
sink_broken(const struct sink *sink)
{
    return sink->broken;
}

bool
sink_asks_for_owner(const struct sink *sink)
{
    return sink->transaction.producer != NULL && sink->transaction.state == TRANSACTION_ASKING;
}

void
sink_hears_owner(struct sink *sink)
{
    sink->transaction.state = TRANSACTION_NONE;
}
