/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An order as a saga, in one process and one database: reserve the goods,
 * charge the customer, ship. What cannot go on is undone.
 *
 *     createdb shop && sagactl migrate up --database dbname=shop
 *     order_saga dbname=shop
 *
 * One order works, one is out of stock, one the customer cannot pay.
 */
#include <libpq-fe.h>
#include <saga/saga.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* --- the steps: each is one small transaction, or part of one ----------------- */

static int
reserve(struct saga_ctx *ctx, void *user)
{
    (void)user;
    return saga_exec(ctx, "out of stock",
                     "UPDATE order_saga.stock SET free = free - 1 WHERE sku = $1 AND free > 0",
                     SAGA_TEXTS(saga_get(ctx, "sku")));
}

static int
release(struct saga_ctx *ctx, void *user)
{
    (void)user;
    return saga_exec(ctx, NULL, "UPDATE order_saga.stock SET free = free + 1 WHERE sku = $1",
                     SAGA_TEXTS(saga_get(ctx, "sku")));
}

/* The point of no return: once the money is taken, the order is carried out. */
static int
charge(struct saga_ctx *ctx, void *user)
{
    (void)user;
    return saga_exec(ctx, "not enough money",
                     "UPDATE order_saga.account SET cents = cents - $2"
                     " WHERE customer = $1 AND cents >= $2",
                     SAGA_TEXTS(saga_get(ctx, "customer"), saga_get(ctx, "cents")));
}

static int
ship(struct saga_ctx *ctx, void *user)
{
    (void)user;
    return saga_exec(ctx, NULL, "INSERT INTO order_saga.parcel (customer, sku) VALUES ($1, $2)",
                     SAGA_TEXTS(saga_get(ctx, "customer"), saga_get(ctx, "sku")));
}

static const struct saga_step steps[] = {
    { .name = "reserve", .run = reserve, .compensate = release },
    { .name = "charge", .kind = SAGA_PIVOT, .run = charge },
    { .name = "ship", .kind = SAGA_RETRIABLE, .run = ship },
};
static const struct saga_definition order = { SAGA_DEFINITION("order", steps) };

static struct saga_error err; /* of the call before */

static const char tables[] =
    "DROP SCHEMA IF EXISTS order_saga CASCADE; CREATE SCHEMA order_saga;"
    "CREATE TABLE order_saga.stock (sku text PRIMARY KEY, free int NOT NULL);"
    "CREATE TABLE order_saga.account (customer text PRIMARY KEY, cents int NOT NULL);"
    "CREATE TABLE order_saga.orders (number text PRIMARY KEY);"
    "CREATE TABLE order_saga.parcel (customer text NOT NULL, sku text NOT NULL);"
    "INSERT INTO order_saga.stock VALUES ('lamp', 10), ('sofa', 0);"
    "INSERT INTO order_saga.account VALUES ('ada', 5000), ('bob', 100);";

static void
check(int rc, const struct saga_error *error)
{
    if (rc == 0)
        return;
    fprintf(stderr, "order_saga: %s (%s)\n", error->message, saga_error_name(rc));
    exit(1);
}

static void
sql(PGconn *conn, const char *text)
{
    PGresult *result = PQexec(conn, text);

    if (PQresultStatus(result) != PGRES_COMMAND_OK) {
        fprintf(stderr, "order_saga: %s", PQerrorMessage(conn));
        exit(1);
    }
    PQclear(result);
}

/* The order and its saga are one transaction: both are there, or neither. */
static struct saga_uuid
place_order(PGconn *conn, const char *customer, const char *sku)
{
    static int n;
    const struct saga_pair *values =
        SAGA_PAIRS({ "customer", customer }, { "sku", sku }, { "cents", "1999" });
    struct saga_uuid id;
    char number[40], insert[100];

    /* Another in each run: a saga is started once for each business key. */
    snprintf(number, sizeof number, "order-%d-%d", (int)getpid(), ++n);
    snprintf(insert, sizeof insert, "INSERT INTO order_saga.orders VALUES ('%s')", number);
    check(saga_begin(conn, &err), &err);
    sql(conn, insert);
    check(saga_start(conn, &order, number, values, &id, &err), &err);
    check(saga_commit(conn, &err), &err);
    return id;
}

static void
show(PGconn *conn, const char *what, const struct saga_uuid *id)
{
    const char *state;
    char text[37];

    saga_uuid_text(id, text);
    check(saga_state(conn, id, &state, &err), &err);
    printf("%-26s %-12s sagactl show %s\n", what, state, text);
}

int
main(int argc, char **argv)
{
    const char *conninfo = argc > 1 ? argv[1] : "";
    struct saga_worker_options options = { SAGA_WORKER_OPTIONS, .conninfo = conninfo };
    PGconn *conn = PQconnectdb(conninfo);
    struct saga_worker *worker;
    struct saga_uuid lamp, sofa, poor;

    check(saga_worker_new(&worker, &options, &err), &err);
    check(saga_worker_add(worker, &order, NULL, &err), &err);
    sql(conn, "SET client_min_messages = warning");
    sql(conn, tables);

    lamp = place_order(conn, "ada", "lamp");
    sofa = place_order(conn, "ada", "sofa");
    poor = place_order(conn, "bob", "lamp");
    check(saga_worker_run(worker, SAGA_RUN_UNTIL_IDLE, &err), &err);

    show(conn, "ada's lamp:", &lamp);
    show(conn, "ada's sofa, out of stock:", &sofa);
    show(conn, "bob's lamp, no money:", &poor);
    saga_worker_free(worker);
    PQfinish(conn);
    return 0;
}
