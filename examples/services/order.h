/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The order service's two halves: order.c runs the saga, place.c starts it.
 */
#ifndef ORDER_H
#define ORDER_H

#include "service.h"

/* accept, reserve, charge, ship, confirm. */
extern struct saga_definition order_saga;

/* Places orders as --place, --per-second and --intents say. An exit code. */
int place_orders(const struct service *service);

#endif
