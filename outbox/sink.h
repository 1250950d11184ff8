/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kafka as the relay writes to it: an idempotent producer.
 *
 * Owns the rule that only a successful delivery report acknowledges a message,
 * and that nothing is produced behind a failure: after the first one the sink
 * is broken, and its user makes a new one and goes on from the cursor. Knows
 * nothing of PostgreSQL's cursor.
 */
#ifndef OUTBOX_SINK_H
#define OUTBOX_SINK_H

#include "base/log.h"
#include "outbox/judge.h"
#include "outbox/range.h"
#include "outbox/record.h"
#include "outbox/tally.h"
#include "outbox/transaction.h"
#include "outbox/window.h"

struct sink;

struct sink_options {
    const char *brokers;
    const struct saga_pair *properties;
    struct record_formats formats;
    const struct saga_log *log;
    struct tally *tally;
    struct ranges *ranges;        /* told of every acknowledgement, if they are wanted */
    int64_t *complained_ms;       /* when trouble was last logged; outlives the sink */
    const char *transactional_id; /* NULL: no transactions */
    int32_t close_ms;             /* closing waits so long for the brokers, twice at most */
};

/* 0, or SAGA_EINVAL if a property belongs to the relay or is refused by
 * librdkafka, or a format is none. */
int sink_check(const struct sink_options *options, struct saga_error *err);

/* Contacts nobody yet. All but `err` must outlive the sink. No batch will be
 * larger than the smallest limit that `topics` knows of by now. What Kafka
 * refuses is told to the judge. Where librdkafka makes no producer of options
 * that were checked, says so and opens a broken sink. 0 or SAGA_ENOMEM. */
int sink_open(struct sink **sink, const struct sink_options *options, struct window *window,
              struct topics *topics, struct judge *judge, struct saga_error *err);

/* Drops what was not answered. Every answer that came is in the window after.
 * Returns how many messages were refused; logs the first. */
int64_t sink_close(struct sink *sink);

/* SINK_REFUSED: librdkafka itself says never; the judge knows. */
enum { SINK_TAKEN, SINK_FULL, SINK_REFUSED, SINK_BROKEN };

/* Hands a row over and enters it in the window. Its page must stay until the
 * window has settled it or the sink is closed. SINK_FULL: serve, try again. */
int sink_produce(struct sink *sink, struct topic *topic, const struct row_fields *fields,
                 int64_t seq);

/* A batch with this row alone; an upper bound, where that is within the limit. */
int64_t sink_record_bytes(const struct sink *sink, const struct topic *topic,
                          const struct row_fields *fields);

/* Asks for the topic's limit. The answer comes to the topic, within seconds and
 * if only to say that there is none. */
void sink_ask(struct sink *sink, struct topic *topic);
bool sink_asking(const struct sink *sink);

/* The largest batch that it makes. */
int64_t sink_batch_bytes(const struct sink *sink);

/* Takes in answers, for at most `wait_ms`; returns as soon as there are some. */
void sink_serve(struct sink *sink, int wait_ms);

/* The same, and what is no full batch goes at once: nothing follows soon. */
void sink_push(struct sink *sink, int wait_ms);

/* Whether the last call of these two took in an acknowledgement. */
bool sink_answered(const struct sink *sink);

bool sink_broken(const struct sink *sink);

/* Whether it waits to hear that its user still owns the stream, after it has
 * fenced whoever did before; and that he does. */
bool sink_asks_for_owner(const struct sink *sink);
void sink_hears_owner(struct sink *sink);

#endif
