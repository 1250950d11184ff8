/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sends messages at a steady rate, each key's with growing numbers, and now and
 * then one of them again. What was sent is known here, and nowhere else.
 */
#ifndef CHAOS_SENDER_H
#define CHAOS_SENDER_H

#include "test/chaos/chance.h"

#include <libpq-fe.h>
#include <saga/base.h>

struct sender;

struct sender *start_sender(const char *topic, uint64_t seed, int rate);

/* Now: one message into each of the first `n` partitions. */
void sender_probe(struct sender *sender, struct saga_uuid *ids, int n);

/* Until all is acknowledged; the test fails if that takes too long. */
void stop_sender(struct sender *sender);

/* Makes the table chaos.sent. */
void copy_sent(const struct sender *sender, PGconn *conn);

/* Messages, and those that were sent again. */
long sender_messages(const struct sender *sender);
long sender_repeats(const struct sender *sender);

#endif
