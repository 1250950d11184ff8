/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET /metrics and GET /healthz.
 *
 * Owns a thread that answers them (libmicrohttpd's), and nothing that they say.
 */
#ifndef OUTBOX_DAEMON_HTTP_H
#define OUTBOX_DAEMON_HTTP_H

#include "outbox/daemon_board.h"

struct http;

/* Answers at `listen` until http_stop(). SAGA_EINVAL: the address cannot be had. */
int http_start(struct http **http, const char *listen, struct board *board,
               const struct saga_log *log, struct saga_error *err);
void http_stop(struct http *http);

/* What is asked for. */
enum http_what { HTTP_METRICS, HTTP_HEALTH, HTTP_NOT_FOUND, HTTP_NOT_ALLOWED };
enum http_what http_what(const char *method, const char *path);

#endif
