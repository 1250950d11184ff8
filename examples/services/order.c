/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order service, the saga's orchestrator:
 *
 *     accept → reserve → charge → ship → confirm
 *
 * The first and the last are its own, in its own database; the others are
 * commands to three services, and that one of them answers later is not seen here.
 * Until the order is confirmed anybody may refuse, the customer too; then what was
 * done is undone in reverse order.
 */
#include "order.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

static int
accept_order(struct saga_ctx *ctx, void *user)
{
    int rc = saga_exec(ctx, NULL, "UPDATE orders SET status = 'accepted' WHERE id = $1",
                       SAGA_TEXTS(saga_get(ctx, "order")));

    (void)user;
    return rc != SAGA_DONE ? rc : journal(ctx, "accept", "run", "customer", "cents");
}

static int
cancel_order(struct saga_ctx *ctx, void *user)
{
    int rc = saga_exec(ctx, NULL,
                       "UPDATE orders SET status = 'cancelled', ended_at = clock_timestamp()"
                       " WHERE id = $1",
                       SAGA_TEXTS(saga_get(ctx, "order")));

    (void)user;
    return rc != SAGA_DONE ? rc : journal(ctx, "accept", "compensate", "customer", "cents");
}

static int
confirm(struct saga_ctx *ctx, void *user)
{
    int rc = saga_exec(ctx, "withdrawn by the customer",
                       "UPDATE orders SET status = 'completed', ended_at = clock_timestamp()"
                       " WHERE id = $1 AND NOT withdrawn",
                       SAGA_TEXTS(saga_get(ctx, "order")));

    (void)user;
    return rc != SAGA_DONE ? rc : journal(ctx, "confirm", "run", "customer", "cents");
}

static struct saga_step steps[] = {
    { .name = "accept", .run = accept_order, .compensate = cancel_order },
    { .name = "reserve", .command_topic = "inventory.commands" },
    { .name = "charge", .command_topic = "payment.commands" },
    { .name = "ship", .command_topic = "shipping.commands" },
    { .name = "confirm", .kind = SAGA_PIVOT, .run = confirm },
};
struct saga_definition order_saga = { SAGA_DEFINITION("order", steps) };

/* --- running it -------------------------------------------------------------- */

enum { WORKERS_MAX = 16 };

static struct saga_consumer *replies;
static struct saga_worker *workers[WORKERS_MAX];
static int n_workers;
static volatile sig_atomic_t stopped;

static void
stop_all(int signal_number)
{
    (void)signal_number;
    stopped = 1;
    saga_consumer_stop(replies);
    for (int i = 0; i < n_workers; i++)
        saga_worker_stop(workers[i]);
}

/* A worker that knows the saga. While the database cannot be reached, it is
 * asked again. */
static int
add_worker(const struct service *service, struct saga_error *err)
{
    struct saga_worker *worker;
    int rc = saga_worker_new(&worker,
                             &(struct saga_worker_options){ SAGA_WORKER_OPTIONS,
                                                            .conninfo = service->database,
                                                            .log = service->log },
                             err);

    if (rc != 0)
        return rc;
    while ((rc = saga_worker_add(worker, &order_saga, NULL, err)) != 0 &&
           (err->flags & SAGA_ERR_RETRIABLE) != 0 && !stopped)
        nanosleep(&(struct timespec){ .tv_nsec = 500000000 }, NULL);
    workers[n_workers++] = worker;
    return rc;
}

/* NULL if all is well. */
static void *
work(void *worker)
{
    struct saga_error err;

    if (saga_worker_run(worker, SAGA_RUN_UNTIL_STOP, &err) != 0) {
        service_failed(&(struct service){ .name = "order" }, "a worker ends", &err);
        stop_all(0);
        return worker;
    }
    return NULL;
}

/* The workers on threads of their own, the replies on this one. */
static int
run_until_stop(struct saga_error *err)
{
    pthread_t threads[WORKERS_MAX];
    void *failed = NULL, *result;
    int rc, n = 0;

    while (n < n_workers && pthread_create(&threads[n], NULL, work, workers[n]) == 0)
        n++;
    rc = saga_consumer_run(replies, SAGA_CONSUME_UNTIL_STOP, err);
    stop_all(0);
    while (n > 0) {
        pthread_join(threads[--n], &result);
        if (result != NULL)
            failed = result;
    }
    return rc == 0 && failed != NULL ? SAGA_ESTATE : rc;
}

static int
orchestrate(const struct service *service)
{
    struct saga_error err = { 0 };
    int rc = service_consumer(service, &replies, &err);

    if (rc == 0)
        rc = saga_consumer_replies(replies, &order_saga, &err);
    service_on_stop(stop_all);
    for (int i = 0; rc == 0 && i < service->workers && i < WORKERS_MAX; i++)
        rc = add_worker(service, &err);
    if (rc == 0 && service->until_idle) {
        rc = saga_consumer_run(replies, SAGA_CONSUME_UNTIL_IDLE, &err);
        if (rc == 0)
            rc = saga_worker_run(workers[0], SAGA_RUN_UNTIL_IDLE, &err);
    } else if (rc == 0) {
        rc = run_until_stop(&err);
    }
    if (rc != 0 && !stopped)
        service_failed(service, "ends", &err);
    for (int i = 0; i < n_workers; i++)
        saga_worker_free(workers[i]);
    service_consumer_end(replies);
    return rc == 0 ? 0 : 1;
}

int
main(int argc, char **argv)
{
    struct service service;

    service_init(&service, "order", argc, argv);
    steps[1].command_topic = service_topic(&service, "inventory", "commands");
    steps[2].command_topic = service_topic(&service, "payment", "commands");
    steps[3].command_topic = service_topic(&service, "shipping", "commands");
    for (int i = 1; i <= 3; i++)
        steps[i].timeout_ms = service.reply_ms;
    order_saga.reply_topic = service_topic(&service, "order", "replies");
    return service.place > 0 ? place_orders(&service) : orchestrate(&service);
}
