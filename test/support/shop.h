/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The whole shop of examples/services on the shared servers, with databases
 * and topics of its own: who can be started there, what is fed to it, and what
 * the outside checker says of it.
 *
 * Knows nothing of when to start or kill whom; that is the test's.
 */
#ifndef TEST_SHOP_H
#define TEST_SHOP_H

#include "test/support/process.h"

#include <libpq-fe.h>

enum { SHOP_ORDER, SHOP_INVENTORY, SHOP_PAYMENT, SHOP_SHIPPING, SHOP_SERVICES };

struct shop {
    const char *prefix; /* of topics and groups */
    const char *databases[SHOP_SERVICES];
    const char *intents;      /* what the customers wrote down */
    const char *relay_config; /* small pages, so that a burst takes many */
    PGconn *orders;           /* to look into the order service's database */
    bool python;              /* the shipping service is examples/python_participant */
    int reply_ms;             /* the orchestrator asks again after so long; 0: the default */
    int placed;               /* orders that customers were told to place */
};

/* Databases, topics and logins; nobody runs yet. */
struct shop *given_shop(void);

/* The name of a service: "order", "inventory", ... */
const char *shop_service_name(int service);

/* Each starts one process. Of a service there may be several `instance`s; one
 * that was killed gets its partitions back at once if it has the same number. */
struct process *shop_service(const struct shop *shop, int service, int instance,
                             const char *const *environment);
struct process *shop_relay(const struct shop *shop, int service, const char *const *environment);

/* Customers who place the orders up to `shop->placed` and end. */
struct process *shop_customers(const struct shop *shop, const char *const *environment);

/* Commands that the orchestrator had to send again, not counting ours. */
int shop_sent_again(const struct shop *shop);

/* Orders whose saga has not ended. */
int shop_unfinished(const struct shop *shop);

/*
 * What no customer causes: a command that came already comes again under a new
 * id; for each participant, a saga that nobody knows of is undone first and done
 * afterwards, twice each; a parcel is called back as soon as it is taken in; and
 * `burst` messages to nobody in one transaction. None
 * may have an effect.
 */
void shop_send_oddities(const struct shop *shop, int burst);

/* What check-shop prints; fails the test, with that, if any invariant is violated,
 * or if the oddities were not answered as they must be.
 * `ms`: the last messages may be on their way for so long. */
const char *shop_check(const struct shop *shop, int ms);

/* The number behind a label of that; 0 if it is not there. */
long shop_figure(const char *checked, const char *label);

#endif
