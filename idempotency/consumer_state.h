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
#include "idempotency/hand.h"
#include "idempotency/parked_keys.h"

#include <stdatomic.h>

struct counters {
    atomic_llong applied, duplicates_by_mark, duplicates_by_inbox, conflicts, quarantined, retries,
        reconnects, batches, parked;
    atomic_llong lag, redis_outages;
    atomic_int partitions, circuit;
};

/* A message that was taken and is not finished. */
struct taken {
    struct hand_item item; /* first: hand.c knows no more of it */
    struct partition *partition;
    rd_kafka_message_t *message;
    char *refused;    /* its flaw, where its handler has found one */
    int32_t attempt;  /* that has failed, from 1 */
    int32_t failures; /* among them those that are the handler's; at attempts_max it is given up */
    char *given_up;   /* why, where that is so: it will be parked */
    bool parked;      /* in the transaction at hand: no handler sees it */
    int32_t verdict;  /* of the inbox */
    bool waited;      /* for the one who has marked it busy */
    bool forged;      /* its mark in Redis is of other contents */
    bool unknown;     /* a COMMIT of it got no answer */
    bool alone;       /* in a transaction of its own: the batch that it was in has failed */
    struct incoming record; /* last: what is above is zeroed for the next one */
};

/* An assigned partition. Its queue is its own and is simply not read while the
 * partition has enough in hand: rd_kafka_pause() forgets what was fetched, and
 * has skipped offsets (librdkafka 2.0.2). */
struct partition {
    struct partition *next;
    char *topic;
    int32_t number;
    rd_kafka_queue_t *queue;
    const struct consumer_route *route;

    bool settled;           /* its start is agreed on with PostgreSQL */
    int64_t settle_ms;      /* not asked again before */
    int64_t end;            /* where it was read to its end; OFFSET_NONE: there is more */
    int64_t position;       /* OFFSET_NONE: where Kafka says; else where we are */
    int64_t committed;      /* in PostgreSQL; OFFSET_NONE: no row */
    int64_t floor;          /* PostgreSQL's is never moved back below it */
    int64_t distrust_below; /* no mark counts for offsets below it */
    struct hand hand;
    struct hand_item *unasked; /* the first of those that nobody has looked at: no batch has them */
    size_t held_bytes;
    int32_t touched; /* its place in the batch, from 1; 0: none */
};

/* What goes through one transaction, in this order. */
struct batch {
    struct taken **items;
    size_t n, max, max_now; /* max_now: the present limit, for the sake of batch_ms */
    struct touched {
        struct partition *partition;
        int64_t first, next; /* offset of its first message; where it will be afterwards */
        bool fenced;         /* it was not where we left it */
    } * touched;             /* room for BATCH_MAX */
    size_t n_touched;
};

struct saga_consumer {
    struct saga_consumer_options options; /* texts are our copies */
    struct consumer_route *routes;
    size_t n_routes;

    rd_kafka_t *kafka;
    rd_kafka_queue_t *queue;   /* of rebalances, errors, logs */
    rd_kafka_queue_t *nothing; /* always empty: reading it tells librdkafka that we live */
    int64_t alive_ms;
    int64_t nudge_ms, nudge_pause_ms; /* not again before; 0: something has come since */
    struct partition *partitions;     /* whose turn is first changes */
    struct hand_item *spare;          /* of finished messages, for the next ones */
    EVP_MD_CTX *digest;
    struct batch batch;
    int64_t catch_up_ms; /* not before */
    struct parked_keys parked;
    int64_t lag_ms, stats_ms;  /* not counted, and not told, again before */
    int64_t drain_until_ms;    /* 0: not stopped */
    int64_t look_ms;           /* for parked messages to try again: not before */
    int32_t repeated;          /* duplicates in a row that the inbox has told of */
    int32_t scattered;         /* looks that go by ids: others' rows lie between theirs */
    bool subscribed, assigned; /* assigned: our share of the group, maybe nothing */
    bool was_assigned;         /* ever */
    bool horizon_due;          /* partitions have come since the topics were asked about */
    rd_kafka_queue_t *configs; /* for the answer about topics; NULL: none is expected */

    struct pg pg;
    int32_t pg_failures;
    bool pg_was_connected;
    int64_t pg_due_ms;
    int64_t chores_due_ms;
    char database[96];   /* which one the connection leads to */
    int64_t database_ms; /* when that was last seen */
    char identity[96];   /* the same, as part of every mark's name */
    struct gate *gate;   /* NULL: none */
    /* In SAGA_MODE_REDIS: of the message whose handler is at work. */
    struct {
        bool held, lost;
        struct gate_question question;
        int64_t until_ms, again_ms; /* it ends; it is prolonged not before */
    } lease;
    /* Rooms for one batch, or for one question. */
    struct gate_question *questions;
    const struct saga_record **records;
    int32_t *verdicts;

    int64_t kafka_log_ms, pg_log_ms; /* not again before */
    int failed;                      /* run has to end with this */
    struct saga_error failure;

    int wake_fd;
    atomic_int stop;
    struct counters counters;
};

/* REPEATS_MIN: duplicates in a row from which on more are expected. */
enum { LOG_AGAIN_MS = 60000, UNSETTLED_MS = 1000, BATCH_MAX = 1000, REPEATS_MIN = 50 };
enum { WINDOW_DEFAULT_MS = 300000 }; /* of the option window_ms */

/* True once a minute: what lasts is not logged each time. */
bool may_log(int64_t *not_before_ms);

/* --- consumer_kafka.c: the group and its partitions ------------------------- */

int kafka_open(struct saga_consumer *consumer, struct saga_error *err);
void kafka_close(struct saga_consumer *consumer);
int kafka_subscribe(struct saga_consumer *consumer, struct saga_error *err);
const struct consumer_route *find_route(const struct saga_consumer *consumer, const char *topic);
/* Rebalances, errors, logs. Does not wait. */
void kafka_serve(struct saga_consumer *consumer);
void log_trouble(struct saga_consumer *consumer, rd_kafka_resp_err_t code, const char *text);

/* --- consumer_take.c: messages, and the offsets that Kafka keeps ------------- */

/* Takes what has come for the settled partitions, until each has so many rounds' worth
 * in hand: one to work on; two while a server works on the first. Does not wait. */
void kafka_read(struct saga_consumer *consumer, int32_t rounds);
/* Whether the end that was read to is still the end. Asks Kafka. */
bool kafka_at_end(struct saga_consumer *consumer, struct partition *partition);
/* Frees what is behind the finished prefix, and stores its end. */
void kafka_finish(struct saga_consumer *consumer, struct partition *partition);
/* Gives up all that is in hand. */
void kafka_drop(struct saga_consumer *consumer, struct partition *partition);
void kafka_free_spare(struct saga_consumer *consumer);
/*
 * Where a partition has more and nothing comes, asks its leader a question. While
 * librdkafka (2.0) holds queued.max.messages.kbytes it does not fetch, and when that
 * is taken it does not notice before something else wakes the broker's thread, or a
 * second has passed. Blocks for one round trip, now and then. Returns when to nudge
 * again; 0: there is no need.
 */
int64_t kafka_nudge(struct saga_consumer *consumer);
/* How many messages are not finished. Asks nobody. */
int64_t kafka_lag(const struct saga_consumer *consumer);
/* We are at work, and not dead: between two handlers. True: it was time to say so. */
bool kafka_alive(struct saga_consumer *consumer);

/* --- consumer_settle.c: where a partition is read from ---------------------- */

/* Agrees with PostgreSQL on where to go on. False: not yet, try again later. */
bool settle(struct saga_consumer *consumer, struct partition *partition);

/* --- consumer_database.c: the connection ------------------------------------ */

/* Connects if need be and if it is time to. False: not now. */
bool database_ready(struct saga_consumer *consumer);
/* Whether a mark may be believed: the database is still the one it was. */
bool database_same(struct saga_consumer *consumer);
/* The same, when it has just said which one it is. If another one, the connection is given up. */
bool database_is(struct saga_consumer *consumer, const char *identity);
/* Whether a statement of ours has failed for good: a person has to mend it. */
bool database_ends(const struct saga_error *err);
/* What a failed statement of ours means for the consumer as a whole. */
void database_failed(struct saga_consumer *consumer, const struct saga_error *err);

/* --- consumer_chores.c ------------------------------------------------------ */

/* Between two batches, with a database that is ready. Mostly does nothing. */
void chores(struct saga_consumer *consumer);

/* --- consumer_horizon.c: how long messages are known ------------------------------ */

/* Between two batches, with a database that is ready. Does not wait for Kafka. */
void horizon_look(struct saga_consumer *consumer);
/* Expects no answer any more. */
void horizon_forget(struct saga_consumer *consumer);

/* --- consumer_seen.c: what was applied before ------------------------------- */

/* Asks about what was taken since, up to GATE_MANY, without a transaction: those that have been
 * applied before are finished. What it does not find may still be one. */
void seen_ask(struct saga_consumer *consumer);
/* Lets it ask again about all that is in hand. */
void seen_ask_again(struct saga_consumer *consumer);

/* --- consumer_marks.c: Redis ----------------------------------------------- */

/* Finishes those of up to GATE_MANY that were done before. */
void marks_ask(struct saga_consumer *consumer, struct taken **taken, size_t n);
/* In SAGA_MODE_REDIS, before the transaction: whether this message may be worked on
 * now. False: it is finished or put back. */
bool marks_lease(struct saga_consumer *consumer, struct taken *taken);
/* While the handler is at work: 0, SAGA_EFENCED, or SAGA_EUNKNOWN; see
 * saga_consumer_keep_alive(). */
int marks_keep_lease(struct saga_consumer *consumer);
/* It has ended. */
void marks_forget_lease(struct saga_consumer *consumer);
/* After the COMMIT; up to GATE_MANY. */
void marks_done(struct saga_consumer *consumer, struct taken *const *done, size_t n);

/* --- consumer_transact.c: the transaction of a batch -------------------------- */

/*
 * One attempt at all of the batch. Returns 0 when it has committed. When it has
 * not: SAGA_HANDLER_RETRY, ROUTE_QUARANTINE or a negative code, SAGA_EUNKNOWN
 * and SAGA_EFENCED (see `touched`) among them; `failed` is the item whose
 * handler said so, NULL if it was none.
 */
int transact(struct saga_consumer *consumer, struct batch *batch, struct taken **failed,
             struct saga_error *err);

/* --- consumer_park.c: what is given up, and what is behind it ------------------- */

/* Learns which keys of the partition's topic are parked; after its offset was
 * read. False: not possible now. */
bool park_load(struct saga_consumer *consumer, const struct partition *partition);
/* In the transaction, with the inbox's verdicts: parks what has to be. */
int park_batch(struct saga_consumer *consumer, const struct batch *batch, struct saga_error *err);
/* A text from an error for people to read, in whatever state it is. */
char *readable(int rc, const struct saga_error *err);

/* --- consumer_retry.c: parked messages, tried again ------------------------------- */

/* Takes in one of those that an operator wants to be tried again; looks for them
 * now and then, or at once. True: it has tried one. */
bool retry_parked(struct saga_consumer *consumer, bool at_once);

/* --- consumer_handler.c: the user's part of it --------------------------------- */

int call_handler(struct saga_consumer *consumer, const struct consumer_route *route,
                 const struct saga_record *record, int32_t verdict, struct saga_error *err);
int call_handler_of_many(struct saga_consumer *consumer, const struct consumer_route *route,
                         const struct saga_record *const *records, size_t n,
                         struct saga_error *err);
int quarantine(struct saga_consumer *consumer, const struct taken *taken, const char *reason,
               struct saga_error *err);

/* --- consumer_apply.c: a batch through the protocol ---------------------------- */

/* Chooses what may be worked on now. False: nothing. */
bool batch_choose(struct saga_consumer *consumer);
void batch_apply(struct saga_consumer *consumer);
/* Forgets the last one, which points to its partitions: before any of them goes. */
void batch_reset(struct batch *batch);

/* Where PostgreSQL's offset has to be, if `next` is finished. */
int64_t offset_to_commit(const struct partition *partition, int64_t next);
/* Whether marks have moved Kafka's offset and not PostgreSQL's. */
bool is_behind(const struct partition *partition);
/* Moves PostgreSQL's, now and then, or at once. True: it has. */
bool batch_catch_up(struct saga_consumer *consumer, bool at_once);

#endif
