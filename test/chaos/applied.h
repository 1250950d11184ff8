/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether the effects are those of the messages that were sent, each once in
 * each group, and each key's in order.
 */
#ifndef CHAOS_APPLIED_H
#define CHAOS_APPLIED_H

#include "test/chaos/judge.h"

/* The tables: effect, which has no unique key; chaos.consumer, the groups' names;
 * chaos.topic, how many records there are. */
void make_effects(PGconn *conn);

extern const struct trial applied_trial;

#endif
