/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happens to consumers, and to PostgreSQL, Redis and Kafka beneath them.
 */
#ifndef CHAOS_CONSUMER_FAULTS_H
#define CHAOS_CONSUMER_FAULTS_H

#include "test/chaos/faults.h"
#include "test/chaos/members.h"
#include "test/chaos/sender.h"
#include "test/support/server.h"

#include <pthread.h>
#include <stdatomic.h>

enum { PARTITIONS = 6 };

/* What can be hurt. */
struct consumer_scene {
    struct server *postgres, *redis, *kafka;
    struct members *members;
    struct sender *sender;
    const char *conninfo;
    FILE *log;
    struct chance *chance;

    const char *arrived; /* asks whether the probe's effects are there */
    PGconn *conn;        /* to ask; NULL: to be opened */
    pthread_t flusher;
    atomic_bool flushing;
};

/* `scene` is borrowed. */
struct play consumer_play(struct consumer_scene *scene);

/* The test fails if a key in Redis never expires (trap: I6). */
void expect_marks_expire(const struct consumer_scene *scene);

#endif
