/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server of a test's own, that it may stop, crash and start again: a thin
 * layer over tools/pg, tools/pgbouncer, tools/redis and tools/kafka.
 *
 * Port and data stay the same over a restart (a Redis forgets its data). What
 * a test leaves behind is removed at its end, or at its program's.
 */
#ifndef TEST_SERVER_H
#define TEST_SERVER_H

#include <sys/types.h>

struct server {
    const char *kind, *dir; /* "pg", "pgbouncer", "redis" or "kafka" */
    const char *address;    /* "127.0.0.1:port" */
    int port;
    pid_t pid;
};

/* GIVEN_SERVER("pg", "wal_writer_delay=10s", "autovacuum=off"). A PostgreSQL that is stopped may be
 * given a streaming standby: GIVEN_SERVER("pg", text_of("standby_of=%s", primary->dir)). */
#define GIVEN_SERVER(...) given_server((const char *const[]){ __VA_ARGS__, NULL })
struct server *given_server(const char *const *kind_and_settings);

/* `n` nodes of one Kafka; a topic has that many replicas. */
void given_kafka_cluster(struct server **nodes, int n);

void server_start(struct server *server);
void server_stop(struct server *server);   /* in order */
void server_kill(struct server *server);   /* SIGKILL, its children too */
void server_freeze(struct server *server); /* SIGSTOP; a PostgreSQL's sessions go on */
void server_thaw(struct server *server);

/* Removes what the program's failed tests have left; run_tests() calls it. */
void servers_sweep(void);

/* A port that was free just now. */
int free_port(void);

#endif
