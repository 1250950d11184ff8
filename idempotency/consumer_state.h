/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A consumer from the inside: what consumer*.c share. One thread owns all of
 * it, except `stop`, `wake_fd` and the counters.
 */
#ifndef IDEMPOTENCY_CONSUMER_STATE_H
#define IDEMPOTENCY_CONSUMER_STATE_H

#include "base/pg.h"
#include "idempotency/consumer.h"
#include "idempotency/consumer_offsets.h"
#include "idempotency/consumer_record.h"
#include "idempotency/gate.h"

#include <stdatomic.h>

struct counters {
    atomic_llong applied, duplicates_by_mark, duplicates_by_inbox, conflicts, quarantined, retries,
        reconnects;
    atomic_int partitions;
};

/* An assigned partition, with at most one message in hand. Its queue is its
 * own and is simply not read while the partition has to wait: rd_kafka_pause()
 * forgets what was fetched, and has skipped offsets (librdkafka 2.0.2). */
struct partition {
    struct partition *next;
    char *topic;
    int32_t number;
    rd_kafka_queue_t *queue;
    const struct consumer_route *route;

    bool settled;           /* its start is agreed on with PostgreSQL */
    int64_t end;            /* where it was read to its end; OFFSET_NONE: there is more */
    int64_t position;       /* OFFSET_NONE: where Kafka says; else where we are */
    int64_t committed;      /* in PostgreSQL; OFFSET_NONE: no row */
    int64_t distrust_below; /* no mark counts for offsets below it */
    struct offsets_prefix prefix;

    rd_kafka_message_t *message; /* in hand */
    struct incoming record;
    char refused[256]; /* its flaw, where its handler has found one */
    int32_t attempt;   /* of the handler, from 1 */
    bool waited;       /* for the one who has marked it busy */
    bool unknown;      /* a COMMIT of it got no answer */
    int64_t due_ms;    /* not before */
};

struct saga_consumer {
    struct saga_consumer_options options; /* texts are our copies */
    struct consumer_route *routes;
    size_t n_routes;

    rd_kafka_t *kafka;
    rd_kafka_queue_t *queue; /* of rebalances, errors, logs */
    struct partition *partitions;
    bool subscribed, assigned; /* assigned: our share of the group, maybe nothing */

    struct pg pg;
    int32_t pg_failures;
    bool pg_was_connected;
    int64_t pg_due_ms;
    char identity[96]; /* of the database: part of every mark's name */
    int64_t identity_at_ms;
    struct gate *gate; /* NULL: none */

    int64_t kafka_log_ms, pg_log_ms; /* not again before */
    int failed;                      /* run has to end with this */
    struct saga_error failure;

    int wake_fd;
    atomic_int stop;
    struct counters counters;
};

enum { LOG_AGAIN_MS = 60000 };

/* True once a minute: what lasts is not logged each time. */
bool may_log(int64_t *not_before_ms);

/* --- consumer_kafka.c: the group, partitions and their queues -------------- */

int kafka_open(struct saga_consumer *consumer, struct saga_error *err);
void kafka_close(struct saga_consumer *consumer);
int kafka_subscribe(struct saga_consumer *consumer, struct saga_error *err);
/* Rebalances, errors, logs. Does not wait. */
void kafka_serve(struct saga_consumer *consumer);
/* Takes the next message in hand, if there is one. Does not wait. */
int kafka_take(struct saga_consumer *consumer, struct partition *partition, struct saga_error *err);
/* Whether the end that was read to is still the end. Asks Kafka. */
bool kafka_at_end(struct saga_consumer *consumer, struct partition *partition);
/* The message in hand is finished, or given up. */
void kafka_finish(struct saga_consumer *consumer, struct partition *partition);
void kafka_drop(struct partition *partition);

/* --- consumer_settle.c: where a partition is read from ---------------------- */

/* Agrees with PostgreSQL on where to go on. False: not yet, try again later. */
bool settle(struct saga_consumer *consumer, struct partition *partition);

/* --- consumer_database.c: the connection ------------------------------------ */

/* Connects if need be and if it is time to. False: not now. */
bool database_ready(struct saga_consumer *consumer);
/* Whether a mark may be believed: the database is still the one it was. */
bool database_same(struct saga_consumer *consumer);
/* What a failed statement of ours means for the consumer as a whole. */
void database_failed(struct saga_consumer *consumer, const struct saga_error *err);

/* --- consumer_apply.c: one message through the protocol --------------------- */

enum applied {
    APPLIED,       /* finished: applied, a duplicate, or in quarantine */
    APPLY_LATER,   /* again at due_ms: rolled back, or somebody else is at it */
    APPLY_UNSETTLE /* the partition's offset is not where we left it */
};

enum applied apply(struct saga_consumer *consumer, struct partition *partition);

#endif
