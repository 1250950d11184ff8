/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A consumer for tests to stop, freeze and kill: writes one row into `effect`
 * for each message that it applies, which has no unique key, so that what is
 * applied twice is there twice.
 *
 *     consumer CONNINFO GROUP BROKERS REDIS|- TOPIC idle|stop [hold] [idle_in_tx_ms=MS]
 *         [batch_rows=N] [property=value ...]
 *
 * "hold": the handler prints "holding" and then waits inside the transaction
 * until the row is there that it asks for (table `go`).
 */
#include "base/log.h"

#include <libpq-fe.h>
#include <saga/consumer.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct saga_consumer *consumer;
static bool hold;
static int idle_in_tx_ms, batch_rows;

static void
on_signal(int number)
{
    (void)number;
    saga_consumer_stop(consumer);
}

static bool
may_go(PGconn *tx)
{
    PGresult *result = PQexec(tx, "SELECT FROM go");
    bool yes = PQntuples(result) > 0;

    PQclear(result);
    return yes;
}

static int
apply_effect(PGconn *tx, const struct saga_record *record, void *user, struct saga_error *err)
{
    char id[37];
    const char *values[] = { id };
    PGresult *result;
    int rc = -5;

    (void)user;
    (void)err;
    saga_uuid_text(&record->id, id);
    result = PQexecParams(tx, "INSERT INTO effect (message_id) VALUES ($1)", 1, NULL, values, NULL,
                          NULL, 0);
    if (PQresultStatus(result) == PGRES_COMMAND_OK)
        rc = 0;
    PQclear(result);
    if (hold) {
        puts("holding");
        fflush(stdout);
        while (!may_go(tx) && PQstatus(tx) == CONNECTION_OK)
            usleep(20000);
    }
    return rc;
}

static int
read_properties(char **args, struct saga_pair *properties)
{
    size_t n = 0;

    for (; *args != NULL && n < 15; args++) {
        char *equals = strchr(*args, '=');

        if (strcmp(*args, "hold") == 0) {
            hold = true;
        } else if (strncmp(*args, "idle_in_tx_ms=", 14) == 0) {
            idle_in_tx_ms = atoi(*args + 14);
        } else if (strncmp(*args, "batch_rows=", 11) == 0) {
            batch_rows = atoi(*args + 11);
        } else if (equals == NULL) {
            return 2;
        } else {
            *equals = '\0';
            properties[n++] = (struct saga_pair){ *args, equals + 1 };
        }
    }
    properties[n] = (struct saga_pair){ NULL, NULL };
    return 0;
}

int
main(int argc, char **argv)
{
    struct saga_pair properties[16];
    struct saga_consumer_stats stats = { SAGA_CONSUMER_STATS };
    struct saga_error err = { 0 };
    int rc;

    if (argc < 7 || read_properties(argv + 7, properties) != 0)
        return 2;
    const struct saga_consumer_options options = {
        SAGA_CONSUMER_OPTIONS,
        .conninfo = argv[1],
        .group = argv[2],
        .brokers = argv[3],
        .redis = strcmp(argv[4], "-") == 0 ? NULL : argv[4],
        .properties = properties,
        .idle_in_tx_ms = idle_in_tx_ms,
        .batch_rows = batch_rows,
        .log = { .write = log_to_stderr },
    };

    rc = saga_consumer_new(&consumer, &options, &err);
    signal(SIGTERM, on_signal);
    if (rc == 0)
        rc = saga_consumer_subscribe(consumer, argv[5], apply_effect, NULL, &err);
    if (rc == 0)
        rc = saga_consumer_run(
            consumer,
            strcmp(argv[6], "idle") == 0 ? SAGA_CONSUME_UNTIL_IDLE : SAGA_CONSUME_UNTIL_STOP, &err);
    if (rc != 0) {
        fprintf(stderr, "%s: %s\n", saga_error_name(rc), err.message);
        return 1;
    }
    saga_consumer_stats(consumer, &stats);
    printf("applied %lld mark %lld inbox %lld\n", (long long)stats.applied,
           (long long)stats.duplicates_by_mark, (long long)stats.duplicates_by_inbox);
    saga_consumer_free(consumer);
    return 0;
}
