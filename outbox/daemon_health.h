/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is this process well?
 *
 * Owns three answers, decided from a view of the relays and nothing else:
 *
 *   alive   every relay makes rounds. If not, only a restart helps: systemd's
 *           watchdog is not fed. A server that does not answer is waited for
 *           within deadlines, so it keeps nobody from making rounds.
 *   ready   every relay owns its stream, or stands by for it.
 *   well    alive, and PostgreSQL has answered lately. Kafka's silence is told,
 *           but no reason: restarting the relay does not bring Kafka back.
 */
#ifndef OUTBOX_DAEMON_HEALTH_H
#define OUTBOX_DAEMON_HEALTH_H

#include "outbox/daemon_board.h"

bool health_alive(const struct board_view *view);
bool health_ready(const struct board_view *view);

/* Writes one line that says how it is. */
bool health_well(const struct board_view *view, char *line, size_t size);

/* For `systemctl status`. */
void health_status(const struct board_view *view, char *line, size_t size);

#endif
