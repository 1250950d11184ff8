/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happens to relays, PostgreSQL and Kafka, drawn from the seed, and how
 * long it takes until a message arrives that was committed afterwards.
 */
#ifndef CHAOS_FAULTS_H
#define CHAOS_FAULTS_H

#include "test/chaos/arrivals.h"
#include "test/chaos/relays.h"
#include "test/chaos/writers.h"
#include "test/support/server.h"

#include <stdio.h>

enum { NODES_MAX = 3 };

/* What can be hurt. */
struct scene {
    struct server *postgres;
    struct server *kafka[NODES_MAX];
    int n_kafka;
    struct relays *relays;
    struct arrivals *arrivals;
    const struct writers_choice *writing;
    const char *conninfo;
    int lease_ms;
    FILE *log;
    struct chance *chance;
};

struct faults;
struct faults *new_faults(struct scene *scene);

/* Until `ms` have passed; afterwards everybody is well again. */
void let_loose(struct faults *faults, int ms);

/* A line for each kind: how often, and the recovery's p50, p99 and maximum. */
void print_faults(const struct faults *faults);

#endif
