/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A transaction that fails in any way is forgotten and another one begun: what
 * became of it is read in the ledger at the end.
 */
#include "test/chaos/writers.h"

#include "test/support/db.h"
#include "test/support/pace.h"
#include "test/support/run.h"
#include "test/support/wait.h"

#include <pthread.h>
#include <saga/outbox.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    MESSAGES_MAX = 12,
    WRITERS_MAX = 16,
    RETENTION_MS = 2000,
    PARKED_KEYS = 3, /* of these some messages are too large */
    LARGE_BYTES = 2 * TOPIC_BYTES
};

struct writer {
    const struct writers_choice *choice;
    atomic_bool *stop;
    pthread_t thread;
    struct chance chance;
    PGconn *conn;
    FILE *intents;
    struct saga_uuid now[MESSAGES_MAX]; /* of the transaction at hand */
    int n_now;
    struct saga_uuid *acknowledged;
    size_t n_acknowledged, room;
    struct writers_sum sum;
};

struct writers {
    struct writers_choice choice;
    atomic_bool stop;
    struct writer writers[WRITERS_MAX];
};

void
make_ledger(PGconn *conn)
{
    db_exec(conn, "CREATE SCHEMA chaos");
    db_exec(conn, "CREATE TABLE chaos.entity (key text PRIMARY KEY, n bigint NOT NULL DEFAULT 0)");
    db_exec(conn, "INSERT INTO chaos.entity SELECT 'k' || g FROM generate_series(0, %d) g", KEYS);
    db_exec(conn, "CREATE TABLE chaos.ledger (id uuid, topic text, key text, n bigint,"
                  " large boolean, delayed_until timestamptz,"
                  " at timestamptz DEFAULT clock_timestamp())");
    db_exec(conn, "CREATE TABLE chaos.early (x int)");
}

/* A writer who takes his time, also in the middle of a transaction. */
static void
think_ms(int ms)
{
    struct pace pace = pace_begin();

    pace_keep(&pace, ms * 1000);
}

/* --- statements ------------------------------------------------------------ */

/* False: the transaction, or the connection, is gone. `answer`: first field, may be NULL. */
static bool __attribute__((format(printf, 3, 4)))
ask(PGconn *conn, int64_t *answer, const char *format, ...)
{
    char sql[1024];
    PGresult *result;
    ExecStatusType status;
    va_list args;

    va_start(args, format);
    vsnprintf(sql, sizeof sql, format, args);
    va_end(args);
    result = PQexec(conn, sql);
    status = PQresultStatus(result);
    if (answer != NULL && status == PGRES_TUPLES_OK && PQntuples(result) == 1)
        *answer = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
    PQclear(result);
    return status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK;
}

/* What a message is besides its topic and key. */
enum nature { PLAIN, DELAYED, TOO_LARGE };

static bool
note(struct writer *w, const struct saga_uuid *id, const char *topic, const char *key, int64_t n,
     enum nature nature)
{
    bool delayed = nature == DELAYED;

    char text[37];

    saga_uuid_text(id, text);
    w->now[w->n_now++] = *id;
    return ask(w->conn, NULL,
               "INSERT INTO chaos.ledger (id, topic, key, n, large, delayed_until)"
               " VALUES ('%s', '%s', nullif('%s', ''), %lld, %s, %s%s%s)",
               text, topic, key, (long long)n, nature == TOO_LARGE ? "true" : "false",
               delayed ? "now() + '" : "NULL", delayed ? w->choice->delays : "",
               delayed ? "'" : "");
}

/* By the library's call or by the function in SQL; the payload is "key/n", and
 * of one that is too large for its topic, a good deal of 'x' more. */
static bool
enqueue_one(struct writer *w, const char *topic, const char *key, int64_t n, enum nature nature)
{
    const char *delay = nature == DELAYED ? w->choice->delays : NULL;
    char payload[64], text[37];
    struct saga_uuid id;
    struct saga_error err;
    size_t len = (size_t)snprintf(payload, sizeof payload, "%s/%lld", key, (long long)n);

    if (saga_uuid_make(&id, &err) != 0)
        return false;
    saga_uuid_text(&id, text);
    if (nature == PLAIN && percent(&w->chance, 50)) {
        struct saga_message message = {
            .id = id, .topic = topic, .key = *key != '\0' ? key : NULL, .payload = { payload, len }
        };

        if (saga_enqueue(w->conn, &message, 1, NULL, &err) != 0)
            return false;
    } else if (!ask(w->conn, NULL,
                    "SELECT outbox.enqueue('%s', convert_to('%s' || repeat('x', %d), 'UTF8'),"
                    " nullif('%s', ''), message_id => '%s'%s%s%s)",
                    topic, payload, nature == TOO_LARGE ? LARGE_BYTES : 0, key, text,
                    delay != NULL ? ", deliver_at => now() + '" : "", delay != NULL ? delay : "",
                    delay != NULL ? "'" : "")) {
        return false;
    }
    return note(w, &id, topic, key, n, nature);
}

/* --- a transaction ---------------------------------------------------------- */

/* Messages of one key, behind its row's lock. A delayed one promises no order. */
static bool
write_key(struct writer *w, int k)
{
    int messages = between(&w->chance, 1, 2), before = w->n_now;
    bool savepoint = percent(&w->chance, 20);
    enum nature nature;
    int64_t n = 0;
    char key[16];

    snprintf(key, sizeof key, "k%d", k);
    if (savepoint && !ask(w->conn, NULL, "SAVEPOINT s"))
        return false;
    for (int i = 0; i < messages; i++) {
        nature = percent(&w->chance, 4)                        ? DELAYED
                 : k <= PARKED_KEYS && percent(&w->chance, 10) ? TOO_LARGE
                                                               : PLAIN;
        if (!ask(w->conn, &n, "UPDATE chaos.entity SET n = n + 1 WHERE key = '%s' RETURNING n",
                 key) ||
            !enqueue_one(w, w->choice->topics[between(&w->chance, 0, TOPICS - 1)],
                         nature == DELAYED ? "delayed" : key, n, nature))
            return false;
    }
    if (!savepoint)
        return true;
    if (percent(&w->chance, 50))
        return ask(w->conn, NULL, "RELEASE s");
    w->n_now = before;
    return ask(w->conn, NULL, "ROLLBACK TO s");
}

static bool
write_keys(struct writer *w)
{
    int keys = between(&w->chance, 1, 3), k = between(&w->chance, 1, KEYS / 2);

    if (percent(&w->chance, 20) && !ask(w->conn, NULL, "INSERT INTO chaos.early VALUES (1)"))
        return false; /* an early xid */
    if (percent(&w->chance, 5))
        think_ms(between(&w->chance, 1, 800));
    /* In one direction, so that nobody waits in a circle. */
    for (int i = 0; i < keys && k <= KEYS; i++, k += between(&w->chance, 1, KEYS / 4)) {
        if (!write_key(w, k))
            return false;
        if (percent(&w->chance, 5))
            think_ms(between(&w->chance, 1, 60));
    }
    return !percent(&w->chance, 10) || enqueue_one(w, w->choice->topics[0], "", k, PLAIN);
}

/* An intent is on disk before its COMMIT is sent. */
static void
log_intent(struct writer *w)
{
    char text[37];

    for (int i = 0; i < w->n_now; i++) {
        saga_uuid_text(&w->now[i], text);
        fprintf(w->intents, "%s%c", text, i + 1 < w->n_now ? ' ' : '\n');
    }
    fflush(w->intents);
    fdatasync(fileno(w->intents));
}

static void
acknowledge(struct writer *w)
{
    for (int i = 0; i < w->n_now; i++) {
        if (w->n_acknowledged == w->room) {
            w->room = 2 * w->room + 256;
            w->acknowledged = realloc(w->acknowledged, w->room * sizeof *w->acknowledged);
        }
        w->acknowledged[w->n_acknowledged++] = w->now[i];
    }
}

static void
commit(struct writer *w, bool durable)
{
    PGresult *result;

    log_intent(w);
    result = PQexec(w->conn, "COMMIT");
    if (PQresultStatus(result) == PGRES_COMMAND_OK && strcmp(PQcmdStatus(result), "COMMIT") == 0) {
        w->sum.committed++;
        fputs("committed\n", w->intents);
        if (durable)
            acknowledge(w);
    } else {
        w->sum.unknown++;
    }
    PQclear(result);
}

static void
transaction(struct writer *w)
{
    bool durable = percent(&w->chance, 70);

    w->n_now = 0;
    if (ask(w->conn, NULL, "BEGIN; SET LOCAL synchronous_commit = %s", durable ? "on" : "off") &&
        write_keys(w) && !percent(&w->chance, 12)) {
        commit(w, durable);
        return;
    }
    w->sum.rolled_back++;
    ask(w->conn, NULL, "ROLLBACK");
}

/* What an operator does about what is parked. */
bool
tidy_up(PGconn *conn)
{
    return ask(conn, NULL,
               "SELECT outbox.discard(message_id, 'too large') FROM outbox.parked"
               " WHERE octet_length(payload) > %d LIMIT 10",
               TOPIC_BYTES) &&
           ask(conn, NULL, "SELECT outbox.retry(topic, key, 'again') FROM outbox.parked_key");
}

/* And what relays do every second, with a retention that lets it happen often. */
static void
look_after(struct writer *w)
{
    if (percent(&w->chance, 2))
        ask(w->conn, NULL, "SELECT outbox.clean_up(%d)", RETENTION_MS);
    if (percent(&w->chance, 5))
        ask(w->conn, NULL, "SELECT outbox.deliver_due(100)");
    if (percent(&w->chance, 1))
        tidy_up(w->conn);
}

static void *
run_writer(void *arg)
{
    struct writer *w = arg;

    while (!atomic_load(w->stop)) {
        if (PQstatus(w->conn) != CONNECTION_OK) {
            PQfinish(w->conn);
            think_ms(between(&w->chance, 1, 50));
            w->conn = PQconnectdb(w->choice->conninfo);
            continue;
        }
        transaction(w);
        look_after(w);
        think_ms(between(&w->chance, 0, w->choice->pause_ms));
    }
    return NULL;
}

/* --- from outside ------------------------------------------------------------ */

static void
end_writers(void *arg)
{
    struct writers *writers = arg;

    stop_writers(writers);
    for (int i = 0; i < writers->choice.n; i++)
        free(writers->writers[i].acknowledged);
    free(writers);
}

struct writers *
start_writers(const struct writers_choice *choice)
{
    struct writers *writers = calloc(1, sizeof *writers);

    ck_assert(writers != NULL && choice->n <= WRITERS_MAX);
    writers->choice = *choice;
    at_test_end(end_writers, writers);
    for (int i = 0; i < choice->n; i++) {
        struct writer *w = &writers->writers[i];

        w->choice = &writers->choice;
        w->stop = &writers->stop;
        w->chance = chance_of(choice->seed, (uint64_t)i + 1);
        w->intents = fopen(text_of("%s/intents.%d", choice->dir, i), "w");
        ck_assert_ptr_nonnull(w->intents);
        ck_assert_int_eq(pthread_create(&w->thread, NULL, run_writer, w), 0);
    }
    return writers;
}

void
stop_writers(struct writers *writers)
{
    if (atomic_exchange(&writers->stop, true))
        return;
    for (int i = 0; i < writers->choice.n; i++) {
        pthread_join(writers->writers[i].thread, NULL);
        PQfinish(writers->writers[i].conn);
        fclose(writers->writers[i].intents);
    }
}

struct writers_sum
writers_sum(const struct writers *writers)
{
    struct writers_sum all = { 0 };

    for (int i = 0; i < writers->choice.n; i++) {
        const struct writers_sum *one = &writers->writers[i].sum;

        all.committed += one->committed;
        all.rolled_back += one->rolled_back;
        all.unknown += one->unknown;
    }
    return all;
}

void
copy_acknowledged(const struct writers *writers, PGconn *conn)
{
    char text[38];
    PGresult *result;

    db_exec(conn, "CREATE TABLE chaos.acknowledged (id uuid)");
    result = PQexec(conn, "COPY chaos.acknowledged FROM STDIN");
    ck_assert_int_eq(PQresultStatus(result), PGRES_COPY_IN);
    PQclear(result);
    for (int i = 0; i < writers->choice.n; i++) {
        const struct writer *w = &writers->writers[i];

        for (size_t m = 0; m < w->n_acknowledged; m++) {
            saga_uuid_text(&w->acknowledged[m], text);
            text[36] = '\n';
            ck_assert_int_eq(PQputCopyData(conn, text, 37), 1);
        }
    }
    ck_assert_int_eq(PQputCopyEnd(conn, NULL), 1);
    while ((result = PQgetResult(conn)) != NULL)
        PQclear(result);
}

/* --- probes ------------------------------------------------------------------ */

/* Its rows are no entities' rows, so no writer makes it wait. */
static bool
try_probe(struct writer *w, struct saga_uuid *ids, int n)
{
    char key[16];

    w->n_now = 0;
    for (int i = 0; i < n; i++) {
        snprintf(key, sizeof key, "probe%d", i);
        if ((i == 0 && !ask(w->conn, NULL, "BEGIN")) ||
            !enqueue_one(w, w->choice->topics[0], key, monotonic_us(), PLAIN))
            return false;
    }
    memcpy(ids, w->now, (size_t)n * sizeof *ids);
    return ask(w->conn, NULL, "COMMIT");
}

bool
write_probe(const struct writers_choice *choice, struct saga_uuid *ids, int n, int ms)
{
    struct deadline deadline = deadline_exactly_in(ms);
    struct writer w = { .choice = choice };
    bool written = false;

    do {
        w.conn = PQconnectdb(choice->conninfo);
        written = PQstatus(w.conn) == CONNECTION_OK && try_probe(&w, ids, n);
        PQfinish(w.conn);
    } while (!written && wait_a_little(&deadline));
    return written;
}
