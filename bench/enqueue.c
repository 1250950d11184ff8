/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What it costs to enqueue, in one session: saga_enqueue() beside plain INSERTs
 * of the same bytes into a table without any of our checks, and a business
 * transaction with a message beside the same one without, both in a pipeline.
 *
 *     enqueue CONNINFO [ROUNDS]
 *
 * The ways take turns, a few milliseconds each, so that whatever else the machine
 * does hits all of them; the ratio is the median over the rounds. Makes the
 * schema "bench" and drops it.
 */
#include "base/pg.h"
#include "bench/bench.h"

#include <saga/outbox.h>

enum { MANY = 1000, ROUNDS = 200, ROUNDS_MAX = 10000 };

static PGconn *conn;
static struct saga_message messages[MANY];
static const char payload[PAYLOAD_BYTES] = { 'x' };

static PGresult *
expect(PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);

    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK && status != PGRES_PIPELINE_SYNC)
        die("%s", PQresultErrorMessage(result));
    return result;
}

static void
run(const char *sql)
{
    PQclear(expect(PQexec(conn, sql)));
}

static void
check(int rc, const struct saga_error *err)
{
    if (rc != 0)
        die("%s", err->message);
}

/* --- the ways of writing ---------------------------------------------------- */

#define COLUMNS " (id, topic, key, headers, payload)"

static const char header_text[] = "kind: " KIND "\ntraceparent: " TRACEPARENT;

/* One row; `statement` is SQL, or with `prepared` a name. */
static void
insert_one(const char *statement, bool prepared)
{
    const struct saga_message *m = &messages[0];
    struct saga_uuid id;
    const Oid types[] = { PG_OID_UUID, PG_OID_TEXT, PG_OID_TEXT, PG_OID_TEXT, PG_OID_BYTEA };
    const int formats[] = { 1, 1, 1, 1, 1 };

    check(saga_uuid_make(&id, NULL), NULL);
    const char *values[] = { (const char *)&id, m->topic, m->key, header_text, m->payload.data };
    const int lengths[] = { sizeof id, (int)strlen(m->topic), (int)strlen(m->key),
                            sizeof header_text - 1, (int)m->payload.len };

    run("BEGIN");
    PQclear(expect(prepared
                       ? PQexecPrepared(conn, statement, 5, values, lengths, formats, 1)
                       : PQexecParams(conn, statement, 5, types, values, lengths, formats, 1)));
    run("COMMIT");
}

static void
plain_one(void)
{
    insert_one("INSERT INTO bench.plain" COLUMNS " VALUES ($1, $2, $3, $4, $5)", false);
}

static void
prepared_one(void)
{
    insert_one("plain", true);
}

/* All rows in one statement. */
static void
plain_many(void)
{
    struct pg_array ids, topics, keys, payloads, headers;
    struct pg pg = pg_borrow(conn);
    struct saga_error err;
    struct saga_uuid id;

    pg_array_init(&ids, PG_OID_UUID_ARRAY);
    pg_array_init(&topics, PG_OID_TEXT_ARRAY);
    pg_array_init(&keys, PG_OID_TEXT_ARRAY);
    pg_array_init(&payloads, PG_OID_BYTEA_ARRAY);
    pg_array_init(&headers, PG_OID_TEXT_ARRAY);
    for (int i = 0; i < MANY; i++) {
        check(saga_uuid_make(&id, NULL), NULL);
        pg_array_add(&ids, &id, sizeof id);
        pg_array_add_text(&topics, messages[i].topic);
        pg_array_add_text(&keys, messages[i].key);
        pg_array_add_text(&headers, header_text);
        pg_array_add(&payloads, messages[i].payload.data, messages[i].payload.len);
    }
    run("BEGIN");
    check(pg_exec(&pg,
                  "INSERT INTO bench.plain" COLUMNS
                  " SELECT m.id, m.topic, m.key, m.headers, m.payload"
                  "  FROM ROWS FROM (unnest($1), unnest($2), unnest($3), unnest($4), unnest($5))"
                  "       AS m (id, topic, key, headers, payload)",
                  PG_ARGS(PG_ARRAY(&ids), PG_ARRAY(&topics), PG_ARRAY(&keys), PG_ARRAY(&headers),
                          PG_ARRAY(&payloads)),
                  NULL, &err),
          &err);
    run("COMMIT");
    pg_array_clear(&ids);
    pg_array_clear(&topics);
    pg_array_clear(&keys);
    pg_array_clear(&payloads);
    pg_array_clear(&headers);
}

static void
enqueue(size_t n)
{
    struct saga_error err;

    run("BEGIN");
    check(saga_enqueue(conn, messages, n, NULL, &err), &err);
    run("COMMIT");
}

static void
enqueue_one(void)
{
    enqueue(1);
}

static void
enqueue_many(void)
{
    enqueue(MANY);
}

/* --- a business transaction --------------------------------------------------- */

static void
queue(const char *sql)
{
    if (!PQsendQueryParams(conn, sql, 0, NULL, NULL, NULL, NULL, 1))
        die("%s", PQerrorMessage(conn));
}

/* An order is stored and its stock reserved, all in one round trip. */
static void
business(size_t n)
{
    struct saga_error err;

    if (!PQenterPipelineMode(conn))
        die("%s", PQerrorMessage(conn));
    queue("BEGIN");
    queue("UPDATE bench.stock SET free = free - 1 WHERE sku = 'lamp' AND free > 0");
    queue("INSERT INTO bench.orders (sku, price) VALUES ('lamp', 1999)");
    check(n > 0 ? saga_enqueue(conn, messages, n, NULL, &err) : 0, &err);
    queue("COMMIT");
    if (!PQpipelineSync(conn))
        die("%s", PQerrorMessage(conn));
    for (bool synced = false; !synced;) {
        PGresult *result = PQgetResult(conn);

        if (result != NULL)
            synced = PQresultStatus(expect(result)) == PGRES_PIPELINE_SYNC;
        PQclear(result);
    }
    PQexitPipelineMode(conn);
}

static void
business_alone(void)
{
    business(0);
}

static void
business_with_message(void)
{
    business(1);
}

/* --- measuring ------------------------------------------------------------------ */

static struct way {
    const char *name;
    void (*transaction)(void);
    int times;   /* in a round */
    int against; /* the way whose time is 1 */
    double us[ROUNDS_MAX], ratio[ROUNDS_MAX];
    double here_us, server_us; /* of CPU, in all rounds */
} ways[] = {
    { .name = "plain INSERT of one message", .transaction = plain_one, .times = 20 },
    { .name = "the same, prepared", .transaction = prepared_one, .times = 20 },
    { .name = "(f) saga_enqueue of one", .transaction = enqueue_one, .times = 20 },
    { .name = "plain INSERT of 1000", .transaction = plain_many, .times = 1, .against = 3 },
    { .name = "(f) saga_enqueue of 1000", .transaction = enqueue_many, .times = 1, .against = 3 },
    { .name = "business transaction, pipelined",
      .transaction = business_alone,
      .times = 20,
      .against = 5 },
    { .name = "(f) the same with a message",
      .transaction = business_with_message,
      .times = 20,
      .against = 5 },
};
enum { N_WAYS = sizeof ways / sizeof *ways };

/* Of the session's process, where it runs on this machine; else 0. */
static double
server_cpu_us(void)
{
    double ns = 0;
    char path[64];
    FILE *file;

    snprintf(path, sizeof path, "/proc/%d/schedstat", PQbackendPID(conn));
    file = fopen(path, "r");
    if (file != NULL) {
        if (fscanf(file, "%lf", &ns) != 1)
            ns = 0;
        fclose(file);
    }
    return ns / 1000;
}

static double
cpu_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1000;
}

static void
round_of_all(int round)
{
    for (int i = 0; i < N_WAYS; i++) {
        struct way *way = &ways[i];
        double server_us = server_cpu_us(), here_us = cpu_us();
        int64_t begin = now_ns();

        for (int k = 0; k < way->times; k++)
            way->transaction();
        way->us[round] = (double)(now_ns() - begin) / 1000 / way->times;
        way->here_us += (cpu_us() - here_us) / way->times;
        way->server_us += (server_cpu_us() - server_us) / way->times;
        way->ratio[round] = way->us[round] / ways[way->against].us[round];
    }
}

static int
compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void
report(int rounds)
{
    printf("  %-36s %9s %9s %9s  %s\n", "(f) cost of a transaction, us", "time", "CPU here",
           "server's", "ratio of times (half of all); of CPU");
    for (int i = 0; i < N_WAYS; i++) {
        struct way *way = &ways[i];
        const struct way *against = &ways[way->against];

        qsort(way->us, (size_t)rounds, sizeof *way->us, compare);
        qsort(way->ratio, (size_t)rounds, sizeof *way->ratio, compare);
        printf("  %-36s %9.0f %9.0f %9.0f", way->name, way->us[rounds / 2], way->here_us / rounds,
               way->server_us / rounds);
        if (against != way)
            printf("  %.2f (%.2f..%.2f); %.2f", way->ratio[rounds / 2], way->ratio[rounds / 4],
                   way->ratio[rounds * 3 / 4],
                   (way->here_us + way->server_us) / (against->here_us + against->server_us));
        putchar('\n');
    }
}

static void
set_up(void)
{
    static const struct saga_pair headers[] = { { "kind", KIND },
                                                { "traceparent", TRACEPARENT },
                                                { NULL, NULL } };
    static char keys[MANY][24];

    for (int i = 0; i < MANY; i++) {
        snprintf(keys[i], sizeof keys[i], "key-%d", i % KEYS);
        messages[i] = (struct saga_message){
            .topic = "bench.enqueue",
            .key = keys[i],
            .headers = headers,
            .payload = { payload, sizeof payload },
        };
    }
    run("CREATE SCHEMA bench");
    run("CREATE TABLE bench.plain (id uuid PRIMARY KEY, topic text, key text, headers text,"
        " payload bytea, created_at timestamptz DEFAULT clock_timestamp())");
    run("CREATE TABLE bench.orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
        " sku text NOT NULL, price int NOT NULL, created_at timestamptz DEFAULT now())");
    run("CREATE TABLE bench.stock (sku text PRIMARY KEY, free bigint NOT NULL)");
    run("INSERT INTO bench.stock VALUES ('lamp', 1000000000)");
    run("PREPARE plain (uuid, text, text, text, bytea) AS"
        " INSERT INTO bench.plain" COLUMNS " VALUES ($1, $2, $3, $4, $5)");
}

int
main(int argc, char **argv)
{
    int rounds = argc > 2 ? atoi(argv[2]) : ROUNDS;

    if (argc < 2 || rounds < 1 || rounds > ROUNDS_MAX)
        die("usage: enqueue CONNINFO [ROUNDS]");
    conn = PQconnectdb(argv[1]);
    if (PQstatus(conn) != CONNECTION_OK)
        die("%s", PQerrorMessage(conn));
    set_up();
    round_of_all(0); /* to warm up */
    for (int i = 0; i < N_WAYS; i++)
        ways[i].here_us = ways[i].server_us = 0;
    for (int round = 0; round < rounds; round++)
        round_of_all(round);
    report(rounds);
    run("DROP TABLE bench.plain, bench.orders, bench.stock");
    run("DROP SCHEMA bench");
    PQfinish(conn);
    return 0;
}
