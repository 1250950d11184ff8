/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the database says about the outbox, asked when somebody wants to know.
 *
 * Owns a connection of its own, with a short deadline: a scrape must not wait
 * for a database that does not answer. Each answer costs the same however long
 * the outbox is. Used by one thread.
 */
#ifndef OUTBOX_DAEMON_STATUS_H
#define OUTBOX_DAEMON_STATUS_H

#include "base/pg.h"

enum { STATUS_STREAMS_MAX = 64 };

struct status_stream {
    int32_t stream;
    int64_t lag_messages;
    double lag_seconds;
};

struct status {
    bool up; /* the database has answered; else nothing else is filled in */
    struct status_stream streams[STATUS_STREAMS_MAX];
    int n;
    int64_t parked_keys, parked_messages, delayed_messages; /* above 10000 estimates */
    double delayed_overdue_seconds;
    int64_t outbox_bytes;
    double kept_seconds; /* age of the oldest row that is still there */
};

struct status_reader;

struct status_reader *status_reader_new(const struct saga_log *log);
void status_reader_free(struct status_reader *reader);

/* `version` changes with the conninfo: the connection is then made anew. */
void status_read(struct status_reader *reader, const char *conninfo, int64_t version,
                 struct status *status);

#endif
