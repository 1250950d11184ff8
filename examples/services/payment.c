/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The payment service: moves money from a customer to the shop, and back.
 */
#include "service.h"

/* Locks the customer's row first and the shop's row second, both ways, so that two
 * payments never wait for each other. */
static int
move(struct saga_ctx *ctx, const char *refusal, const char *from_customer, const char *to_shop)
{
    int rc = saga_exec(ctx, refusal, from_customer,
                       SAGA_TEXTS(saga_get(ctx, "customer"), saga_get(ctx, "cents")));

    return rc != SAGA_DONE ? rc : saga_exec(ctx, NULL, to_shop, SAGA_TEXTS(saga_get(ctx, "cents")));
}

static int
charge(struct saga_ctx *ctx, void *user)
{
    int rc = move(ctx, "not enough money",
                  "UPDATE account SET cents = cents - $2::bigint"
                  " WHERE owner = $1 AND cents >= $2::bigint",
                  "UPDATE account SET cents = cents + $1::bigint WHERE owner = 'shop'");

    (void)user;
    return rc != SAGA_DONE ? rc : journal(ctx, "charge", "run", "customer", "cents");
}

static int
refund(struct saga_ctx *ctx, void *user)
{
    int rc = move(ctx, NULL, "UPDATE account SET cents = cents + $2::bigint WHERE owner = $1",
                  "UPDATE account SET cents = cents - $1::bigint WHERE owner = 'shop'");

    (void)user;
    return rc != SAGA_DONE ? rc : journal(ctx, "charge", "compensate", "customer", "cents");
}

static const struct saga_step steps[] = {
    { .name = "charge", .run = charge, .compensate = refund },
};
static const struct saga_definition payment = { SAGA_DEFINITION("payment", steps) };

int
main(int argc, char **argv)
{
    return service_participate(argc, argv, &payment, NULL);
}
