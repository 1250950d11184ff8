/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks whether there is something new to publish.
 *
 * Owns when a pair of snapshots is opened, so that nothing in it can vanish any
 * more, and when the cursor is moved although there is nothing. What is in the
 * pair is published by others (publisher.c).
 */
#ifndef OUTBOX_NEXT_PAIR_H
#define OUTBOX_NEXT_PAIR_H

#include "outbox/publisher.h"

/* Looks once. If there are rows, opens a pair; its `first` page is the caller's
 * then. Else NULL. */
int next_pair(struct publisher *publisher, struct page **first, struct saga_error *err);

#endif
