/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happens to relays, PostgreSQL and Kafka.
 */
#ifndef CHAOS_RELAY_FAULTS_H
#define CHAOS_RELAY_FAULTS_H

#include "test/chaos/arrivals.h"
#include "test/chaos/faults.h"
#include "test/chaos/relays.h"
#include "test/chaos/writers.h"
#include "test/support/server.h"

enum { NODES_MAX = 3, LEASE_MS = 1000 };

/* What can be hurt. */
struct relay_scene {
    struct server *postgres;
    struct server *kafka[NODES_MAX];
    int n_kafka;
    struct relays *relays;
    struct arrivals *arrivals;
    const struct writers_choice *writing;
    const char *conninfo;
    FILE *log;
    struct chance *chance;
};

/* `scene` is borrowed. */
struct play relay_play(struct relay_scene *scene);

#endif
