/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An inventory service, as a participant without Kafka: its database, its
 * commands, and ways to hand it a command and to look at what came of it.
 *
 * Business rows carry no unique key, so that a step that was applied twice
 * shows (trap S16): `effect` gets one row for each call of a function.
 */
#ifndef TEST_PARTICIPANT_H
#define TEST_PARTICIPANT_H

#include <libpq-fe.h>
#include <saga/saga.h>

#define GROUP  "inventory"
#define SAGA_1 "019a5b2e-7c00-7a10-8000-0000000000aa"
#define SAGA_2 "019a5b2e-7c01-7a10-8000-0000000000bb"

/* What `scripted` does after it has written its effect. */
struct script {
    int (*then)(struct saga_ctx *ctx, void *arg);
    void *arg;
    int calls;
};

/*
 * Steps: "reserve" takes one piece of the value "sku" and sets "shelf" (refused:
 * "out of stock"), its compensation puts it back; "scripted" does what the
 * `struct script` says that is given as `user`, both ways; "charge" can only be
 * run.
 */
extern const struct saga_definition inventory;

/* A migrated database with the tables stock (2 lamps) and effect; the
 * connection string, and a connection to it that is closed at the test's end. */
const char *given_inventory(PGconn **conn);

/* A command with a message id of its own. `payload` is JSON. Lives until the
 * test ends. */
struct saga_record a_command(const char *saga_id, const char *step, const char *action,
                             const char *payload);

/* The same record, with another header instead of, or beside, its own. NULL
 * takes the header away. */
struct saga_record with_header(struct saga_record record, const char *name, const char *value);
struct saga_record with_new_id(struct saga_record record);

/* One transaction: inbox, command, COMMIT if it answers 0. Returns what it
 * answered, with the details in `deliver_error`. */
int deliver(PGconn *conn, const struct saga_record *record, struct script *script);
extern struct saga_error deliver_error;

/* The committed replies, in order, from 0. */
int reply_count(PGconn *conn);
const char *reply_header(PGconn *conn, int n, const char *name);
const char *reply_payload(PGconn *conn, int n);

/* Fails with what is there instead. */
void expect_step_effects(PGconn *conn, const char *saga_id, const char *step, int runs,
                         int compensations);
void expect_reply(PGconn *conn, int n, const char *action, const char *outcome, const char *reason);

#endif
