/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inventory service: reserves goods and releases them.
 *
 * Each function runs inside a transaction that also holds the message's inbox
 * row and the reply, so it says only what changes in the business.
 */
#include "service.h"

static int
reserve(struct saga_ctx *ctx, void *user)
{
    int rc = saga_exec(ctx, "out of stock",
                       "UPDATE stock SET free = free - $2::bigint"
                       " WHERE sku = $1 AND free >= $2::bigint",
                       SAGA_TEXTS(saga_get(ctx, "sku"), saga_get(ctx, "quantity")));

    (void)user;
    return rc != SAGA_DONE ? rc : journal(ctx, "reserve", "run", "sku", "quantity");
}

static int
release(struct saga_ctx *ctx, void *user)
{
    int rc = saga_exec(ctx, NULL, "UPDATE stock SET free = free + $2::bigint WHERE sku = $1",
                       SAGA_TEXTS(saga_get(ctx, "sku"), saga_get(ctx, "quantity")));

    (void)user;
    return rc != SAGA_DONE ? rc : journal(ctx, "reserve", "compensate", "sku", "quantity");
}

static const struct saga_step steps[] = {
    { .name = "reserve", .run = reserve, .compensate = release },
};
static const struct saga_definition inventory = { SAGA_DEFINITION("inventory", steps) };

int
main(int argc, char **argv)
{
    return service_participate(argc, argv, &inventory, NULL);
}
