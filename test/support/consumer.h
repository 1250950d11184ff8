/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A consumer under test: its database with a table of effects that has no
 * unique key, its topic and its group.
 */
#ifndef TEST_CONSUMER_H
#define TEST_CONSUMER_H

#include "test/support/db.h"
#include "test/support/process.h"

#include <saga/consumer.h>

struct server;

struct fixture {
    const char *conninfo, *topic, *group;
    PGconn *conn; /* ours, to look */
};

/* In the shared cluster, or in the test's own one. */
struct fixture *given_consumer_fixture(int partitions);
struct fixture *given_consumer_fixture_in(const struct server *cluster, int partitions);

/* The message-id of the n-th message: always the same. */
const char *id_of(int n);

/* Messages `from` to `from + n - 1`, acknowledged; keys are spread. */
void produce_messages(const struct fixture *fixture, int from, int n);
void produce_one(const char *topic, const char *message_id, const char *key, const char *value);

/* Freed at the test's end, or by free_consumer() before. Handles the fixture's topic with
 * apply_effect(), unless `subscribed` is false. */
struct consumer_choice {
    const char *redis;
    const struct saga_pair *properties; /* instead of session.timeout.ms and such */
    saga_handler_fn *handler;
    void *user;
    const char *group, *conninfo;
    saga_log_fn *log;
    int32_t batch_rows, lease_ms, window_ms, retry_first_ms, retry_longest_ms, statement_ms,
        attempts_max, mode, drain_ms, stats_ms;
    saga_consumer_stats_fn *on_stats;
    void *stats_user;
    bool unsubscribed, debug;
};
#define GIVEN_CONSUMER(fixture, ...)                                                               \
    given_consumer((fixture), &(const struct consumer_choice){ __VA_ARGS__ })
struct saga_consumer *given_consumer(const struct fixture *fixture,
                                     const struct consumer_choice *choice);
void free_consumer(struct saga_consumer *consumer);

/* Inserts the message's id into `effect`. */
int apply_effect(PGconn *tx, const struct saga_record *record, void *user, struct saga_error *err);
/* The same with another statement, for handlers; $1 is the id. */
int handler_exec(PGconn *tx, const char *sql, const struct saga_record *record);

void run_until_idle(struct saga_consumer *consumer);
/* On a thread of its own, until stop_running(), which is called at the test's end too. */
void start_running(struct saga_consumer *consumer);
void stop_running(struct saga_consumer *consumer);

struct saga_consumer_stats stats_of(const struct saga_consumer *consumer);

/* Messages that have an effect, and effects in all. */
bool effects_are(const struct fixture *fixture, int messages, int rows);
void expect_effects(const struct fixture *fixture, int messages, int rows);

/* test/programs/consumer on the fixture; `more` as its source says. */
struct process *start_consumer(const struct fixture *fixture, const char *redis, const char *mode,
                               const char *const *more, const char *const *environment);

/* The group's committed offset in Kafka, -1: none; and how far PostgreSQL is. */
int64_t kafka_offset(const struct fixture *fixture, int partition);
/* As an operator would, while nobody is in the group. */
void reset_kafka_offset(const struct fixture *fixture, int partition, int64_t offset);
int64_t postgres_offset(const struct fixture *fixture, int partition);
bool offsets_agree(const struct fixture *fixture, int partitions);

#endif
