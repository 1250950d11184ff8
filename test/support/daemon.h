/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon outbox-relay under test: its settings file, its log, its port.
 */
#ifndef TEST_DAEMON_H
#define TEST_DAEMON_H

#include "test/support/process.h"

/* A path of the test's own, for what it writes by itself. */
const char *output_file(const char *what);
void write_file(const char *path, const char *text);

/* Its settings are in the file `ini`, and it answers /metrics on some port.
 * `environment` as of start_process(). */
struct process *start_daemon(const char *ini, const char *const *environment);

/* The port, once it answers there. */
int daemon_port(const struct process *daemon);

bool has_logged(const struct process *process, const char *text);

#endif
