/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An orchestrator and a participant, each with its database, and a saga that has
 * been started: reserve, then charge, which is the pivot. What goes between the two
 * the test carries itself, and so can lose, double and delay it.
 */
#ifndef TEST_ORCHESTRATOR_H
#define TEST_ORCHESTRATOR_H

#include "test/support/db.h"
#include "test/support/participant.h"
#include "test/support/post.h"

#include <stdbool.h>

extern const struct saga_definition order;
extern PGconn *orders, *inventory_db;
extern struct post commands, replies;
extern char order_id[37]; /* the saga's */

/* A program's setup and teardown. */
void given_orchestrator(void);
void end_orchestrator(void);

/* Whatever is due. True, so that it can stand in a condition. */
bool work(void);

/* The worker runs until a command goes out, which must be this one. */
struct saga_record command_for(const char *step, const char *action, int attempt);

/* By the inventory of participant.h; its reply. */
struct saga_record carried_out(struct saga_record command);

/* What saga_reply_handle() answered; committed if that is 0. */
int apply_reply(const struct saga_record *reply);
void replied(struct saga_record reply);

/* Applied without an error, and nothing is different. */
void expect_stale(struct saga_record reply);

const char *order_state(void);
const char *order_rows(void); /* all that there is of it, to compare */

#endif
