/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An outbox under test: messages put into it, relays that empty it, and what
 * has arrived in Kafka.
 */
#ifndef TEST_OUTBOX_H
#define TEST_OUTBOX_H

#include "test/support/db.h"
#include "test/support/kafka.h"
#include "test/support/process.h"

#include <saga/relay.h>
#include <stdbool.h>

/* --- writing ----------------------------------------------------------- */

/* One message, in whatever transaction is open on `conn`; key NULL: none. */
void enqueue(PGconn *conn, const char *topic, const char *key, const char *value);

/* `n` messages "prefix1", "prefix2", ..., of keys k0 to k9, in one statement. */
void enqueue_many(PGconn *conn, const char *topic, const char *prefix, int n);

/* A transaction that is open until the test commits it. */
PGconn *open_transaction(const char *conninfo);

/* --- relays ------------------------------------------------------------ */

/* In this process, on a thread of its own. Brokers and the log are filled in. */
struct relay_thread;
#define RELAY(...) (&(struct saga_relay_options){ SAGA_RELAY_OPTIONS, __VA_ARGS__ })
struct relay_thread *start_relay(const struct saga_relay_options *options);

/* Stops it and returns what saga_relay_run() answered. At the test's end, too. */
int stop_relay(struct relay_thread *relay);
bool relay_ended(const struct relay_thread *relay); /* by itself */
int relay_answer(const struct relay_thread *relay); /* of one that has ended */
struct saga_relay_stats relay_stats(const struct relay_thread *relay);

/* Runs one until nothing is left; the test fails if it answers anything but 0. */
void publish_once(const char *conninfo);
int publish_once_with(const struct saga_relay_options *options, struct saga_error *err);

/* The program outbox-relay, with a settings file; `relay` and `kafka` are lines
 * of its two sections. `more` as of start_process(), e.g. ARGS("--once"). */
struct process *start_relay_program(const char *conninfo, const char *relay, const char *kafka,
                                    const char *const *more);

/* --- what arrived ------------------------------------------------------ */

/* The values of all records, "a b c", in the order of the log. */
const char *published(const char *topic);
int published_count(const char *topic);
void expect_published(const char *topic, const char *values);
/* Waits for it. */
void await_published(const char *topic, const char *values, int ms);

/* The values without those that were there before: what consumers make of it. */
const char *published_first(const char *topic);

/* How many of outbox.local_messages are pending. */
int64_t pending(PGconn *conn);

#endif
