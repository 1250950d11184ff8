/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Services that enqueue: clients of the database, each in a thread, which write
 * messages in transactions as fast as they can, or all together at a rate.
 *
 *     write CONNINFO TOPIC CLIENTS MESSAGES_PER_TRANSACTION SECONDS [RATE]
 *
 * Ends early on SIGTERM. Prints how many messages were committed, and in how
 * many seconds.
 */
#include "bench/bench.h"

#include <libpq-fe.h>
#include <pthread.h>
#include <saga/outbox.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>

enum { CLIENTS_MAX = 64, PER_TRANSACTION_MAX = 1000 };

static struct {
    const char *conninfo, *topic;
    int clients, per_transaction;
    int64_t begin, end;
    double rate; /* transactions of one client in a second; 0: as fast as it can */
} plan;
static atomic_long committed;
static atomic_bool stop;

static void
on_signal(int signal)
{
    (void)signal;
    atomic_store(&stop, true);
}

static void
write_one(PGconn *conn, int client, long n)
{
    static const char payload[PAYLOAD_BYTES] = { 'x' };
    const struct saga_pair *headers = SAGA_PAIRS({ "kind", KIND }, { "traceparent", TRACEPARENT });
    struct saga_message messages[PER_TRANSACTION_MAX];
    char keys[PER_TRANSACTION_MAX][24];
    struct saga_error err;

    for (int i = 0; i < plan.per_transaction; i++) {
        snprintf(keys[i], sizeof keys[i], "key-%d-%ld", client, (n + i) % KEYS);
        messages[i] = (struct saga_message){ .topic = plan.topic,
                                             .key = keys[i],
                                             .headers = headers,
                                             .payload = { payload, sizeof payload } };
    }
    if (saga_begin(conn, &err) != 0 ||
        saga_enqueue(conn, messages, (size_t)plan.per_transaction, NULL, &err) != 0 ||
        saga_commit(conn, &err) != 0)
        die("%s", err.message);
}

static void *
run_client(void *number)
{
    PGconn *conn = PQconnectdb(plan.conninfo);
    int client = (int)(intptr_t)number;

    for (long n = 0; !atomic_load(&stop) && now_ns() < plan.end; n++) {
        if (plan.rate > 0)
            sleep_until(plan.begin + (int64_t)((double)n / plan.rate * 1e9));
        write_one(conn, client, n * plan.per_transaction);
        atomic_fetch_add(&committed, plan.per_transaction);
    }
    PQfinish(conn);
    return NULL;
}

int
main(int argc, char **argv)
{
    pthread_t threads[CLIENTS_MAX];

    if (argc != 6 && argc != 7)
        die("usage: write CONNINFO TOPIC CLIENTS MESSAGES_PER_TRANSACTION SECONDS [RATE]");
    plan.conninfo = argv[1];
    plan.topic = argv[2];
    plan.clients = atoi(argv[3]);
    plan.per_transaction = atoi(argv[4]);
    if (plan.clients < 1 || plan.clients > CLIENTS_MAX || plan.per_transaction < 1 ||
        plan.per_transaction > PER_TRANSACTION_MAX)
        die("at most %d clients and %d messages", CLIENTS_MAX, PER_TRANSACTION_MAX);
    plan.rate = argc == 7 ? atof(argv[6]) / plan.clients / plan.per_transaction : 0;
    signal(SIGTERM, on_signal);
    plan.begin = now_ns();
    plan.end = plan.begin + atol(argv[5]) * 1000000000;
    for (int i = 0; i < plan.clients; i++)
        pthread_create(&threads[i], NULL, run_client, (void *)(intptr_t)i);
    for (int i = 0; i < plan.clients; i++)
        pthread_join(threads[i], NULL);
    printf("%ld %.3f\n", atomic_load(&committed), (double)(now_ns() - plan.begin) / 1e9);
    return 0;
}
