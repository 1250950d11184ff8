/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sagas whose steps do as their values say, and leave a row for every time
 * that they did something.
 *
 * The definition "scripted" has the local steps a, b (compensatable), c (pivot)
 * and d (retriable). The value "b.run" says what b answers, attempt by attempt,
 * the last one again and again: "retry error done"; "a.compensate" the same for
 * its compensation. Answers: done, wait, retry, refused, error (a negative
 * code), sql (a statement that fails), gate (waits until nobody holds the
 * advisory lock GATE, then done), gate_refused, commit (ends the transaction).
 * Without a value a step is done.
 *
 * Whatever it answers, the step has by then written a row into test.effect,
 * which has no unique key: a step that is applied twice shows (trap S16).
 */
#ifndef TEST_STEPS_H
#define TEST_STEPS_H

#include <libpq-fe.h>
#include <saga/saga.h>

enum { GATE = 4711 };

extern const struct saga_definition scripted;

/* A migrated database with test.effect, and a connection to it, closed when the
 * test ends. given_effects() makes the table in a database that is there. */
const char *given_effects_database(PGconn **conn);
void given_effects(PGconn *conn);

/* A worker for `definition`, freed when the test ends. */
struct saga_worker *given_worker(const char *conninfo, const struct saga_definition *definition);
struct saga_worker *given_worker_with(struct saga_worker_options options,
                                      const struct saga_definition *definition);

/* Starts a saga in a transaction of its own; its id as text. The values are
 * SAGA_PAIRS(...) or NULL. */
const char *given_saga(PGconn *conn, const struct saga_definition *definition, const char *key,
                       const struct saga_pair *values);

/* Runs until nothing is due; again and again until the saga is in that state. */
void run_idle(struct saga_worker *worker);
void run_until(struct saga_worker *worker, PGconn *conn, const char *id, const char *state);

const char *state_of(PGconn *conn, const char *id);

/* What the saga did, in order: "a.run b.run a.compensate". */
const char *effects_of(PGconn *conn, const char *id);
/* What its history says: "done:a done:b refused:c ...". */
const char *history_of(PGconn *conn, const char *id);

/*
 * Trap S16: over all sagas there are, from rows without a unique key: of one that is
 * completed every step was run once and nothing undone; of one that is
 * compensated what was run was undone as often, once each, in reverse order.
 */
void expect_effects_once(PGconn *conn);

#endif
