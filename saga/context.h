/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a step function holds while it works: the transaction, the saga's
 * values, and what it has answered so far. The same for a local step and for a
 * participant, so that a step can move from one to the other.
 *
 * Owns no transaction: who makes a context begins, commits and rolls back.
 */
#ifndef SAGA_CONTEXT_H
#define SAGA_CONTEXT_H

#include "base/pg.h"

#include <saga/saga.h>

/* A value of the saga. Both texts are the context's own. */
struct context_value {
    char *name, *value;
    bool changed; /* by this function */
};

struct saga_ctx {
    struct pg *pg;
    char id[37];
    int32_t attempt;
    const char *token; /* borrowed; NULL: nobody could answer later with it */
    bool token_taken;
    struct context_value *values;
    size_t n_values;

    /* What is known of the answer. The gravest counts, whatever the function
     * returns: see context_run(). */
    int answer;
    int32_t retry_ms; /* asked for by saga_retry_after(), or 0 */
    char reason[SAGA_REASON_MAX + 1];
};

/* `pg` is borrowed and has the step's transaction open. */
void context_init(struct saga_ctx *ctx, struct pg *pg, const struct saga_uuid *saga_id,
                  int32_t attempt);
void context_clear(struct saga_ctx *ctx);

/* Takes values in: a text[] in binary (name, value, name, value ...). A value
 * that is NULL is left out. SAGA_ENOMEM, SAGA_EINVAL. */
int context_take(struct saga_ctx *ctx, struct saga_bytes texts, struct saga_error *err);

/*
 * Calls `fn` and returns the step's answer: SAGA_DONE, SAGA_WAIT, SAGA_RETRY,
 * SAGA_REFUSED, or a negative code. ctx->reason says why, unless done. The
 * transaction is still open then; a function that has ended it has failed.
 *
 * With SAGA_DONE and SAGA_WAIT the caller keeps what the function wrote,
 * otherwise it must undo all of it. If SAGA_ERR_FATAL is set in err->flags,
 * the connection is gone, and there is no answer at all.
 */
int context_run(struct saga_ctx *ctx, saga_step_fn *fn, void *user, struct saga_error *err);

/* The values that the function has set: as two arrays of texts (initialised by
 * the caller), or as a JSON object; nothing is added to `json` if none was. */
void context_changes(const struct saga_ctx *ctx, struct pg_array *names, struct pg_array *values);
void context_changes_json(const struct saga_ctx *ctx, struct buffer *json);

#endif
