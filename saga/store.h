/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instances in the database: loading them under their row lock, and saving what
 * the machine made of them, together with history and commands.
 *
 * Owns the tables saga.instance and saga.history, and the commands' rows in
 * the outbox. Begins and ends no transaction. Everything takes many instances:
 * one statement loads them, one saves them.
 */
#ifndef SAGA_STORE_H
#define SAGA_STORE_H

#include "base/pg.h"
#include "saga/machine.h"

/* What an operator has asked for and no worker has carried out yet. */
enum store_request { REQUEST_NONE, REQUEST_CANCEL, REQUEST_RESUME };

/* One instance as it was loaded. Texts and bytes are borrowed from the batch. */
struct stored {
    struct saga_uuid id;
    int64_t version;
    bool matches; /* it was started with this very definition */
    enum store_request request;
    const char *request_reason; /* NULL without a request */
    struct saga_bytes values;   /* for context_take() */
    struct instance instance;
};

struct store_batch {
    struct pg_rows rows;
    struct stored *stored;
    size_t n;
    int64_t now_us; /* the database's clock when they were loaded */
};

struct store_due {
    struct saga_uuid id;
    int64_t version;
};

/* At most `limit` instances of the definition that are due and that nobody has
 * locked; the one that is due longest first. One round trip; no transaction is
 * open before or after. */
int store_find_due(struct pg *pg, const struct definition *definition, size_t limit,
                   struct store_due *due, size_t *n, struct saga_error *err);

/*
 * Begins a transaction and loads the instance, locked; `batch` is empty if it
 * has changed meanwhile or somebody else has it. If the session is idle inside
 * the transaction for `lease_ms`, the server ends it. One round trip.
 */
int store_take(struct pg *pg, const struct definition *definition, const struct store_due *due,
               int32_t lease_ms, struct store_batch *batch, struct saga_error *err);

/* Inside a transaction: the instances with these ids, locked, in the order of
 * their ids; those that do not exist, or belong to another definition, are
 * missing in `batch`. Waits for others' locks. */
int store_load(struct pg *pg, const struct definition *definition, const struct saga_uuid *ids,
               size_t n, struct store_batch *batch, struct saga_error *err);

/* For the statements that load: takes over `rows`, also when it fails. */
int store_batch_read(struct store_batch *batch, const struct definition *definition,
                     struct pg_rows *rows, struct saga_error *err);

void store_batch_clear(struct store_batch *batch);

/* In store_definition.c. Makes the definition known: from now on sagas of its name can be started.
 */
int store_register(struct pg *pg, const struct definition *definition, struct saga_error *err);

/*
 * Why this worker must not run `stored` (its definition differs), in words,
 * into `reason`: the steps it was started with, and ours.
 */
int store_difference(struct pg *pg, const struct definition *definition,
                     const struct stored *stored, char reason[SAGA_REASON_MAX + 1],
                     struct saga_error *err);

/* One change to be saved: an instance after an outcome without `run`. */
struct store_change {
    const struct saga_uuid *id;
    int64_t version; /* that it was loaded with */
    const struct instance *instance;
    const struct outcome *outcome;
    struct saga_bytes patch; /* JSON object merged into the values; data NULL: none */
    int64_t hold_ms;         /* keep others from claiming it for so long; or 0 */
    bool request_done;       /* the operator's request is carried out */
};

/*
 * Saves the changes of instances of one definition, each at most once: rows,
 * history, commands. Inside a transaction; one round trip.
 *
 * Returns 0, or
 *   SAGA_EFENCED somebody else has changed one of them since it was loaded:
 *                nothing is written, the transaction has failed
 *   SAGA_EDB and others
 */
int store_save(struct pg *pg, const struct definition *definition,
               const struct store_change *changes, size_t n, struct saga_error *err);

/*
 * Saves one change and commits, in one round trip. With `again` (and a lease),
 * in the same one: begins the next transaction and takes the instance again;
 * `again` is empty if somebody else has changed it by then.
 *
 * After SAGA_EFENCED all that the transaction had written is rolled back. After
 * SAGA_EUNKNOWN there is nothing to find out: the row says where it stands.
 */
int store_save_and_commit(struct pg *pg, const struct definition *definition,
                          const struct store_change *change, int32_t lease_ms,
                          struct store_batch *again, struct saga_error *err);

#endif
