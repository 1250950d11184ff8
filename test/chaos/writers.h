/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Services that write: threads whose transactions are random in everything but
 * this: a key's row is locked from before its message is enqueued until the
 * end, and what was enqueued is noted in chaos.ledger by the same transaction.
 */
#ifndef CHAOS_WRITERS_H
#define CHAOS_WRITERS_H

#include "test/chaos/chance.h"

#include <libpq-fe.h>
#include <stddef.h>

enum { TOPICS = 2, KEYS = 40, TOPIC_BYTES = 40000 /* the longest message of a topic */ };

struct writers_choice {
    const char *conninfo;
    const char *topics[TOPICS];
    const char *dir; /* for the log of intents */
    uint64_t seed;
    int n, pause_ms;    /* longest, between two transactions */
    const char *delays; /* an SQL interval: of the messages that are delayed */
};

/* The tables that the transactions are about. */
void make_ledger(PGconn *conn);

struct writers;
struct writers *start_writers(const struct writers_choice *choice);

/* Joins the threads. */
void stop_writers(struct writers *writers);

struct writers_sum {
    int64_t committed, rolled_back, unknown; /* transactions */
};
struct writers_sum writers_sum(const struct writers *writers);

/* Copies into chaos.acknowledged the ids of all messages of which a writer was
 * told that they are committed, and on disk. */
void copy_acknowledged(const struct writers *writers, PGconn *conn);

/* Discards parked messages that are too large, and asks that the others be
 * tried again; false if they could not be. */
bool tidy_up(PGconn *conn);

/* Commits one message of each of the first `n` keys, as soon as PostgreSQL
 * lets it; false if that takes longer than `ms`. */
struct saga_uuid;
bool write_probe(const struct writers_choice *choice, struct saga_uuid *ids, int n, int ms);

#endif
