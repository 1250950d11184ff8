/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker's hands: takes one due saga of a definition and carries it as far as
 * it goes without waiting.
 *
 * Owns the transactions in which that happens, and what is kept or undone of
 * what a step function wrote. The loop around it, connecting and waiting are
 * the worker's.
 */
#ifndef SAGA_WORKER_JOB_H
#define SAGA_WORKER_JOB_H

#include "saga/store.h"

#include <stdatomic.h>

enum { JOB_DUE_MAX = 16 };

struct job {
    struct definition definition;
    void *user; /* for its step functions */

    /* Found due and not yet tried; by now somebody else may have them. */
    struct store_due due[JOB_DUE_MAX];
    size_t n_due;
};

struct job_limits {
    int32_t lease_ms, grace_ms;
    const atomic_bool *stop; /* set: let go of it after the step at hand */
};

/*
 * Takes one saga, if one is due, and drives it; `found` tells. No transaction
 * is open afterwards. An error means that the connection is lost or that the
 * server cannot do its work at present; what a saga's own step does wrong is
 * that saga's history, and no error.
 */
int job_drive(struct pg *pg, struct job *job, const struct job_limits *limits, bool *found,
              struct saga_error *err);

#endif
