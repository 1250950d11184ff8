/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shipping service: books parcels to a place, if anybody goes there, and
 * cancels them.
 */
#include "service.h"

static int
ship(struct saga_ctx *ctx, void *user)
{
    int rc = saga_exec(ctx, "nobody ships there",
                       "UPDATE route SET booked = booked + $2::bigint WHERE destination = $1",
                       SAGA_TEXTS(saga_get(ctx, "destination"), saga_get(ctx, "quantity")));

    (void)user;
    return rc != SAGA_DONE ? rc : journal(ctx, "ship", "run", "destination", "quantity");
}

static int
cancel_shipment(struct saga_ctx *ctx, void *user)
{
    int rc =
        saga_exec(ctx, NULL, "UPDATE route SET booked = booked - $2::bigint WHERE destination = $1",
                  SAGA_TEXTS(saga_get(ctx, "destination"), saga_get(ctx, "quantity")));

    (void)user;
    return rc != SAGA_DONE ? rc : journal(ctx, "ship", "compensate", "destination", "quantity");
}

static const struct saga_step steps[] = {
    { .name = "ship", .run = ship, .compensate = cancel_shipment },
};
static const struct saga_definition shipping = { SAGA_DEFINITION("shipping", steps) };

int
main(int argc, char **argv)
{
    return service_participate(argc, argv, &shipping);
}
