/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the verbs of sagactl share: options, exit codes, and the way out of an
 * error. Knows base and SQL; nothing of the engine.
 */
#ifndef OPS_OPS_H
#define OPS_OPS_H

#include "base/pg.h"

/* Documented; scripts depend on them. */
enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_NOT_FOUND = 3, EXIT_REFUSED = 4 };

/* From the command line; NULL: not given. */
struct options {
    const char *database, *migrations, *lock_timeout;
    const char *state, *definition, *reason;
    int32_t limit;
    bool json, dry_run, all, force, payload;
};

/* A verb gets its words without its own names, and returns an exit code. */
struct call {
    struct pg pg;
    struct options options;
    const char *const *words;
    int n_words;
};

int saga_list(struct call *call);
int saga_show(struct call *call);
int saga_why(struct call *call);
int saga_retry(struct call *call);
int saga_cancel(struct call *call);
int saga_audit(struct call *call);
int outbox_status(struct call *call);
int outbox_parked(struct call *call);
int outbox_retry(struct call *call);
int outbox_discard(struct call *call);
int outbox_show(struct call *call);
int outbox_audit(struct call *call);
int outbox_streams(struct call *call);
int outbox_rebase(struct call *call);
int inbox_quarantine(struct call *call);
int inbox_release(struct call *call);
int inbox_reject(struct call *call);
int inbox_parked(struct call *call);
int inbox_retry(struct call *call);
int inbox_discard(struct call *call);
int inbox_show(struct call *call);
int inbox_audit(struct call *call);
int inbox_waiting(struct call *call);
int inbox_horizon(struct call *call);
int migrate_up(struct call *call);
int migrate_down(struct call *call);
int migrate_status(struct call *call);

/* "sagactl: ..." on the standard error stream. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same for an error of a call, and the exit code that it means. */
int complain_error(const struct saga_error *err);

/* The same after a call of one of the SQL functions that are operators' verbs:
 * what they say by their SQLSTATE (see their comments). */
int complain_refusal(struct saga_error *err);

#endif
