/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Customers: places orders. The order's row and its saga start in one transaction.
 *
 * Before each order it writes down what it intends, and afterwards how that
 * went, each with fsync, so that somebody else can hold the shop to it. Killed
 * and started again, it goes on with the next order.
 */
#include "order.h"

#include <fcntl.h>
#include <libpq-fe.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct order {
    char id[32], quantity[12], cents[24];
    const char *customer, *sku, *destination;
    bool regretted; /* the customer withdraws it at once */
};

static volatile sig_atomic_t stopped;

static void
stop_placing(int signal_number)
{
    (void)signal_number;
    stopped = 1;
}

/* The n-th order is the same in every run. Now and then somebody wants a unicorn,
 * is short of money, lives where nobody ships to, or thinks better of it. */
static struct order
nth_order(int n)
{
    static const char *const customers[] = { "ann", "bob", "carol", "dave" };
    static const char *const skus[] = { "lamp", "chair", "desk" };
    static const char *const places[] = { "Lima", "Oslo", "Rome", "Tunis" };
    static const int prices[] = { 1999, 4950, 12900 };
    struct order order = { .customer = n % 8 == 3 ? "zoe" : customers[n / 3 % 4],
                           .sku = n % 40 == 20 ? "unicorn" : skus[n % 3],
                           .destination = n % 10 == 7 ? "Atlantis" : places[n % 4],
                           .regretted = n % 25 == 9 };
    int quantity = 1 + n % 4;

    snprintf(order.id, sizeof order.id, "order-%06d", n);
    snprintf(order.quantity, sizeof order.quantity, "%d", quantity);
    snprintf(order.cents, sizeof order.cents, "%d", quantity * prices[n % 3]);
    return order;
}

/* The order and its saga, or neither. */
static int
place(PGconn *conn, const struct order *order, struct saga_error *err)
{
    const char *const row[] = { order->id,       order->customer, order->sku,
                                order->quantity, order->cents,    order->destination };
    PGresult *inserted;
    int rc = saga_begin(conn, err);

    if (rc != 0)
        return rc;
    inserted = PQexecParams(conn,
                            "INSERT INTO orders (id, customer, sku, quantity, cents, destination)"
                            " VALUES ($1, $2, $3, $4, $5, $6)",
                            6, NULL, row, NULL, NULL, 0);
    PQclear(inserted); /* if it failed, so does what follows */
    rc = saga_start(conn, &order_saga, order->id,
                    SAGA_PAIRS({ "order", order->id }, { "customer", order->customer },
                               { "sku", order->sku }, { "quantity", order->quantity },
                               { "cents", order->cents }, { "destination", order->destination }),
                    NULL, err);
    if (rc == 0)
        return saga_commit(conn, err);
    saga_rollback(conn);
    return rc;
}

/* Too late once the order is confirmed. */
static void
withdraw(PGconn *conn, const struct order *order)
{
    const char *const id[] = { order->id };

    PQclear(PQexecParams(conn,
                         "UPDATE orders SET withdrawn = true"
                         " WHERE id = $1 AND status IN ('placed', 'accepted')",
                         1, NULL, id, NULL, NULL, 0));
}

/* A line that is there after a crash of the machine, before it returns. */
static void __attribute__((format(printf, 2, 3))) write_down(int fd, const char *format, ...)
{
    char line[256];
    va_list args;
    int len;

    va_start(args, format);
    len = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (write(fd, line, (size_t)len) != len || fdatasync(fd) != 0) {
        perror("order: the log of intents");
        exit(1);
    }
}

/* How far an earlier run came: the number of orders it had intended. */
static int
placed_before(const char *path)
{
    FILE *file = fopen(path, "r");
    char line[256];
    int n = 0, last = 0;

    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "intended\torder-%d\t", &n) == 1)
            last = n;
    }
    if (file != NULL)
        fclose(file);
    return last;
}

static void
pause_ms(int64_t ms)
{
    if (ms > 0 && !stopped)
        nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000 }, NULL);
}

static int64_t
now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

/* Until it is placed, or nobody knows. */
static const char *
place_patiently(PGconn *conn, const struct order *order)
{
    struct saga_error err;
    int rc;

    while ((rc = place(conn, order, &err)) != 0) {
        if (rc == SAGA_EUNKNOWN)
            return "unknown";
        if (stopped)
            return "failed";
        fprintf(stderr, "order: %s is not placed yet: %s\n", order->id, err.message);
        pause_ms(200);
        if (PQstatus(conn) != CONNECTION_OK)
            PQreset(conn);
    }
    if (order->regretted)
        withdraw(conn, order);
    return "committed";
}

int
place_orders(const struct service *service)
{
    int first = placed_before(service->intents) + 1;
    int fd = open(service->intents, O_WRONLY | O_CREAT | O_APPEND, 0644);
    PGconn *conn = PQconnectdb(service->database);
    int64_t start = now_ms();

    if (fd < 0) {
        perror(service->intents);
        return 1;
    }
    service_on_stop(stop_placing);
    for (int n = first; n <= service->place && !stopped; n++) {
        struct order order = nth_order(n);

        write_down(fd, "intended\t%s\t%s\t%s\t%s\t%s\t%s\n", order.id, order.customer, order.sku,
                   order.quantity, order.cents, order.destination);
        write_down(fd, "%s\t%s\n", place_patiently(conn, &order), order.id);
        if (service->per_second > 0)
            pause_ms(start + (n - first + 1) * INT64_C(1000) / service->per_second - now_ms());
    }
    PQfinish(conn);
    close(fd);
    return 0;
}
