/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Driving libpq's asynchronous half with deadlines. Private to base/pg*.c.
 */
#ifndef BASE_PG_IO_H
#define BASE_PG_IO_H

#include "base/pg.h"

int64_t pg_io_deadline(const struct pg *pg);

/* 0, or an error: the connection cannot take `statements` now. */
int pg_io_usable(struct pg *pg, const struct pg_statement *statements, size_t n,
                 struct saga_error *err);

/* Waits for the socket. False: the deadline passed. */
bool pg_io_wait(PGconn *conn, short events, int64_t deadline_ms);

/* Pushes what is queued, taking in what comes meanwhile. */
int pg_io_flush(PGconn *conn, int64_t deadline_ms);

/* The next result; NULL: there is none, or the connection is lost. */
int pg_io_result(PGconn *conn, int64_t deadline_ms, PGresult **result);

/* Asks the server to stop what it does; its answers are still to be read. */
void pg_io_cancel(PGconn *conn);

/* After a deadline: asks the server to stop and takes in its answers, so that
 * the connection can be used again. If it stays silent, it cannot. */
int pg_io_give_up(struct pg *pg, struct saga_error *err);

#endif
