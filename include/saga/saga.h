/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sagas: a business action of several steps, each a transaction of its own,
 * that ends completed, or undone step by step in reverse order, or parked with
 * a reason that a person can read.
 *
 *     static int reserve(struct saga_ctx *ctx, void *user)
 *     {
 *         return saga_exec(ctx, "out of stock",
 *                          "UPDATE stock SET free = free - 1 WHERE sku = $1 AND free > 0",
 *                          SAGA_TEXTS(saga_get(ctx, "sku")));
 *     }
 *     static const struct saga_step steps[] = {
 *         { .name = "reserve", .run = reserve, .compensate = release },
 *         { .name = "charge", .kind = SAGA_PIVOT, .run = charge },
 *     };
 *     static const struct saga_definition order = { SAGA_DEFINITION("order", steps) };
 *
 * saga_start() writes a saga's row inside your transaction; a worker runs it.
 * A step that names a `command_topic` is carried out by another service (a
 * participant), which registers the same functions.
 */
#ifndef SAGA_SAGA_H
#define SAGA_SAGA_H

#include <saga/base.h>
#include <saga/inbox.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Limits. Names are of A-Z a-z 0-9 . _ - */
#define SAGA_NAME_MAX         64    /* bytes: definitions, steps, values */
#define SAGA_STEPS_MAX        32    /* steps of a definition */
#define SAGA_BUSINESS_KEY_MAX 512   /* bytes of a business key */
#define SAGA_VALUES_MAX       65536 /* bytes of a saga's values, as JSON */
#define SAGA_REASON_MAX       255   /* bytes of a reason; longer ones are cut */

/* --- what a saga is ------------------------------------------------------- */

struct saga_ctx;

/*
 * Does a step, or undoes it. Called by a worker, or by a participant's
 * consumer, with a transaction open; what it writes through `ctx` commits
 * together with the saga's own row, or not at all. It must not begin, commit
 * or roll back.
 *
 * It may be called again after a crash or a lost connection, then from a state
 * of the database in which the earlier call has never happened, and with the
 * same number of attempt. It must have no effects outside the database. A
 * statement for which the worker has waited too long (statement_ms), or a
 * function that is silent for too long (lease_ms), is a failed attempt.
 *
 * Returns one of the answers below, or a negative code (for example that of a
 * failed saga_exec()), which counts as SAGA_RETRY with the error as reason.
 */
typedef int saga_step_fn(struct saga_ctx *ctx, void *user);

/* What a step function answers. What it wrote stays with the first two only. */
enum {
    SAGA_DONE = 0,   /* done, or undone */
    SAGA_WAIT = 1,   /* in hand; the answer will come as a reply (a participant's by
                        saga_reply()), else the timeout */
    SAGA_RETRY = 2,  /* not now: call again later; of a participant attempts_max times
                        at most, see saga_consumer_participate() */
    SAGA_REFUSED = 3 /* a business refusal: the step is known not to be done */
};

/* Kinds of step. Compensatable ones come first, then at most one pivot, then
 * retriable ones. */
enum {
    SAGA_COMPENSATABLE = 0, /* can be undone; has a `compensate` */
    SAGA_PIVOT = 1,         /* the point of no return: once done, the saga goes on */
    SAGA_RETRIABLE = 2      /* after it: repeated, refusals too, and never undone; parks
                               the saga when its attempts are used up */
};

/* One step. Zero means the default. Appended to only. */
struct saga_step {
    const char *name;
    int32_t kind;              /* SAGA_COMPENSATABLE and so on */
    int32_t reserved;          /* must be 0 */
    const char *command_topic; /* set: a participant that reads it does the step */
    saga_step_fn *run, *compensate;
    int32_t attempts_max;     /* forward only; default 5, of a retriable step 100; then
                                 the saga turns round or, behind the pivot, parks */
    int32_t first_delay_ms;   /* before the second attempt, then doubling; default 200 */
    int32_t longest_delay_ms; /* default 30000 */
    int32_t timeout_ms;       /* of SAGA_WAIT and of a command's reply; default 30000. An
                                 answer has attempts_max times as long to come */
};

/* A table of steps. Constant: it and all it points to outlive every call. */
struct saga_definition {
    uint32_t size, step_size; /* by SAGA_DEFINITION: both structs may grow */
    const char *name;
    const struct saga_step *steps;
    size_t n_steps;
    const char *reply_topic; /* NULL: "<name>.replies" */
    /* Both at most a hundred years. */
    int64_t deadline_ms;     /* from the start; then the saga turns round. 0: none */
    int64_t compensation_ms; /* from turning round; then it parks. Default 3600000 */
};

#define SAGA_DEFINITION(text, table)                                                               \
    .size = sizeof(struct saga_definition), .step_size = sizeof *(table), .name = (text),          \
    .steps = (table), .n_steps = sizeof(table) / sizeof *(table)

/* --- inside a step function ------------------------------------------------ */

/*
 * Runs one statement inside the step's transaction. `params` are `n` texts for
 * $1, $2 ..., NULL being SQL NULL; PostgreSQL converts them to the types that
 * the statement needs. Results are not returned: see saga_tx().
 *
 * With a `refusal`, a statement that touches no row refuses the step for that
 * reason. The answer is provisional: the statement may be queued and sent
 * later, together with others, so 0 means "accepted". If it then touches no
 * row or fails, the step is refused or repeated, whatever its function has
 * answered meanwhile.
 *
 * Returns 0 (SAGA_DONE), or
 *   SAGA_REFUSED  it touched no row; return this from the step function
 *   SAGA_EINVAL   no statement, or more than 32 parameters
 *   SAGA_EDB      the server refused: the step will be repeated; return this
 */
SAGA_API SAGA_MUSTCHECK int saga_exec(struct saga_ctx *ctx, const char *refusal, const char *sql,
                                      const char *const *params, size_t n);

/* The connection with the step's transaction, to read from and to enqueue
 * on. What was given to saga_exec() before has then been carried out. Never
 * begin, commit or roll back on it. Borrowed until the function returns. */
SAGA_API PGconn *saga_tx(struct saga_ctx *ctx);

/* A value of the saga, or NULL. Borrowed until the function returns or sets
 * the same name. */
SAGA_API const char *saga_get(struct saga_ctx *ctx, const char *name);

/*
 * Sets a value for the steps that follow. It is kept if the step answers
 * SAGA_DONE or SAGA_WAIT. Both texts are copied.
 *
 * Returns 0 (SAGA_DONE), or
 *   SAGA_EINVAL  no name, a name with other characters, or invalid UTF-8
 *   SAGA_ELIMIT  the saga's values exceed SAGA_VALUES_MAX
 *   SAGA_ENOMEM
 */
SAGA_API SAGA_MUSTCHECK int saga_set(struct saga_ctx *ctx, const char *name, const char *value);

/* The saga's id as text, the same in all its steps and attempts; and the
 * number of this attempt, from 1. */
SAGA_API const char *saga_id(const struct saga_ctx *ctx);
SAGA_API int32_t saga_attempt(const struct saga_ctx *ctx);

/*
 * In a participant: what saga_reply() needs, so that the function may return
 * SAGA_WAIT and any process may answer later. Write it down in the step's
 * transaction, or hand it on in a message enqueued there; outside it means
 * nothing before that has committed. At most SAGA_TOKEN_MAX bytes of text, the
 * same when the same command comes again after a rollback; of a new attempt
 * after one another one, and then that of the first fits nothing. It is no
 * secret that protects anything: it is made of ids and names.
 *
 * NULL in a step that a worker runs. Borrowed until the function returns.
 */
#define SAGA_TOKEN_MAX 511
SAGA_API const char *saga_token(struct saga_ctx *ctx);

/* Both give the answer to return: SAGA_REFUSED for `reason`; SAGA_RETRY not
 * before `ms` milliseconds have passed (0: as the step's delays say). */
SAGA_API SAGA_MUSTCHECK int saga_refuse(struct saga_ctx *ctx, const char *reason);
SAGA_API SAGA_MUSTCHECK int saga_retry_after(struct saga_ctx *ctx, int32_t ms, const char *reason);

/* --- starting and looking --------------------------------------------------- */

/*
 * Starts a saga inside the transaction that is open on `tx`: a worker finds it
 * once that has committed, and it never existed if that does not. `values` are
 * what its steps read with saga_get(); NULL: none. A value named "traceparent"
 * is the caller's trace context (W3C): it becomes a header of every command
 * and is not among the values.
 *
 * Idempotent by (definition, business_key): starting again with the same
 * values gives the first saga's id. If somebody else has started the same and
 * has not committed, this waits for the end of that transaction, at most for
 * the session's statement_timeout.
 *
 * One round trip. `id`, if not NULL, receives the id.
 *
 * Returns 0, or
 *   SAGA_EINVAL    the definition, the key or a value is malformed
 *   SAGA_ENOTX     no transaction is open on `tx`
 *   SAGA_ENOTFOUND no worker has registered the definition in this database:
 *                  start one first. The caller's transaction is aborted
 *   SAGA_EMISMATCH it was started before with other values; the message names
 *                  that saga's id. The caller's transaction is aborted
 *   SAGA_ELIMIT    business key or values too large. Nothing was written
 *   SAGA_ESCHEMA   the schema is missing: run `sagactl migrate up`
 *   SAGA_EDB       the server refused; the caller's transaction is aborted
 */
SAGA_API SAGA_MUSTCHECK int saga_start(PGconn *tx, const struct saga_definition *definition,
                                       const char *business_key, const struct saga_pair *values,
                                       struct saga_uuid *id, struct saga_error *err);

/*
 * The state of a saga: "running", "compensating", "completed", "compensated"
 * or "parked"; a constant string. One round trip; `conn` may be inside a
 * transaction or not.
 *
 * Returns 0, or SAGA_ENOTFOUND, SAGA_EINVAL, SAGA_ESCHEMA, SAGA_EDB.
 */
SAGA_API SAGA_MUSTCHECK int saga_state(PGconn *conn, const struct saga_uuid *id, const char **state,
                                       struct saga_error *err);

/* --- workers ------------------------------------------------------------------ */

/* Runs sagas: one thread and one connection of its own. Any number of workers,
 * in any number of processes, share the work. */
struct saga_worker;

struct saga_worker_options {
    uint32_t size; /* by SAGA_WORKER_OPTIONS */
    uint32_t reserved;
    const char *conninfo; /* of libpq; NULL: from the environment (PG*) */
    struct saga_log log;
    int32_t statement_ms; /* longest wait for an answer; default 30000 */
    int32_t lease_ms;     /* a worker silent for so long inside a step loses its
                             connection, and the step to another; default 60000 */
    int32_t grace_ms;     /* a saga whose worker died between two steps goes on
                             after so long; default 5000 */
    int32_t poll_ms;      /* longest time between two looks when idle; default 250 */
};

#define SAGA_WORKER_OPTIONS .size = sizeof(struct saga_worker_options)

enum { SAGA_RUN_UNTIL_STOP = 0, SAGA_RUN_UNTIL_IDLE = 1 };

/*
 * Makes a worker. Connects on first use, not here.
 *
 * Returns 0, or SAGA_EINVAL (an option is negative or of the wrong size),
 * SAGA_ENOMEM. saga_worker_free() releases it.
 */
SAGA_API SAGA_MUSTCHECK int saga_worker_new(struct saga_worker **worker,
                                            const struct saga_worker_options *options,
                                            struct saga_error *err);

/*
 * Tells the worker to run sagas of `definition`, and registers the definition
 * in the database (table saga.definition), in a transaction of its own. From
 * then on sagas of that name can be started there. `user` is handed to the
 * step functions. The definition must outlive the worker.
 *
 * Sagas that were started with another table of steps under the same name are
 * parked by this worker, with the difference as the reason.
 *
 * Returns 0, or
 *   SAGA_EINVAL   the definition breaks a rule; the message says which step
 *                 and which rule
 *   SAGA_ESTATE   the worker has a definition of that name
 *   SAGA_ENOMEM
 *   SAGA_ESCHEMA  the schema is missing: run `sagactl migrate up`
 *   SAGA_EDB      the server refused or cannot be reached
 */
SAGA_API SAGA_MUSTCHECK int saga_worker_add(struct saga_worker *worker,
                                            const struct saga_definition *definition, void *user,
                                            struct saga_error *err);

/*
 * Runs what is due, on the calling thread: with SAGA_RUN_UNTIL_STOP until
 * saga_worker_stop(); with SAGA_RUN_UNTIL_IDLE until nothing is due now (a
 * saga that waits for a reply, for a later attempt, or is held by another
 * worker, is not due).
 *
 * A lost connection is opened again, with growing pauses, for ever; with
 * SAGA_RUN_UNTIL_IDLE it is an error.
 *
 * Returns 0, or
 *   SAGA_EINVAL   no definition was added, or an unknown mode
 *   SAGA_ESCHEMA  the schema is missing: run `sagactl migrate up`
 *   SAGA_EDB      (SAGA_RUN_UNTIL_IDLE) the connection is lost, or the server
 *                 refused; what was not committed has not happened
 */
SAGA_API SAGA_MUSTCHECK int saga_worker_run(struct saga_worker *worker, int mode,
                                            struct saga_error *err);

/* Asks saga_worker_run() to return after the step it is at. Only sets a flag:
 * any thread, and signal handlers. The next saga_worker_run() returns too. */
SAGA_API void saga_worker_stop(struct saga_worker *worker);

/* NULL is allowed. Must not be called while saga_worker_run() is at work. */
SAGA_API void saga_worker_free(struct saga_worker *worker);

/* --- for consumers: commands and replies, without a transport -------------------- */

/*
 * Carries out one command (docs/protocol.md) inside the transaction open on
 * `tx`, in which saga_inbox_enter() has already entered `record` for
 * `consumer`; `duplicate` tells that it found SAGA_INBOX_DUPLICATE. Calls the
 * step's function, unless the barrier knows the answer already, and writes the
 * reply to the outbox. A command is always answered, also when it comes again;
 * one whose function returns SAGA_WAIT by saga_reply(), and one that an operator
 * has discarded (idempotency.discard()) never: then this returns 0 and leaves
 * nothing.
 *
 * `commands` is a table of what this service can do: each step has a `run`,
 * those that can be undone a `compensate`; kinds and order do not matter.
 *
 * Never commits. After any return but 0 the caller rolls back; the message was
 * not applied and has to come again.
 *
 * One round trip before the function and one behind it. It waits while another
 * transaction is at the same step of the same saga. Use READ COMMITTED: in
 * stricter levels such a rival ends as SAGA_EDB with sqlstate 40001.
 *
 * Returns 0, or
 *   SAGA_RETRY      the function wants to be called again later; err->message
 *                   has its reason
 *   SAGA_ESTATE     the function failed, or a compensation refused: once more
 *                   later, as above
 *   SAGA_EINVAL     the table, or the record, is malformed: no such command, a
 *                   header is missing, the payload is not a JSON object; or
 *                   its answer is known to have been given, and is gone. Will
 *                   never work: set it aside
 *   SAGA_ENOTX      no transaction is open on `tx`
 *   SAGA_ESCHEMA    the schema is missing: run `sagactl migrate up`
 *   SAGA_EDB        the server refused
 */
SAGA_API SAGA_MUSTCHECK int saga_command_handle(PGconn *tx, const char *consumer,
                                                const struct saga_definition *commands,
                                                const struct saga_record *record, int duplicate,
                                                void *user, struct saga_error *err);

/*
 * Answers a command whose function has returned SAGA_WAIT: stores the answer
 * and enqueues the reply, inside the transaction that is open on `tx`, together
 * with whatever the caller writes there. From any process, on any connection to
 * the participant's database, whenever the accepting transaction has committed.
 * If this one rolls back, the command still waits.
 *
 * `outcome` is SAGA_DONE with `values` for the saga (NULL: none; those that the
 * function has set are kept, too) and maybe a remark as `reason`; or
 * SAGA_REFUSED with a `reason`, not empty, and no values: then the step counts as
 * not done and will not be compensated, so undo here what the function wrote when
 * it took it in hand. A compensation cannot be refused.
 *
 * Given again, the same answer (outcome, reason and values) changes nothing and
 * writes no second reply. When the command comes again before it is answered,
 * nothing happens; afterwards it gets this answer. It does not wait for its answer
 * for ever: after the step's timeout_ms and attempts the saga turns round, and the
 * compensation is called although nobody has answered. From then on an answer is
 * too late.
 *
 * Call it before writing the rows that the step's functions write, and answer one
 * command in a transaction. This takes the lock of the step, as the step and its
 * compensation do before their functions are called; who writes a row first and then
 * answers can deadlock with a compensation. A row that several sagas share may still
 * be held by a batch of commands that comes to this step next. PostgreSQL ends one of
 * the two then; if it is the caller's (sqlstate 40P01, retriable), do it once more.
 *
 * One round trip. Waits while another transaction answers or compensates the
 * same step; READ COMMITTED, as saga_command_handle().
 *
 * Returns 0, or
 *   SAGA_EINVAL    not a token, an outcome, a reason or a value as above
 *   SAGA_ENOTX     no transaction is open on `tx`
 *   SAGA_ENOTFOUND nothing waits under this token: the accepting transaction was
 *                  rolled back or has not committed yet; or the saga is so old
 *                  that it was forgotten. The caller's transaction is aborted,
 *                  here and in the cases below
 *   SAGA_EFENCED   the step was compensated before it was answered: the saga
 *                  counts it as undone. What this answer tells of has to be
 *                  undone by you, in another transaction, unless the
 *                  compensation has seen to it
 *   SAGA_EMISMATCH it was answered before, otherwise; that answer stands
 *   SAGA_ELIMIT    the values exceed SAGA_VALUES_MAX
 *   SAGA_ENOMEM
 *   SAGA_ESCHEMA   the schema is missing: run `sagactl migrate up`
 *   SAGA_EDB       the server refused
 */
SAGA_API SAGA_MUSTCHECK int saga_reply(PGconn *tx, const char *token, int outcome,
                                       const char *reason, const struct saga_pair *values,
                                       struct saga_error *err);

/*
 * Applies one reply to its saga inside the transaction open on `tx`, in which
 * saga_inbox_enter() has entered `record` and found it new. The saga's row,
 * its history and the next command are written in that transaction; a next
 * step that is local is left to a worker. A reply for which no step waits (it
 * is stale, or comes again) changes nothing.
 *
 * Returns 0, or
 *   SAGA_EINVAL     the definition, or the record, is malformed: set it aside
 *   SAGA_ENOTFOUND  no such saga in this database: set it aside
 *   SAGA_ENOTX      no transaction is open on `tx`
 *   SAGA_ESCHEMA    the schema is missing: run `sagactl migrate up`
 *   SAGA_EDB        the server refused; roll back, the reply must come again
 */
SAGA_API SAGA_MUSTCHECK int saga_reply_handle(PGconn *tx, const struct saga_definition *definition,
                                              const struct saga_record *record,
                                              struct saga_error *err);

#ifdef __cplusplus
}
#endif
#endif
