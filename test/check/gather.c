/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Brings the facts together: what the databases hold and what the clients
 * logged, in the temporary tables of one session.
 */
#include "check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const service_names[N_SERVICES] = { "order", "inventory", "payment",
                                                       "shipping" };

/* Everything by its plain name, so that an invariant reads like a sentence. */
static const char SQL_SCRATCH[] =
    "SET client_min_messages = warning;"
    "CREATE TEMP TABLE intended (order_id text, customer text, sku text, quantity bigint,"
    "    cents bigint, destination text);"
    "CREATE TEMP TABLE outcome (outcome text, order_id text);"
    "CREATE TEMP TABLE orders (order_id text, customer text, sku text, quantity bigint,"
    "    cents bigint, destination text, status text, withdrawn boolean, took interval);"
    "CREATE TEMP TABLE saga (id uuid, order_id text, state text, reason text);"
    "CREATE TEMP TABLE journal (service text, seq bigint, order_id text, step text, action text,"
    "    what text, amount bigint, done_at timestamptz);"
    "CREATE TEMP TABLE stock (sku text, opening bigint, free bigint);"
    "CREATE TEMP TABLE account (owner text, opening bigint, cents bigint);"
    "CREATE TEMP TABLE route (destination text, booked bigint);"
    "CREATE TEMP TABLE parcel (order_id text, token text, answer text);"
    "CREATE TEMP TABLE message (service text, seq bigint, id uuid, topic text, key text,"
    "    payload bytea);"
    "CREATE TEMP TABLE inbox (service text, id uuid);"
    "CREATE TEMP TABLE topic (name text, part int, low bigint, high bigint);"
    "CREATE TEMP TABLE record (topic text, part int, pos bigint, id uuid, key text,"
    "    payload bytea);"
    /* The steps in their order; `confirm` is the point of no return. */
    "CREATE TEMP TABLE plan (position int, step text, service text);"
    "INSERT INTO plan VALUES (1, 'accept', 'order'), (2, 'reserve', 'inventory'),"
    "    (3, 'charge', 'payment'), (4, 'ship', 'shipping'), (5, 'confirm', 'order');";

/* Once all is there. */
static const char SQL_DERIVED[] =
    "CREATE TEMP VIEW effect AS"
    "    SELECT order_id, position, step, coalesce(sum(1) FILTER (WHERE action = 'run'), 0) AS "
    "done,"
    "        coalesce(sum(1) FILTER (WHERE action = 'compensate'), 0) AS undone"
    "    FROM journal JOIN plan USING (step) GROUP BY 1, 2, 3;"
    /* Where each message first appeared, by which duplicates are removed. */
    "CREATE TEMP TABLE first_record AS"
    "    SELECT topic, part, id, min(pos) AS pos FROM record GROUP BY 1, 2, 3;"
    "CREATE INDEX ON first_record (id); CREATE INDEX ON message (id);"
    "CREATE INDEX ON journal (order_id); CREATE INDEX ON orders (order_id);"
    "ANALYZE intended, outcome, orders, saga, journal, message, inbox, record, first_record;";

/* What is copied from where; %s is the service's name. */
static const struct {
    int from; /* N_SERVICES: from each */
    const char *into, *select;
} facts[] = {
    { SERVICE_ORDER, "orders",
      "SELECT id, customer, sku, quantity, cents, destination, status, withdrawn,"
      " ended_at - placed_at FROM public.orders" },
    { SERVICE_ORDER, "saga",
      "SELECT id, business_key, state, reason FROM saga.instance WHERE definition = 'order'" },
    { SERVICE_INVENTORY, "stock", "SELECT sku, opening, free FROM public.stock" },
    { SERVICE_PAYMENT, "account", "SELECT owner, opening, cents FROM public.account" },
    { SERVICE_SHIPPING, "route", "SELECT destination, booked FROM public.route" },
    { SERVICE_SHIPPING, "parcel", "SELECT order_id, token, answer FROM public.parcel" },
    { N_SERVICES, "journal",
      "SELECT '%s', seq, order_id, step, action, what, amount, done_at FROM public.journal" },
    { N_SERVICES, "message",
      "SELECT '%s', seq, message_id, topic, key, payload FROM outbox.message" },
    { N_SERVICES, "inbox", "SELECT '%s', message_id FROM idempotency.inbox" },
};

static PGconn *
connect_to(const char *conninfo)
{
    PGconn *conn = PQconnectdb(conninfo);

    if (PQstatus(conn) != CONNECTION_OK)
        die("%s", PQerrorMessage(conn));
    return conn;
}

static void
run(PGconn *conn, const char *sql)
{
    PGresult *result = PQexec(conn, sql);

    if (PQresultStatus(result) != PGRES_COMMAND_OK)
        die("%s%s", PQerrorMessage(conn), sql);
    PQclear(result);
}

void
copy_begin(PGconn *scratch, const char *into)
{
    char sql[128];
    PGresult *result;

    snprintf(sql, sizeof sql, "COPY %s FROM STDIN", into);
    result = PQexec(scratch, sql);
    if (PQresultStatus(result) != PGRES_COPY_IN)
        die("%s", PQerrorMessage(scratch));
    PQclear(result);
}

void
copy_bytes(PGconn *scratch, const char *bytes, size_t len)
{
    if (PQputCopyData(scratch, bytes, (int)len) != 1)
        die("%s", PQerrorMessage(scratch));
}

void
copy_end(PGconn *scratch)
{
    PGresult *result;

    if (PQputCopyEnd(scratch, NULL) != 1)
        die("%s", PQerrorMessage(scratch));
    while ((result = PQgetResult(scratch)) != NULL) {
        if (PQresultStatus(result) != PGRES_COMMAND_OK)
            die("%s", PQerrorMessage(scratch));
        PQclear(result);
    }
}

/* One query's rows, from a service's database into a scratch table. */
static void
copy_over(PGconn *source, const char *select, PGconn *scratch, const char *into)
{
    char sql[512], *row;
    int len;
    PGresult *result;

    snprintf(sql, sizeof sql, "COPY (%s) TO STDOUT", select);
    result = PQexec(source, sql);
    if (PQresultStatus(result) != PGRES_COPY_OUT)
        die("%s", PQerrorMessage(source));
    PQclear(result);
    copy_begin(scratch, into);
    while ((len = PQgetCopyData(source, &row, 0)) > 0) {
        copy_bytes(scratch, row, (size_t)len);
        PQfreemem(row);
    }
    copy_end(scratch);
    while ((result = PQgetResult(source)) != NULL) {
        if (PQresultStatus(result) != PGRES_COMMAND_OK)
            die("%s", PQerrorMessage(source));
        PQclear(result);
    }
}

static void
gather_service(PGconn *scratch, const char *conninfo, int service)
{
    PGconn *source = connect_to(conninfo);
    char select[256];

    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++) {
        if (facts[i].from != service && facts[i].from != N_SERVICES)
            continue;
            /* Only our own constants above are formats here. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(select, sizeof select, facts[i].select, service_names[service]);
#pragma GCC diagnostic pop
        copy_over(source, select, scratch, facts[i].into);
    }
    PQfinish(source);
}

/* A line is `intended<tab>` and the order as COPY reads it, or how it went and
 * which order. One without an end was being written when its client died. */
static void
gather_intents(PGconn *scratch, const char *path, const char *into, bool intended)
{
    FILE *file = fopen(path, "r");
    char *line = NULL, *tab, *row;
    size_t size = 0;
    ssize_t len;

    if (file == NULL)
        die("%s: %m", path);
    copy_begin(scratch, into);
    while ((len = getline(&line, &size, file)) > 0) {
        tab = strchr(line, '\t');
        if (tab == NULL || line[len - 1] != '\n' ||
            intended != (strncmp(line, "intended\t", 9) == 0))
            continue;
        row = intended ? tab + 1 : line;
        copy_bytes(scratch, row, (size_t)(line + len - row));
    }
    copy_end(scratch);
    free(line);
    fclose(file);
}

PGconn *
gather(const struct places *places)
{
    PGconn *scratch = connect_to(places->databases[SERVICE_ORDER]);

    run(scratch, SQL_SCRATCH);
    /* First what was sent, then what must have come of it. */
    for (int i = 0; i < places->n_intents; i++) {
        gather_intents(scratch, places->intents[i], "intended", true);
        gather_intents(scratch, places->intents[i], "outcome", false);
    }
    for (int service = 0; service < N_SERVICES; service++)
        gather_service(scratch, places->databases[service], service);
    if (places->brokers != NULL)
        gather_records(scratch, places->brokers);
    run(scratch, SQL_DERIVED);
    return scratch;
}
