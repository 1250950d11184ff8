/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The relay: publishes to Kafka what transactions have written to the outbox.
 * The program outbox-relay is this and little more.
 *
 * Every message whose transaction committed is published at least once, and
 * none whose transaction did not. Of messages that share topic and key, first
 * occurrences are in the order in which they were enqueued, if the writers
 * hold a common row lock from before they enqueue until they commit. After a
 * crash or a takeover older messages may come again: consumers tell by the
 * header message-id.
 */
#ifndef SAGA_RELAY_H
#define SAGA_RELAY_H

#include <saga/base.h>

#ifdef __cplusplus
extern "C" {
#endif

struct saga_relay;

/* An outbox has at most so many streams (sagactl outbox streams). */
enum { SAGA_RELAY_STREAMS_MAX = 64 };

/* Zero in any member but `size` means the default. Everything is copied. */
struct saga_relay_options {
    uint32_t size;
    int32_t stream;                /* 0; which of the outbox's streams to publish */
    const char *conninfo;          /* of libpq; default: the PG* variables */
    const char *brokers;           /* host:port,...; required */
    const struct saga_pair *kafka; /* more properties of librdkafka's producer */
    int32_t lease_ms;              /* 5000; 300 to 300000; see saga_relay_run() */
    int32_t page_rows;             /* 5000; messages read at a time */
    int32_t page_bytes;            /* 4194304; about three pages are kept in memory */
    int32_t idle_ms;               /* 50; longest pause between two looks at the outbox */
    int32_t drain_ms;              /* 10000; how long stopping waits for the brokers */
    int32_t standby_gate;          /* 1: publish nothing that a failover to a synchronous standby
                                    * could lose: wait until synchronous_standby_names have it on
                                    * disk ([relay] standby_gate in the daemon's settings) */
    struct saga_log log;
    const struct saga_pair *formats; /* of topics: name or "*", "plain" or "cloudevents" (1.0,
                                      * binary mode); default: all plain. docs/protocol.md */
    const char *source;              /* of CloudEvents: a URI or a part of one, as "/orders" */
    const char *const *watch;        /* groups whose committed offsets tell what is consumed;
                                      * ends with NULL; default: none */
    const char *instance;            /* relays of one name do not ask each other for streams;
                                      * default: one for all of this process */
    int32_t transactional;           /* 1: messages go in transactions of Kafka, for compacted
                                      * topics; see saga_relay_run() */
    int32_t reserved;
    int64_t retention_ms; /* 259200000, three days; published messages are kept at
                           * least so long in the database; below 0: for ever */
};
/* clang-format off */
#define SAGA_RELAY_OPTIONS .size = sizeof(struct saga_relay_options)
/* clang-format on */

/*
 * Makes a relay. Connects to nothing yet. These properties of librdkafka
 * belong to the relay and are refused in `kafka`: acks, enable.idempotence,
 * enable.gapless.guarantee, message.timeout.ms, partitioner, transactional.id,
 * delivery.report.only.error, and their other names.
 *
 * Returns 0, or
 *   SAGA_EINVAL  an option is wrong; the message says which
 *   SAGA_ENOMEM
 */
SAGA_API SAGA_MUSTCHECK int saga_relay_new(struct saga_relay **relay,
                                           const struct saga_relay_options *options,
                                           struct saga_error *err);

enum {
    SAGA_RELAY_UNTIL_STOP = 0, /* until saga_relay_stop() */
    SAGA_RELAY_ONCE = 1        /* what was committed when it started, then return */
};

/*
 * Publishes one stream of the outbox, on the caller's thread, with two
 * connections of its own to PostgreSQL and one producer of librdkafka (which has
 * threads). Only one relay at a time owns a stream; others wait, with one
 * connection and one statement each fifth of a lease. An owner that stops gives
 * it free at once. One that is killed or hangs is succeeded when its lease has
 * ended, which is lease_ms after it was last renewed, and it is renewed after a
 * third of that: a successor is at work at most lease_ms later, and what the
 * database needs to answer.
 *
 * An outbox may be divided into several streams (sagactl outbox streams), by
 * the messages' keys. A process that is to publish all of it runs one relay for
 * each, on a thread each: how many there are is saga_relay_stats().streams,
 * which every relay knows soon after it is run (and with SAGA_RELAY_ONCE when it
 * returns 0); stream 0 always exists. Where several processes do that they
 * share: one that owns at least two streams fewer than another asks for one,
 * and the owner gives it free as it does on stop, and waits. When the number of
 * streams is changed, owners return SAGA_EFENCED; run them again. Relays of
 * streams that no longer exist return SAGA_ENOTFOUND, also while they wait.
 *
 * Lost connections are made anew, for ever, unless PostgreSQL says that role,
 * password or database are wrong: a person has to mend those. While Kafka cannot
 * be reached, or refuses a message, or librdkafka makes no producer (a file of
 * certificates is being replaced), it is tried again and logged once a minute;
 * nothing is skipped. With SAGA_RELAY_ONCE a PostgreSQL that cannot be reached is
 * an error, and so is a rival that renews its lease; Kafka is waited for all the
 * same: for a deadline, call saga_relay_stop() (the daemon has once_ms).
 *
 * A relay that is succeeded while messages of it are still on their way can leave
 * old ones behind newer ones, which consumers drop as repetitions. Where that is
 * not enough, because the topic is compacted, the option `transactional` makes
 * the successor fence it: its transactional.id is that of the database and the
 * stream, and nothing that it has not committed by then is seen by consumers
 * that read committed messages (isolation.level; librdkafka's do by default,
 * Java's do not). Before the number of streams is changed such relays must be
 * stopped, because a key's old and new stream do not fence each other. Costs a
 * commit for each batch, and needs the right to write to that id.
 *
 * On stop, waits up to drain_ms for what the brokers have not answered yet,
 * stores the cursor and gives the stream free. After any return it may be run
 * again, with nothing remembered, unless saga_relay_stop() was called.
 *
 * Returns 0, or
 *   SAGA_EDB       PostgreSQL refused, in a way that trying again will not mend:
 *                  rights, role, password or database (`sqlstate` says which)
 *   SAGA_ESCHEMA   the outbox's schema is missing: run `sagactl migrate up`
 *   SAGA_ENOTFOUND the outbox has fewer streams
 *   SAGA_ESTATE    (SAGA_RELAY_ONCE) another relay owns the stream and is alive
 *   SAGA_EFENCED   another relay has taken the stream over meanwhile, or the
 *                  number of streams was changed
 *   SAGA_EMISMATCH the database is not the one that the cursor was made in (a
 *                  restored dump, a replicated table); nothing was published
 *   SAGA_EINVAL    no relay, or an unknown mode
 *   SAGA_ENOMEM
 */
SAGA_API SAGA_MUSTCHECK int saga_relay_run(struct saga_relay *relay, int mode,
                                           struct saga_error *err);

/* Makes saga_relay_run() return soon. Any thread, and signal handlers. */
SAGA_API void saga_relay_stop(struct saga_relay *relay);

/* What a relay is doing. */
enum {
    SAGA_RELAY_CONNECTING = 0, /* to PostgreSQL, for the first time or again */
    SAGA_RELAY_STANDBY = 1,    /* another relay owns the stream */
    SAGA_RELAY_OWNER = 2       /* this one publishes */
};

/* How values are spread: [0] counts those up to 1, then up to 2, 5, 10, 20, 50,
 * ... 50000, and the last one all that are larger. */
enum { SAGA_RELAY_BUCKETS = 16 };

/* Counted since saga_relay_new(). Sized, see base.h. */
struct saga_relay_stats {
    uint32_t size;
    int32_t state;          /* SAGA_RELAY_CONNECTING, ... */
    int64_t published;      /* acknowledged by Kafka, in the cursor's order */
    int64_t pairs;          /* times that new messages were found */
    int64_t polls;          /* times that they were looked for */
    int64_t cursor_writes;  /* transactions on the cursor's row */
    int64_t forced_flushes; /* of them, those that had to wait for the disk */
    int64_t acquired;       /* times that the stream was taken over */
    int64_t reconnects;     /* to PostgreSQL, after the first */
    int64_t refused;        /* messages that Kafka refused; each is tried again */
    int64_t producers;      /* producers that were made */
    int64_t epoch;          /* of the stream, as its owner; else 0 */
    int64_t alive_us;       /* of CLOCK_MONOTONIC: when it last came round; it does so several
                             * times a second, but waits up to 30 s for each host of PostgreSQL */
    int64_t answered_us;    /* of the same clock: when PostgreSQL last answered */
    int64_t waiting;        /* messages handed to librdkafka and not acknowledged */
    int64_t silent_us;      /* how long Kafka has acknowledged none of them */
    int64_t open_us;        /* how long the oldest open transaction has been seen open; 0: none */
    int64_t pages[SAGA_RELAY_BUCKETS]; /* pages read from the outbox, by their rows */
    int64_t page_rows;                 /* rows of all these together */
    int64_t acks[SAGA_RELAY_BUCKETS];  /* messages acknowledged, by milliseconds since they were
                                        * handed to librdkafka */
    int64_t ack_us;                    /* all these times together */
    int32_t streams;                   /* how many the outbox has; 0: not known yet */
    int32_t reserved;
    int64_t parked; /* messages put into outbox.parked */
};
/* clang-format off */
#define SAGA_RELAY_STATS .size = sizeof(struct saga_relay_stats)
/* clang-format on */

/* Fills in as much of `stats` as its `size` says. Any thread, also while the
 * relay runs. */
SAGA_API void saga_relay_stats(const struct saga_relay *relay, struct saga_relay_stats *stats);

/* Frees it; must not be running. NULL is allowed. */
SAGA_API void saga_relay_free(struct saga_relay *relay);

#ifdef __cplusplus
}
#endif
#endif
