/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The metrics, in Prometheus' text format 0.0.4.
 *
 * Owns their names, and what each means in one sentence; docs/operating.md says
 * what to do about them. Asks nobody: it writes what it is given.
 */
#ifndef OUTBOX_DAEMON_METRICS_H
#define OUTBOX_DAEMON_METRICS_H

#include "outbox/daemon_board.h"
#include "outbox/daemon_status.h"

/* A text that the caller frees; NULL: out of memory. */
char *metrics_text(const struct board_view *view, const struct status *status, size_t *len);

#endif
