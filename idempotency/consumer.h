/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a consumer offers inside the library: routes with a choice. Everything
 * else is in <saga/consumer.h>.
 */
#ifndef IDEMPOTENCY_CONSUMER_H
#define IDEMPOTENCY_CONSUMER_H

#include <saga/consumer.h>

#include <stdbool.h>

/* A route's answer besides those of saga_handler_fn: this message cannot be
 * handled, now or later. Everything is rolled back, and it goes to
 * idempotency.quarantine with err->message as the reason; those behind it go
 * on. */
enum { ROUTE_QUARANTINE = 2 };

/*
 * As saga_handler_fn, and is told what the inbox said: SAGA_INBOX_NEW, or
 * SAGA_INBOX_DUPLICATE, which only a route with `answers` ever hears.
 */
typedef int route_fn(PGconn *tx, const struct saga_record *record, int32_t verdict, void *user,
                     struct saga_error *err);

struct consumer_route {
    const char *topic; /* copied */
    /* Somebody waits for an answer to each message: a Redis mark or a row in
     * the inbox never skips one; the handler is called for duplicates too. */
    bool answers;
    route_fn *handle;
    saga_handler_fn *plain;      /* instead of `handle`: it does not ask for the verdict */
    saga_batch_handler_fn *many; /* instead of both: all new ones of a batch at once */
    void *user;
    /* NULL, or frees `user` when the consumer is freed; not if the call fails. */
    void (*release)(void *user);
    int64_t horizon_ms; /* the consumer's: its topic's retention is not asked for before */
};

/* Contract: saga_consumer_subscribe(). `*route` is copied. */
int consumer_route(struct saga_consumer *consumer, const struct consumer_route *route,
                   struct saga_error *err);

/* The name that it goes by in the inbox; the barrier needs it. */
const char *consumer_group(const struct saga_consumer *consumer);

/* To log as the consumer does; alive as long as it is. */
const struct saga_log *consumer_log(const struct saga_consumer *consumer);

#endif
