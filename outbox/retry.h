/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Carries out what operators ask for by outbox.retry: publishes the parked rows
 * of a pair of topic and key, in order, and lets the pair flow again.
 *
 * Owns the order of publishing, deleting and releasing. Works only between two
 * pairs of snapshots, when nothing else is on its way: so nothing can overtake,
 * and new rows of the pair are parked until it is released.
 */
#ifndef OUTBOX_RETRY_H
#define OUTBOX_RETRY_H

#include "outbox/publisher.h"

/*
 * Does a part of a request, at most a page, so that others get their turn;
 * `did` says whether there was one. Looks for requests a few times a second at
 * most, unless `now`, and not at all while nothing is parked.
 */
int retry_step(struct publisher *publisher, bool now, bool *did, struct saga_error *err);

#endif
