/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading many rows by binary COPY, against a real server: what arrives, and what
 * is left of the connection when it ends early, by whomever.
 */
#include "base/bytes.h"
#include "base/clock.h"
#include "base/pg.h"
#include "test/support/db.h"
#include "test/support/proxy.h"
#include "test/support/run.h"

#include <string.h>

enum { READY_FOR_QUERY_BYTES = 6, NO_LIMIT = 1 << 30 };

static struct pg pg;
static struct saga_error err;
static struct proxy *proxy;
static const char *database;

/* What came: each row is a number g, and g bytes 'x' or NULL. */
static struct taken {
    int rows, limit;
    int64_t sum, bytes;
    bool wrong;
} taken;

static void
connect_to(const char *conninfo)
{
    ck_assert_int_eq(pg_init(&pg, conninfo, "pg_copy", 5000, NULL, &err), 0);
    ck_assert_msg(pg_connect(&pg, &err) == 0, "%s", err.message);
}

static void
connect_through_proxy(void)
{
    database = given_database();
    proxy = given_proxy(text_of("127.0.0.1:%s", server_env("PGPORT")));
    connect_to(text_of("%s port=%d", database, proxy_port(proxy)));
    taken = (struct taken){ .limit = NO_LIMIT };
}

static void
disconnect(void)
{
    pg_clear(&pg);
}

static uint32_t
number_at(const uint8_t **at)
{
    uint32_t number = get_u32(*at);

    *at += 4;
    return number;
}

static bool
take(void *user, uint8_t *row, size_t len)
{
    struct taken *to = user;
    const uint8_t *at = row + 2;
    uint32_t g, n;

    if (to->rows == to->limit)
        return false;
    to->wrong = to->wrong || len < 14 || row[0] != 0 || row[1] != 2 || number_at(&at) != 4;
    g = number_at(&at);
    n = number_at(&at);
    to->wrong = to->wrong || len != 14 + (n == UINT32_MAX ? 0 : n);
    if (n != UINT32_MAX)
        to->wrong = to->wrong || n != g || (n > 0 && (at[0] != 'x' || at[n - 1] != 'x'));
    to->rows++;
    to->sum += g;
    to->bytes += (int64_t)len;
    pg_copy_free(row);
    return true;
}

#define ROWS(select) "COPY (" select ") TO STDOUT (FORMAT binary)"

static int
copy(const char *sql)
{
    int rc = pg_copy_send(&pg, sql, &err);

    return rc != 0 ? rc : pg_copy_receive(&pg, take, &taken, &err);
}

static void
expect_usable(void)
{
    ck_assert_msg(pg_exec(&pg, "SELECT 1", PG_NO_ARGS, NULL, &err) == 0, "%s", err.message);
}

/* Rows smaller than a packet, larger than libpq's buffer, and of no length. */
START_TEST(test_pg_copy_brings_every_row)
{
    ck_assert_msg(copy(ROWS("SELECT g, repeat('x', g) FROM generate_series(0, 2000) g")) == 0, "%s",
                  err.message);
    ck_assert(!taken.wrong);
    ck_assert_int_eq(taken.rows, 2001);
    ck_assert_int_eq(taken.sum, 2000 * 2001 / 2);
    taken.rows = 0;
    ck_assert_int_eq(copy(ROWS("SELECT g, repeat('x', g) FROM unnest('{1, 8000000, 0, 3000000,"
                               " 2}'::int[]) g")),
                     0);
    ck_assert(!taken.wrong);
    ck_assert_int_eq(taken.rows, 5);
    expect_usable();
}
END_TEST

START_TEST(test_pg_copy_tells_null_from_empty_and_none_from_one)
{
    ck_assert_int_eq(copy(ROWS("SELECT 7, NULL::text")), 0);
    ck_assert_int_eq(taken.rows, 1);
    ck_assert_int_eq(taken.bytes, 14);
    ck_assert_int_eq(copy(ROWS("SELECT 7, NULL::text WHERE false")), 0);
    ck_assert_int_eq(taken.rows, 1);
    ck_assert(!taken.wrong);
    expect_usable();
}
END_TEST

START_TEST(test_pg_copy_is_in_one_transaction_with_what_stands_before_it)
{
    ck_assert_int_eq(copy("SET LOCAL application_name = 'before';" ROWS(
                         "SELECT g, repeat('x', g) FROM generate_series(1,"
                         " CASE current_setting('application_name') WHEN 'before' THEN 3 END) g")),
                     0);
    ck_assert_int_eq(taken.rows, 3);
    expect_usable();
}
END_TEST

START_TEST(test_pg_copy_stops_when_its_user_has_enough)
{
    int64_t began;

    pg_clear(&pg);
    connect_to(database); /* the proxy would keep the request to cancel behind the rows */
    began = clock_mono_ms();
    taken.limit = 10;
    ck_assert_msg(
        copy(ROWS(
            "SELECT g, NULL::text FROM generate_series(1, 30000) g, generate_series(1, 30000)")) ==
            0,
        "%s", err.message);
    ck_assert_int_eq(taken.rows, 10);
    ck_assert_int_lt(clock_mono_ms() - began, 4000);
    expect_usable();
}
END_TEST

START_TEST(test_pg_copy_tells_an_error_in_the_middle)
{
    ck_assert_int_eq(
        copy(ROWS("SELECT 1 / (9000 - g), NULL::text FROM generate_series(1, 10000) g")), SAGA_EDB);
    ck_assert_str_eq(err.sqlstate, "22012");
    ck_assert_int_gt(taken.rows, 0);
    expect_usable();
    /* And one before any row, or that is none of COPY. */
    ck_assert_int_eq(copy("SELECT 1/0;" ROWS("SELECT 1, NULL::text")), SAGA_EDB);
    expect_usable();
}
END_TEST

START_TEST(test_pg_copy_has_a_deadline)
{
    pg.timeout_ms = 200;
    ck_assert_int_eq(copy(ROWS("SELECT 1, pg_sleep(60)::text")), SAGA_ETIMEOUT);
    ck_assert(!pg_connected(&pg));
    ck_assert_int_eq(err.flags & SAGA_ERR_FATAL, SAGA_ERR_FATAL);
    pg.timeout_ms = 5000;
    ck_assert_msg(pg_connect(&pg, &err) == 0, "%s", err.message);
    expect_usable();
}
END_TEST

/* All rows are there, but not that they are all. */
START_TEST(test_pg_copy_does_not_take_silence_for_the_end)
{
    pg.timeout_ms = 200;
    proxy_truncate(proxy, 1, READY_FOR_QUERY_BYTES);
    ck_assert_int_eq(copy(ROWS("SELECT 1, 'x'")), SAGA_ETIMEOUT);
    ck_assert(!pg_connected(&pg));
}
END_TEST

START_TEST(test_pg_copy_tells_a_connection_that_is_lost_in_the_middle)
{
    for (int nth = 1; nth <= 3; nth += 2) {
        proxy_cut(proxy, nth);
        ck_assert_int_eq(copy(ROWS("SELECT g, repeat('x', g) FROM generate_series(1, 20000) g")),
                         SAGA_EDB);
        ck_assert_int_eq(err.flags & SAGA_ERR_FATAL, SAGA_ERR_FATAL);
        ck_assert(!pg_connected(&pg));
        ck_assert(!taken.wrong);
        ck_assert_msg(pg_connect(&pg, &err) == 0, "%s", err.message);
    }
    ck_assert_int_gt(taken.rows, 0);
    expect_usable();
}
END_TEST

START_TEST(test_pg_copy_tells_a_session_that_is_ended_in_the_middle)
{
    ck_assert_int_eq(copy(ROWS("SELECT g, CASE g WHEN 5000 THEN"
                               " left(pg_terminate_backend(pg_backend_pid())::text, 0) END"
                               "  FROM generate_series(1, 1000000) g")),
                     SAGA_EDB);
    ck_assert_int_eq(err.flags & SAGA_ERR_FATAL, SAGA_ERR_FATAL);
    ck_assert_int_lt(taken.rows, 1000000);
    ck_assert_msg(pg_connect(&pg, &err) == 0, "%s", err.message);
    expect_usable();
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "base_pg_copy",
        .tests = TESTS(
            test_pg_copy_brings_every_row, test_pg_copy_tells_null_from_empty_and_none_from_one,
            test_pg_copy_is_in_one_transaction_with_what_stands_before_it,
            test_pg_copy_stops_when_its_user_has_enough, test_pg_copy_tells_an_error_in_the_middle,
            test_pg_copy_has_a_deadline, test_pg_copy_does_not_take_silence_for_the_end,
            test_pg_copy_tells_a_connection_that_is_lost_in_the_middle,
            test_pg_copy_tells_a_session_that_is_ended_in_the_middle),
        .setup = connect_through_proxy,
        .teardown = disconnect,
    });
}
