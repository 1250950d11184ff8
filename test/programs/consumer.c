/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A consumer for tests to stop, freeze and kill: writes one row into `effect`
 * for each message that it applies, which has no unique key, so that what is
 * applied twice is there twice.
 *
 *     consumer CONNINFO GROUP BROKERS REDIS|- TOPIC idle|stop [hold] [fail=N] [poison] [many]
 *         [option=NUMBER ...] [property=value ...]
 *
 * "hold": the first call of the handler prints "holding" and then waits inside
 * the transaction until the server ends its session, having had nothing to do in
 * it. "fail": each N-th call of it is undone, to be made again: by its answer, or
 * by a statement that fails. "poison": it always fails on what begins with "bad".
 * "many": it takes a whole batch. Options are those of
 * struct saga_consumer_options that are named below, properties are librdkafka's.
 */
#include "base/log.h"

#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <saga/consumer.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct saga_consumer *consumer;
static bool hold, poison, many;
static int fail_each, calls;

static struct saga_consumer_options options = { SAGA_CONSUMER_OPTIONS };
static const struct {
    const char *name;
    int32_t *value;
} numbers[] = {
    { "attempts_max=", &options.attempts_max },
    { "batch_rows=", &options.batch_rows },
    { "idle_in_tx_ms=", &options.idle_in_tx_ms },
    { "lease_ms=", &options.lease_ms },
    { "redis_timeout_ms=", &options.redis_timeout_ms },
    { "retry_first_ms=", &options.retry_first_ms },
    { "statement_ms=", &options.statement_ms },
    { "window_ms=", &options.window_ms },
    { "retry_longest_ms=", &options.retry_longest_ms },
    { "fail=", &fail_each },
};

static void
on_signal(int number)
{
    (void)number;
    saga_consumer_stop(consumer);
}

/* The server has something to say without being asked. */
static void
wait_for_its_end(PGconn *tx)
{
    struct pollfd server = { .fd = PQsocket(tx), .events = POLLIN };

    puts("holding");
    fflush(stdout);
    while (poll(&server, 1, -1) < 0 && errno == EINTR)
        continue;
}

/* Also where the failing statement is hidden: then the consumer has to notice. */
static int
fail(PGconn *tx)
{
    if (calls / fail_each % 2 == 0)
        return SAGA_HANDLER_RETRY;
    PQclear(PQexec(tx, "SELECT 1 / 0"));
    return calls / fail_each % 4 == 1 ? 0 : -5;
}

static int
apply_effect(PGconn *tx, const struct saga_record *record, void *user, struct saga_error *err)
{
    char id[37];
    const char *values[] = { id, options.group, record->key.data, record->payload.data };
    const int lengths[] = { 0, 0, (int)record->key.len, (int)record->payload.len };
    static const int formats[] = { 0, 0, 1, 1 };
    PGresult *result;
    int rc = -5;

    (void)user;
    (void)err;
    saga_uuid_text(&record->id, id);
    result = PQexecParams(tx,
                          "INSERT INTO effect (message_id, consumer, key, value)"
                          " VALUES ($1, $2, $3, $4)",
                          4, NULL, values, lengths, formats, 0);
    if (PQresultStatus(result) == PGRES_COMMAND_OK)
        rc = 0;
    PQclear(result);
    if (hold) {
        hold = false;
        wait_for_its_end(tx);
    }
    calls++;
    if (poison && record->payload.len >= 3 && memcmp(record->payload.data, "bad", 3) == 0)
        return SAGA_HANDLER_RETRY;
    return fail_each > 0 && calls % fail_each == 0 ? fail(tx) : rc;
}

static int
apply_effects(PGconn *tx, const struct saga_record *const *records, size_t n, void *user,
              struct saga_error *err)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = apply_effect(tx, records[i], user, err);
    return rc;
}

static bool
read_number(const char *arg)
{
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (strncmp(arg, numbers[i].name, strlen(numbers[i].name)) == 0) {
            *numbers[i].value = atoi(arg + strlen(numbers[i].name));
            return true;
        }
    return false;
}

static int
read_properties(char **args, struct saga_pair *properties)
{
    size_t n = 0;

    for (; *args != NULL && n < 15; args++) {
        char *equals = strchr(*args, '=');

        if (strcmp(*args, "hold") == 0) {
            hold = true;
        } else if (strcmp(*args, "poison") == 0) {
            poison = true;
        } else if (strcmp(*args, "many") == 0) {
            many = true;
        } else if (read_number(*args)) {
            continue;
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
    options.conninfo = argv[1];
    options.group = argv[2];
    options.brokers = argv[3];
    options.redis = strcmp(argv[4], "-") == 0 ? NULL : argv[4];
    options.properties = properties;
    options.log.write = log_to_stderr;

    rc = saga_consumer_new(&consumer, &options, &err);
    signal(SIGTERM, on_signal);
    if (rc == 0)
        rc = many ? saga_consumer_subscribe_batch(consumer, argv[5], apply_effects, NULL, &err)
                  : saga_consumer_subscribe(consumer, argv[5], apply_effect, NULL, &err);
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
