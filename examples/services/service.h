/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the shop's services have in common: a command line, log lines, a clean
 * end on SIGTERM, and the journal that each keeps of its steps. A service's own
 * file holds only its business.
 */
#ifndef SERVICE_H
#define SERVICE_H

#include <saga/consumer.h>
#include <saga/saga.h>

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>

enum { SERVICE_PROPERTIES_MAX = 16 };

struct service {
    const char *name;     /* "inventory" */
    const char *database; /* --database CONNINFO */
    const char *brokers;  /* --brokers HOST:PORT,... */
    const char *redis;    /* --redis HOST:PORT; without it PostgreSQL alone decides */
    const char *prefix;   /* --prefix TEXT: in front of topics and groups */
    int workers;          /* --workers N: threads of the orchestrator */
    int reply_ms;         /* --reply-ms N: it asks again after so long; 0: the default */
    bool until_idle;      /* --until-idle: end when there is nothing left to do */
    int place;            /* --place N: place orders up to the N-th, and end */
    int per_second;       /* --per-second N: of them; 0: as fast as it goes */
    const char *intents;  /* --intents FILE: what was placed, and how it went */
    struct saga_log log;
    atomic_bool ending; /* no more messages are taken */

    /* --kafka NAME=VALUE: for librdkafka; ends with a NULL name. */
    struct saga_pair properties[SERVICE_PROPERTIES_MAX + 1];
};

/* Reads the command line; ends the program with exit code 2 if it is wrong. */
void service_init(struct service *service, const char *name, int argc, char **argv);

/* The name of a topic, "<prefix><who>.<what>"; allocated, for the program's life. */
const char *service_topic(const struct service *service, const char *who, const char *what);

/* A consumer in the group "<prefix><name>". Returns as saga_consumer_new(). */
int service_consumer(const struct service *service, struct saga_consumer **consumer,
                     struct saga_error *err);

/* SIGTERM and SIGINT end in `handler`, also in the middle of a system call. */
void service_on_stop(void (*handler)(int));

/* Prints what the consumer has counted, and frees it. */
void service_consumer_end(struct saga_consumer *consumer);

/* "name: MESSAGE: the error" on the standard error stream; returns 1, an exit
 * code. */
int service_failed(const struct service *service, const char *message,
                   const struct saga_error *err);

/* All of main() for a service that only takes part in others' sagas. `beside`, if it
 * has something to do that no command asks for, runs on a thread of its own; it is
 * given the service, and returns when that is `ending`. */
int service_participate(int argc, char **argv, const struct saga_definition *commands,
                        void *(*beside)(void *service));

/* Writes a row that says that `step` was done or undone, with `what` and `amount` the
 * names of two of the saga's values. For a step function to return. */
int journal(struct saga_ctx *ctx, const char *step, const char *action, const char *what,
            const char *amount);

#endif
