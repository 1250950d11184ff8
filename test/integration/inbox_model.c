/* SPDX-License-Identifier: Apache-2.0 */
/*
 * idempotency.receive() and idempotency.known() beside a model of their rules: random
 * batches, in which ids come more than once, with other hashes, from all days, or tell
 * no time. SEED draws others.
 */
#include "test/support/db.h"
#include "test/support/run.h"
#include "test/support/wait.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { IDS = 400, BATCH = 200, ROUNDS = 100, SESSIONS = 3, TEXT_MAX = IDS * 48 };

/* Of each id: which hash it was received with; NONE: it was not. */
enum { NONE = -1 };
struct model {
    int8_t known[IDS];
};

struct batch {
    int id[BATCH], hash[BATCH], n;
};

static const char *database;
static PGconn *conn;
static char ids[IDS][37];
static int days[IDS]; /* counted from 1970; NONE: it tells no time */
static int64_t low, high;

static _Thread_local unsigned seed;

static unsigned
given_seed(void)
{
    const char *text = getenv("SEED");

    return text != NULL ? (unsigned)strtoul(text, NULL, 10) : 1;
}

static int
chance(int below)
{
    return rand_r(&seed) % below;
}

/* --- ids ------------------------------------------------------------------------ */

static int64_t
today(void)
{
    return db_int(conn, "SELECT floor(extract(epoch FROM clock_timestamp()) / 86400)");
}

/* The first or the last millisecond of a day, or one in between. */
static void
make_id(int n, int64_t day)
{
    static const int64_t of_day[] = { 0, 1, 43200000, 86399998, 86399999 };
    char hex[13];

    if (n % 5 == 0) {
        days[n] = NONE;
        snprintf(ids[n], sizeof ids[n], "01890a5d-ac96-474b-8000-%012d", n);
        return;
    }
    days[n] = (int)day;
    snprintf(hex, sizeof hex, "%012llx", (unsigned long long)(day * 86400000 + of_day[n % 5]));
    snprintf(ids[n], sizeof ids[n], "%.8s-%.4s-7000-8000-%012d", hex, hex + 8, n);
}

static void
setup(void)
{
    database = given_database();
    conn = given_session(database);
    seed = given_seed();
    high = today() + 1;
    low = high - 30;
    for (int n = 0; n < IDS; n++)
        make_id(n, high - 34 + n % 37);
}

/* --- the model --------------------------------------------------------------------- */

static const char *
judge(struct model *model, int id, int hash)
{
    if (days[id] != NONE && days[id] < low)
        return "below";
    if (days[id] != NONE && days[id] > high)
        return "future";
    if (model->known[id] != NONE)
        return model->known[id] == hash ? "duplicate" : "other";
    model->known[id] = (int8_t)hash;
    return "fresh";
}

/* --- a batch ------------------------------------------------------------------------ */

/* Mostly of few ids, so that they repeat; sometimes nothing but what is known. */
static struct batch
draw(const struct model *model)
{
    struct batch batch = { .n = 1 + chance(chance(3) == 0 ? 3 : BATCH) };
    int from = chance(IDS), spread = 1 + chance(IDS), only_known = chance(3) == 0;

    for (int i = 0; i < batch.n; i++) {
        int id = (from + chance(spread)) % IDS;

        for (int tries = 0; only_known && model->known[id] == NONE && tries < 50; tries++)
            id = chance(IDS);
        batch.id[i] = id;
        batch.hash[i] =
            model->known[id] != NONE && chance(20) > 0 ? model->known[id] : chance(10) == 0;
    }
    return batch;
}

static PGresult *
receive(PGconn *tx, const struct batch *batch)
{
    char list[TEXT_MAX], hashes[TEXT_MAX];
    const char *const params[] = { list, hashes };
    size_t at = 0, hash_at = 0;

    for (int i = 0; i < batch->n; i++) {
        at += (size_t)sprintf(list + at, "%c%s", i == 0 ? '{' : ',', ids[batch->id[i]]);
        hash_at +=
            (size_t)sprintf(hashes + hash_at, "%c%c", i == 0 ? '{' : ',', "xy"[batch->hash[i]]);
    }
    strcpy(list + at, "}");
    strcpy(hashes + hash_at, "}");
    return PQexecParams(
        tx,
        "SELECT n, verdict FROM idempotency.receive('c', $1::uuid[], $2::bytea[],"
        " array_fill('topic'::text, ARRAY[cardinality($1::uuid[])]),"
        " array_fill(0, ARRAY[cardinality($1::uuid[])]),"
        " ARRAY(SELECT n::bigint FROM generate_series(1, cardinality($1::uuid[])) n))",
        2, NULL, params, NULL, NULL, 0);
}

static void
expect_verdicts(PGresult *result, const struct batch *batch, struct model *model, int round)
{
    ck_assert_msg(PQresultStatus(result) == PGRES_TUPLES_OK, "round %d: %s", round,
                  PQresultErrorMessage(result));
    ck_assert_int_eq(PQntuples(result), batch->n);
    for (int i = 0; i < batch->n; i++) {
        const char *expected = judge(model, batch->id[i], batch->hash[i]);

        ck_assert_int_eq(atoi(PQgetvalue(result, i, 0)), i + 1);
        ck_assert_msg(strcmp(PQgetvalue(result, i, 1), expected) == 0,
                      "round %d, message %d of %d (id %d): %s, and not %s", round, i + 1, batch->n,
                      batch->id[i], PQgetvalue(result, i, 1), expected);
    }
}

/* What lies in the tables is what is known. */
static void
expect_rows(const struct model *model)
{
    PGresult *rows = PQexec(conn, "SELECT message_id, convert_from(hash, 'UTF8'), slot ="
                                  " idempotency.day_of(uuid_send(message_id)) % 32"
                                  " FROM idempotency.inbox UNION ALL SELECT message_id,"
                                  " convert_from(hash, 'UTF8'), true FROM"
                                  " idempotency.inbox_foreign");
    int known = 0, found = 0;

    for (int id = 0; id < IDS; id++)
        known += model->known[id] != NONE && (days[id] == NONE || days[id] >= low);
    for (int i = 0; i < PQntuples(rows); i++) {
        int id = atoi(PQgetvalue(rows, i, 0) + 24);

        ck_assert_str_eq(PQgetvalue(rows, i, 2), "t");
        if (days[id] != NONE && days[id] < low)
            continue; /* forgotten, and not yet removed */
        ck_assert_int_eq(model->known[id], PQgetvalue(rows, i, 1)[0] == 'y');
        found++;
    }
    ck_assert_int_eq(found, known);
    PQclear(rows);
}

static void
forget_some(void)
{
    int days_kept = (int)(high - 1 - low) - 1;

    if (days_kept < 2)
        return;
    db_exec(conn,
            "SELECT idempotency.keep('inbox', '%d days', 'test'); SELECT FROM"
            " idempotency.clean_up()",
            days_kept);
    low = db_int(conn, "SELECT last_value FROM idempotency.inbox_mark");
}

/* --- the look from outside ------------------------------------------------------------ */

static int
by_text(const void *a, const void *b)
{
    return strcmp(ids[*(const int *)a], ids[*(const int *)b]);
}

/* Where its row would be. */
static int
place_of(int id)
{
    return days[id] != NONE ? days[id] % 32 : NONE;
}

static void
expect_told(const int *asked, int n, bool side_by_side, const char *expected)
{
    char list[TEXT_MAX];
    size_t at = (size_t)sprintf(list, "{%s", ids[asked[0]]);

    for (int i = 1; i < n; i++)
        at += (size_t)sprintf(list + at, ",%s", ids[asked[i]]);
    strcpy(list + at, "}");
    ck_assert_str_eq(
        db_text(
            conn,
            "SELECT coalesce(string_agg(id || convert_from(h, 'UTF8') || ' ', '' ORDER BY n), '')"
            " FROM idempotency.known('c', '%s', %s) k,"
            " unnest(k.ids, k.hashes) WITH ORDINALITY u (id, h, n)",
            list, side_by_side ? "true" : "false"),
        expected);
}

/* What is told of an id, where its row is looked for beside that of `other`. False: nobody knows,
 * as it was forgotten, and maybe not yet removed. */
static bool
expect_one(const struct model *model, int id, int other, char *expected, size_t *at)
{
    if (days[id] != NONE && days[id] < low)
        return false;
    if (model->known[id] != NONE && place_of(id) == place_of(other))
        *at += (size_t)sprintf(expected + *at, "%s%c ", ids[id], "xy"[model->known[id]]);
    return true;
}

static void
expect_known(const struct model *model)
{
    int chosen[BATCH], asked[BATCH], all[IDS], n = 1 + chance(BATCH);
    char expected[TEXT_MAX] = "";
    size_t at = 0;

    chosen[0] = chance(IDS);
    for (int i = 1; i < n; i++) /* mostly of its day */
        chosen[i] = (chosen[0] + 37 * chance(12) + (chance(3) == 0)) % IDS;
    memcpy(asked, chosen, sizeof asked);
    qsort(chosen, (size_t)n, sizeof *chosen, by_text);
    for (int i = 0; i < n; i++)
        if ((i == 0 || chosen[i - 1] != chosen[i]) &&
            !expect_one(model, chosen[i], asked[(n - 1) / 2], expected, &at))
            return;
    expect_told(asked, n, false, expected);

    for (int i = 0; i < IDS; i++)
        all[i] = i;
    qsort(all, IDS, sizeof *all, by_text);
    expected[at = 0] = '\0';
    for (int i = 0, rows = 0; i < IDS && rows < 2 * n; i++) {
        size_t before = at;

        if (strcmp(ids[all[i]], ids[chosen[0]]) < 0 || strcmp(ids[all[i]], ids[chosen[n - 1]]) > 0)
            continue;
        if (!expect_one(model, all[i], chosen[(n - 1) / 2], expected, &at))
            return;
        rows += at > before;
    }
    expect_told(chosen, n, true, expected);
}

/* trap: I10, I12, I13, I29 */
START_TEST(test_receive_is_what_the_rules_say_message_by_message_i10_i12_i13_i29)
{
    struct model model, before;

    memset(model.known, NONE, sizeof model.known);
    for (int round = 0; round < ROUNDS; round++) {
        int calls = 1 + chance(3);

        before = model;
        db_exec(conn, "BEGIN");
        for (int call = 0; call < calls; call++) {
            struct batch batch = draw(&model);
            PGresult *result = receive(conn, &batch);

            expect_verdicts(result, &batch, &model, round);
            PQclear(result);
        }
        if (chance(3) == 0) {
            db_exec(conn, "ROLLBACK");
            model = before;
        } else {
            db_exec(conn, "COMMIT");
        }
        for (int look = 0; look < 5; look++)
            expect_known(&model);
        if (chance(15) == 0)
            forget_some();
        if (today() + 1 != high)
            return; /* midnight has passed: the ids are of other days now */
    }
    expect_rows(&model);
}
END_TEST

/* --- many at once ------------------------------------------------------------------- */

struct session {
    pthread_t thread;
    unsigned seed;
    /* What its transactions that have committed were told of each id. */
    int fresh[IDS][2], duplicate[IDS][2], other[IDS][2];
    const char *failed;
};

static void
add(int count[IDS][2], int id, int hash)
{
    count[id][hash]++;
}

/* False: to be repeated, as the contract says. */
static bool
receive_some(struct session *session, PGconn *tx)
{
    static const struct model nothing_known; /* all zero: any hash will do */
    struct session told = *session;
    PGresult *result = PQexec(tx, "BEGIN");
    int calls = 1 + chance(2);

    PQclear(result);
    for (int call = 0; call < calls; call++) {
        struct batch batch = draw(&nothing_known);

        result = receive(tx, &batch);
        if (PQresultStatus(result) != PGRES_TUPLES_OK) {
            const char *code = PQresultErrorField(result, PG_DIAG_SQLSTATE);

            if (code == NULL || strncmp(code, "40", 2) != 0)
                session->failed = strdup(PQresultErrorMessage(result));
            PQclear(result);
            PQclear(PQexec(tx, "ROLLBACK"));
            return false;
        }
        for (int i = 0; i < batch.n; i++) {
            const char *verdict = PQgetvalue(result, i, 1);

            if (strcmp(verdict, "fresh") == 0)
                add(told.fresh, batch.id[i], batch.hash[i]);
            else if (strcmp(verdict, "duplicate") == 0)
                add(told.duplicate, batch.id[i], batch.hash[i]);
            else if (strcmp(verdict, "other") == 0)
                add(told.other, batch.id[i], batch.hash[i]);
            else if (*verdict == '\0')
                session->failed = "no verdict";
        }
        PQclear(result);
    }
    if (chance(3) == 0) {
        PQclear(PQexec(tx, "ROLLBACK"));
        return true;
    }
    result = PQexec(tx, "COMMIT");
    if (strcmp(PQcmdStatus(result), "COMMIT") == 0 && session->failed == NULL)
        *session = told;
    PQclear(result);
    return true;
}

static void *
receive_much(void *arg)
{
    struct session *session = arg;
    PGconn *tx = PQconnectdb(database);

    seed = session->seed;
    PQclear(PQexec(tx, "SET deadlock_timeout = '10ms'"));
    for (int done = 0, tries = 0; session->failed == NULL && done < ROUNDS / 4 && tries < ROUNDS;
         tries++)
        done += receive_some(session, tx);
    PQfinish(tx);
    return NULL;
}

static int
sum_of(const struct session *sessions, size_t place, int id, int hash)
{
    int sum = 0;

    for (int i = 0; i < SESSIONS; i++)
        sum += ((const int(*)[2])((const char *)&sessions[i] + place))[id][hash];
    return sum;
}

/* trap: I2, I10, I12 */
START_TEST(test_receive_of_many_at_once_lets_one_of_them_have_it_i2_i10_i12)
{
    static struct session sessions[SESSIONS];
    struct model model;

    for (int i = 0; i < SESSIONS; i++) {
        sessions[i].seed = given_seed() * SESSIONS + (unsigned)i;
        ck_assert_int_eq(pthread_create(&sessions[i].thread, NULL, receive_much, &sessions[i]), 0);
    }
    for (int i = 0; i < SESSIONS; i++) {
        pthread_join(sessions[i].thread, NULL);
        ck_assert_msg(sessions[i].failed == NULL, "%s", sessions[i].failed);
    }
    for (int id = 0; id < IDS; id++) {
        int as_x = sum_of(sessions, offsetof(struct session, fresh), id, 0);
        int as_y = sum_of(sessions, offsetof(struct session, fresh), id, 1);

        ck_assert_int_le(as_x + as_y, 1);
        model.known[id] = (int8_t)(as_x == 1 ? 0 : as_y == 1 ? 1 : NONE);
        for (int hash = 0; hash < 2; hash++) {
            if (model.known[id] != hash)
                ck_assert_int_eq(sum_of(sessions, offsetof(struct session, duplicate), id, hash),
                                 0);
            else
                ck_assert_int_eq(sum_of(sessions, offsetof(struct session, other), id, hash), 0);
        }
    }
    if (today() + 1 == high)
        expect_rows(&model);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "inbox_model",
        .tests = TESTS(test_receive_is_what_the_rules_say_message_by_message_i10_i12_i13_i29,
                       test_receive_of_many_at_once_lets_one_of_them_have_it_i2_i10_i12),
        .setup = setup,
    });
}
