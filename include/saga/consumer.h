/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The consumer: reads topics of Kafka as a member of a group and applies each
 * message once to one PostgreSQL database. Many messages go through one
 * transaction: their effects, their rows in the inbox and the partitions' offsets
 * are committed together. Redis only makes the recognition of duplicates cheaper,
 * and may be missing, slow, full, empty or wrong.
 *
 * One thread runs a consumer; several threads have one each.
 *
 * What is not promised: effects outside that database. A handler that calls
 * a bank may be run again after the call; give the bank the message's id.
 */
#ifndef SAGA_CONSUMER_H
#define SAGA_CONSUMER_H

#include <saga/base.h>
#include <saga/inbox.h>

#ifdef __cplusplus
extern "C" {
#endif

struct saga_consumer;
struct saga_consumer_stats; /* below */
struct saga_definition;     /* saga.h */

/*
 * Receives the counters every stats_ms, and once more when saga_consumer_run()
 * returns, on the thread that is inside of it: between two batches, so not while
 * a handler runs or a connection is being made. `stats` is borrowed. It must not
 * block, nor call into the consumer, except for saga_consumer_stop().
 */
typedef void saga_consumer_stats_fn(void *user, const struct saga_consumer_stats *stats);

/* What recognises duplicates. */
enum {
    SAGA_MODE_REDIS_INBOX = 0, /* the inbox in PostgreSQL; Redis, if there is one, spares asking */
    SAGA_MODE_INBOX = 1,       /* the inbox alone; `redis` is not used */
    /*
     * Redis alone, for effects outside of PostgreSQL: a lease before the handler,
     * "done" after the COMMIT; no row in the inbox, each message in a transaction
     * of its own. It cannot promise that the effect happens once: a message is
     * handed over again after a crash between its effect and its mark, when its
     * handler was silent for longer than lease_ms (saga_consumer_keep_alive()),
     * when it comes again after window_ms, and when Redis has lost the mark.
     * Without Redis everything waits.
     */
    SAGA_MODE_REDIS = 2
};

/* Sized, see base.h. Everything is copied except what `log.user` and `stats_user` point to. */
struct saga_consumer_options {
    uint32_t size;
    int32_t redis_timeout_ms; /* for one round trip to Redis; default 4, at most 50. When it has
                                 passed, Redis is left alone for a while (its circuit is open) */
    const char *group;        /* of Kafka; the inbox's `consumer` as well. Required */
    const char *brokers;      /* host:port,... Required */
    const char *conninfo;     /* of libpq; NULL: the PG* variables */
    const char *redis;        /* host:port or a socket's path; NULL: none */

    /* For librdkafka, besides what the consumer sets itself (group.id,
     * bootstrap.servers, enable.auto.commit, enable.auto.offset.store,
     * enable.partition.eof, auto.offset.reset: these are refused).
     * NULL: none. */
    const struct saga_pair *properties;
    struct saga_log log;

    int32_t lease_ms;         /* a mark "busy" lives so long; default 30000 */
    int32_t window_ms;        /* a mark "done" lives so long; default 300000. A longer one that the
                                 topic outlives is warned of in SAGA_MODE_REDIS */
    int32_t retry_first_ms;   /* before the second attempt; default 100 */
    int32_t retry_longest_ms; /* delays double up to this; default 10000 */
    int32_t statement_ms;  /* for each statement of the consumer's own, and for each wait for a lock
                              in its session; default 10000 */
    int32_t idle_in_tx_ms; /* the server ends a transaction that is idle for longer,
                              so that a stopped process blocks nobody; default 60000 */
    int32_t redis_remote;  /* 1: Redis may be elsewhere than on this host, in clear
                              text and without a password */
    int32_t batch_rows;    /* so many messages at most in one transaction; default 100, at most
                              1000; 1: each in its own */
    int32_t batch_ms;     /* transactions that take longer are made of fewer messages the next time;
                             default 200 */
    int32_t attempts_max; /* so often a handler may fail on a message before it is parked; default
                             10, about half a minute by default; -1: for ever */
    int32_t mode;         /* SAGA_MODE_*; default SAGA_MODE_REDIS_INBOX */
    int32_t drain_ms;     /* after saga_consumer_stop(): so long at most for what was taken already;
                             default 0: only the batch at hand is finished */
    int32_t stats_ms;     /* between two calls of on_stats; default 10000 */

    saga_consumer_stats_fn *on_stats; /* NULL: saga_consumer_stats() is asked instead, or nobody */
    void *stats_user;                 /* handed to it */
};
#define SAGA_CONSUMER_OPTIONS .size = sizeof(struct saga_consumer_options)

/*
 * Makes a consumer; connects to nothing yet.
 *
 * Returns 0, or
 *   SAGA_EINVAL  an option is missing or wrong; the message says which, and
 *                quotes nothing of conninfo, which may hold a password. Also:
 *                a Redis that is not on this host without `redis_remote`,
 *                SAGA_MODE_REDIS without `redis`, and
 *                a property that librdkafka does not know
 *   SAGA_ENOMEM
 */
SAGA_API SAGA_MUSTCHECK int saga_consumer_new(struct saga_consumer **consumer,
                                              const struct saga_consumer_options *options,
                                              struct saga_error *err);

/* "Roll back and give me this message again later." */
enum { SAGA_HANDLER_RETRY = 1 };

/*
 * Applies one message inside the transaction that is open on `tx`
 * (READ COMMITTED, and its commit survives a crash of the server). It writes
 * its business rows and enqueues outgoing messages there; it may set
 * savepoints, and must not commit or roll back: COMMIT is refused by the server.
 * (So is SET CONSTRAINTS ALL IMMEDIATE; name your own constraints instead.)
 * `record` is borrowed until the handler returns.
 *
 * The transaction may hold other messages' effects, too, before and after this
 * one. When one of their handlers fails it is rolled back, and each is handed
 * over again in a transaction of its own.
 *
 * Returns 0: commit; SAGA_HANDLER_RETRY or a negative code: everything is
 * rolled back, and the message comes again after a growing delay. Until then the
 * later messages of its key wait, and all others go on, up to 1000 of its
 * partition. After attempts_max failures, SAGA_HANDLER_RETRY among them (counted
 * anew when the process starts anew), it is parked, and the later ones of its key
 * behind it, in idempotency.parked: others go on, and the key waits for
 * idempotency.retry(), or until idempotency.discard() has taken all of them out.
 * So something that is away for longer parks every key that needs it. What is
 * tried again is handed over in its order, in a transaction of its own, however
 * old it is; if it fails, it is parked again at once. A negative code is logged
 * together with err->message. Any other number counts as an error too, and so
 * does a handler that has left the transaction failed, or tried to end it.
 *
 * The same message is handed over again after a crash, a lost connection or a
 * rollback, but never after its transaction has committed.
 */
typedef int saga_handler_fn(PGconn *tx, const struct saga_record *record, void *user,
                            struct saga_error *err);

/*
 * The same for `n` messages at once, all of those in a batch that are new, in
 * their order: a handler that works set by set. If it fails, it is called again
 * for each of them alone.
 */
typedef int saga_batch_handler_fn(PGconn *tx, const struct saga_record *const *records, size_t n,
                                  void *user, struct saga_error *err);

/*
 * Names the handler of a topic, before the first run. `topic` is copied,
 * `user` must outlive the consumer.
 *
 * A record needs a header message-id (a uuid, as text). What has none, and an
 * id that comes again with another key or payload, goes to
 * idempotency.quarantine instead, whole, with the reason. In `record`, headers
 * whose value is not UTF-8 text are left out.
 *
 * Returns 0, or
 *   SAGA_EINVAL  no topic, no handler, or the topic has a handler already
 *   SAGA_ESTATE  the consumer has been run already
 *   SAGA_ENOMEM
 */
SAGA_API SAGA_MUSTCHECK int saga_consumer_subscribe(struct saga_consumer *consumer,
                                                    const char *topic, saga_handler_fn *handler,
                                                    void *user, struct saga_error *err);

/* The same for a handler that takes a whole batch. */
SAGA_API SAGA_MUSTCHECK int saga_consumer_subscribe_batch(struct saga_consumer *consumer,
                                                          const char *topic,
                                                          saga_batch_handler_fn *handler,
                                                          void *user, struct saga_error *err);

/*
 * Takes part in sagas: handles the commands that arrive on `command_topic`
 * with the step functions of `commands`, and enqueues the replies. A command
 * that was answered already gets the same answer again. One whose function keeps
 * failing, or says SAGA_RETRY, is parked as above, and the later ones of its saga
 * behind it, its compensation too. `commands` and `user` (handed to the step
 * functions) must outlive the consumer.
 *
 * Returns as saga_consumer_subscribe(); SAGA_EINVAL also if the definition is
 * not valid, the message says why, and in SAGA_MODE_REDIS.
 */
SAGA_API SAGA_MUSTCHECK int saga_consumer_participate(struct saga_consumer *consumer,
                                                      const char *command_topic,
                                                      const struct saga_definition *commands,
                                                      void *user, struct saga_error *err);

/*
 * Applies the replies that arrive on the definition's reply topic to its
 * sagas. `definition` must outlive the consumer. Returns as
 * saga_consumer_participate().
 */
SAGA_API SAGA_MUSTCHECK int saga_consumer_replies(struct saga_consumer *consumer,
                                                  const struct saga_definition *definition,
                                                  struct saga_error *err);

enum {
    SAGA_CONSUME_UNTIL_STOP = 0,
    SAGA_CONSUME_UNTIL_IDLE = 1 /* partitions are assigned, and each is read to its end */
};

/*
 * Runs on the calling thread until saga_consumer_stop(), or until there is
 * nothing left to do. While PostgreSQL or Kafka cannot be reached it keeps
 * trying, and logs that once a minute. A topic that is missing is waited for.
 * The database is looked at before that: what a person has to mend ends the run,
 * also later. May be called again.
 *
 * When partitions are assigned it asks Kafka how long their topics keep messages,
 * and warns (SAGA_LOG_WARNING) where that is longer than they are known: by the
 * inbox, or by Redis in SAGA_MODE_REDIS. It does not wait for the answer.
 *
 * Returns 0, or
 *   SAGA_EINVAL  nothing is subscribed
 *   SAGA_ESCHEMA the schema is missing or too old: run `sagactl migrate up`; or
 *                newer than this library
 *   SAGA_EDB     PostgreSQL knows no such role or database, or refuses its password
 *                or its rights (`sqlstate` 28xxx, 3D000, 42501). Where conninfo
 *                names several hosts, only if the first one says so
 *   SAGA_EBROKER Kafka will have no more of this handle (fatal; another member
 *                has taken its group.instance.id, for instance)
 *   SAGA_ENOMEM  nothing is lost, but this consumer runs no more: free it and make a
 *                new one
 */
SAGA_API SAGA_MUSTCHECK int saga_consumer_run(struct saga_consumer *consumer, int mode,
                                              struct saga_error *err);

/* Makes run return after the batch at hand, whose length batch_ms bounds, or, with
 * drain_ms, when what was taken already is finished; no more is taken. What is not
 * finished by then comes again. Any thread; signal-safe. */
SAGA_API void saga_consumer_stop(struct saga_consumer *consumer);

/*
 * For handlers that take long, called from inside of one: says to Kafka that this
 * member lives (max.poll.interval.ms), and to PostgreSQL that its transaction is
 * not idle (idle_in_tx_ms). In SAGA_MODE_REDIS it prolongs the message's lease,
 * if it is called more often than every lease_ms. Cheap: it does something once a
 * second, and asks Redis each third of lease_ms, for redis_timeout_ms at most.
 *
 * Returns 0, or, in SAGA_MODE_REDIS only,
 *   SAGA_EFENCED  the lease has ended, and another consumer may be at this message
 *                 or have finished it: do no more outside of PostgreSQL, and return
 *                 a negative code. So it says until the handler returns
 *   SAGA_EUNKNOWN Redis has not answered for as long as the lease was to live, so
 *                 that it may be as above; a later call can find it still ours
 */
SAGA_API int saga_consumer_keep_alive(struct saga_consumer *consumer);

/* What is known of Redis. */
enum {
    SAGA_CIRCUIT_CLOSED = 0,   /* it answers, or there is none */
    SAGA_CIRCUIT_OPEN = 1,     /* it failed or was too slow; it is left alone for a while */
    SAGA_CIRCUIT_HALF_OPEN = 2 /* it did, and the next question will show */
};

/*
 * Counted since saga_consumer_new(), except partitions, circuit and lag, which
 * are as they are now: what came in between two calls is the difference, a rate
 * that divided by the time. Sized, see base.h.
 */
struct saga_consumer_stats {
    uint32_t size;
    int32_t partitions;         /* assigned at present */
    int64_t applied;            /* messages whose handler's effects are committed */
    int64_t duplicates_by_mark; /* suppressed: Redis knew */
    int64_t duplicates_by_inbox;
    int64_t conflicts;   /* same id, other contents: alarm */
    int64_t quarantined; /* all that went there, conflicts included */
    int64_t retries;     /* rolled back, to be tried again */
    int64_t reconnects;  /* to PostgreSQL, after the first */
    int64_t batches;     /* transactions that have committed */
    int32_t circuit;     /* to Redis: SAGA_CIRCUIT_* */
    int32_t reserved0;
    int64_t parked; /* messages that went to idempotency.parked: alarm */
    int64_t lag; /* messages in the assigned partitions that are not finished, as far as is known;
                    looked at twice a second */
    int64_t redis_outages; /* times that the circuit has opened after it was closed */
};
#define SAGA_CONSUMER_STATS .size = sizeof(struct saga_consumer_stats)

/* Fills in as much of `stats` as its `size` says. Any thread. */
SAGA_API void saga_consumer_stats(const struct saga_consumer *consumer,
                                  struct saga_consumer_stats *stats);

/* Commits Kafka's offsets, leaves the group, closes all connections, frees.
 * NULL is allowed. Not while saga_consumer_run() is running. */
SAGA_API void saga_consumer_free(struct saga_consumer *consumer);

#ifdef __cplusplus
}
#endif
#endif
