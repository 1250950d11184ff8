/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shipping service: takes parcels in, and answers for each when it is picked
 * up, or when it turns out that nobody goes there; cancels them.
 *
 * The table `parcel` is all that the two sides share. A parcel without an answer
 * waits for one, whoever has died since it was taken in.
 */
#include "service.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <time.h>

enum { LOOK_MS = 20, FAILED_MS = 500 };

/* Only taken in: the parcel and its token stay, and nothing is replied yet. */
static int
ship(struct saga_ctx *ctx, void *user)
{
    int rc = saga_exec(ctx, NULL,
                       "INSERT INTO parcel (order_id, destination, quantity, token)"
                       " VALUES ($1, $2, $3, $4)",
                       SAGA_TEXTS(saga_get(ctx, "order"), saga_get(ctx, "destination"),
                                  saga_get(ctx, "quantity"), saga_token(ctx)));

    (void)user;
    return rc != SAGA_DONE ? rc : SAGA_WAIT;
}

/* Called for a parcel that still waits, too: that one is called back, and there is
 * nothing more to undo. */
static int
cancel_shipment(struct saga_ctx *ctx, void *user)
{
    int rc =
        saga_exec(ctx, NULL,
                  "UPDATE parcel SET answer = 'called back' WHERE order_id = $1 AND answer IS NULL",
                  SAGA_TEXTS(saga_get(ctx, "order")));

    (void)user;
    return rc != SAGA_DONE
               ? rc
               : saga_exec(ctx, NULL,
                           "WITH unbooked AS (UPDATE route r SET booked = booked - p.quantity"
                           "   FROM parcel p WHERE p.order_id = $1 AND p.answer = 'done'"
                           "    AND r.destination = p.destination RETURNING p.*)"
                           " INSERT INTO journal (order_id, step, action, what, amount)"
                           " SELECT order_id, 'ship', 'compensate', destination, quantity"
                           "   FROM unbooked",
                           SAGA_TEXTS(saga_get(ctx, "order")));
}

static const struct saga_step steps[] = {
    { .name = "ship", .run = ship, .compensate = cancel_shipment },
};
static const struct saga_definition shipping = { SAGA_DEFINITION("shipping", steps) };

/* --- the answers -------------------------------------------------------------- */

static const char SQL_WAITING[] =
    "SELECT p.seq, p.token, r.destination IS NULL AS nowhere"
    "  FROM parcel p LEFT JOIN route r USING (destination) WHERE p.answer IS NULL ORDER BY p.seq";

/* What a parcel to nowhere does not book, it does not enter into the journal. */
static const char SQL_ANSWERED[] =
    "WITH answered AS (UPDATE parcel SET answer = $2 WHERE seq = $1 AND answer IS NULL"
    "    RETURNING *),"
    "  booked AS (UPDATE route r SET booked = booked + a.quantity"
    "    FROM answered a WHERE r.destination = a.destination RETURNING a.*)"
    " INSERT INTO journal (order_id, step, action, what, amount)"
    " SELECT order_id, 'ship', 'run', destination, quantity FROM booked";

/*
 * What becomes of the parcel and the answer are one transaction. The answer comes
 * first: it locks the step, as a command does, and the parcel is locked after that.
 * The other way round, this and cancel_shipment() could wait for each other. For a row
 * of `route`, which many parcels share, it and a batch of commands still can: then
 * PostgreSQL ends one of the two, and both come again, the batch one by one.
 */
static int
answer(PGconn *conn, const char *seq, const char *token, bool nowhere, struct saga_error *err)
{
    int rc = saga_begin(conn, err);

    if (rc == 0)
        rc = saga_reply(conn, token, nowhere ? SAGA_REFUSED : SAGA_DONE,
                        nowhere ? "nobody ships there" : NULL, NULL, err);
    if (rc == 0) {
        /* If this fails, so does the commit. */
        PQclear(PQexecParams(conn, SQL_ANSWERED, 2, NULL,
                             (const char *[]){ seq, nowhere ? "refused" : "done" }, NULL, NULL, 0));
        rc = saga_commit(conn, err);
    }
    saga_rollback(conn);
    /* Called back since we looked: cancel_shipment() has seen to it. */
    return rc == SAGA_EFENCED ? 0 : rc;
}

/* One that cannot be answered now does not hold up the others. */
static int
answer_waiting(PGconn *conn, struct saga_error *err)
{
    PGresult *parcels = PQexec(conn, SQL_WAITING);
    int rc = 0;

    if (PQresultStatus(parcels) != PGRES_TUPLES_OK) {
        snprintf(err->message, sizeof err->message, "%s", PQerrorMessage(conn));
        rc = SAGA_EDB;
    }
    for (int i = 0; i < PQntuples(parcels); i++) {
        struct saga_error failure;

        if (answer(conn, PQgetvalue(parcels, i, 0), PQgetvalue(parcels, i, 1),
                   *PQgetvalue(parcels, i, 2) == 't', &failure) != 0) {
            *err = failure;
            rc = failure.code;
        }
    }
    PQclear(parcels);
    return rc;
}

/* Looks once more after the service has taken in its last parcel. */
static void *
pick_up(void *arg)
{
    const struct service *service = arg;
    PGconn *conn = PQconnectdb(service->database);
    struct saga_error err;
    bool last;

    do {
        long pause_ms = LOOK_MS;

        last = service->ending;
        if (PQstatus(conn) != CONNECTION_OK)
            PQreset(conn);
        if (answer_waiting(conn, &err) != 0) {
            service_failed(service, "parcels go on waiting", &err);
            pause_ms = FAILED_MS;
        }
        if (!last)
            nanosleep(&(struct timespec){ .tv_nsec = pause_ms * 1000000 }, NULL);
    } while (!last);
    PQfinish(conn);
    return NULL;
}

int
main(int argc, char **argv)
{
    return service_participate(argc, argv, &shipping, pick_up);
}
