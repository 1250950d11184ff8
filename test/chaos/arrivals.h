/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A consumer that looks for single messages as they arrive. What has arrived
 * in all is read from the topics at the end.
 */
#ifndef CHAOS_ARRIVALS_H
#define CHAOS_ARRIVALS_H

#include <saga/base.h>
#include <stdbool.h>

enum { AWAITED_MAX = 16 };

struct arrivals;
struct arrivals *start_arrivals(const char *topic, int partitions);

/* From now on, looks for these; and have all of them come? */
void arrivals_await(struct arrivals *arrivals, const struct saga_uuid *ids, int n);
bool arrivals_complete(struct arrivals *arrivals);

/* The broker that leads the topic's first partition, -1: none. */
int arrivals_leader(struct arrivals *arrivals);

#endif
