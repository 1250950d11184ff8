/* SPDX-License-Identifier: Apache-2.0 */
/* long */
/*
 * A participant in another language, written from docs/protocol.md: it holds to the
 * vectors, and takes part in the shop as the C one does, killed at work again and again.
 */
#include "test/support/db.h"
#include "test/support/kafka.h"
#include "test/support/redis.h"
#include "test/support/run.h"
#include "test/support/shop.h"
#include "test/support/vectors.h"
#include "test/support/wait.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { BATCH = 10, KILLS = 6 };

START_TEST(test_python_holds_to_the_vectors)
{
    const char *said =
        run_process(ARGS(text_of("%s/build/python/bin/python", source_dir()),
                         text_of("%s/examples/python_participant/test_vectors.py", source_dir()),
                         "--database", given_database()));

    ck_assert_ptr_nonnull(strstr(said, "all vectors hold"));
}
END_TEST

/* --- in the shop ------------------------------------------------------------------------- */

static PGconn *shipping;

static struct shop *
given_shop_with_python(void)
{
    struct shop *shop = given_shop();

    shop->python = true;
    for (int service = 0; service < SHOP_SERVICES; service++) {
        shop_relay(shop, service, NULL);
        if (service != SHOP_SHIPPING)
            shop_service(shop, service, 1, NULL);
    }
    shipping = db_connect(shop->databases[SHOP_SHIPPING]);
    WAIT_UNTIL(db_int(shop->orders, "SELECT count(*) FROM saga.definition") > 0, 15000);
    return shop;
}

static int64_t
answered(void)
{
    return db_int(shipping, "SELECT count(*) FROM outbox.message WHERE topic LIKE '%%.replies'");
}

/* In the middle of a transaction: it waits there for a row that we hold. */
static void
kill_at_work(struct process *python)
{
    db_exec(shipping, "BEGIN; LOCK TABLE route IN EXCLUSIVE MODE");
    WAIT_UNTIL(db_int(shipping, "SELECT count(*) FROM pg_locks WHERE NOT granted"
                                " AND relation = 'route'::regclass") > 0,
               15000);
    process_kill(python);
    db_exec(shipping, "COMMIT");
}

/* Wherever it is when its next answer shows: mostly between COMMIT and Kafka's offset. */
static void
kill_behind_commit(struct process *python)
{
    int64_t before = answered();

    WAIT_UNTIL(answered() > before, 15000);
    process_kill(python);
}

/* trap: I30. Each command for which there is a mark comes from the topic's beginning once more. */
static void
replay_commands(struct shop *shop, struct process **python)
{
    int64_t commands = (int64_t)topic_records(text_of("%sshipping.commands", shop->prefix)).n;
    int64_t before = answered();

    process_kill(*python);
    db_exec(shipping, "DELETE FROM idempotency.consumer_offset");
    *python = shop_service(shop, SHOP_SHIPPING, 1, NULL);
    WAIT_UNTIL(db_int(shipping, "SELECT count(*) FROM outbox.message"
                                " WHERE topic LIKE '%%.replies' OR topic LIKE '%%nobody'"
                                " AND payload <> 'burst'") >= before + commands,
               15000);
}

/* The marks of a topic's records are where another implementation looks for them. A Redis
 * that was slow may lack some. */
static void
expect_marks(const struct shop *shop, int service, const char *topic)
{
    PGconn *conn = db_connect(shop->databases[service]);
    const char *identity =
        db_text(conn, "SELECT concat_ws('.', (SELECT system_identifier FROM pg_control_system()),"
                      " substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8),"
                      " (SELECT oid FROM pg_database WHERE datname = current_database()))");
    struct records records = topic_records(text_of("%s%s", shop->prefix, topic));
    redisContext *redis = redis_open(redis_address());
    json_t *none = json_object();
    int found = 0;

    for (size_t i = 0; i < records.n; i++) {
        const struct record *at = &records.at[i];
        const char *mark = redis_text(redis, "GET saga:mark:%s:%s%s:%s", identity, shop->prefix,
                                      shop_service_name(service), record_header(at, "message-id"));
        struct incoming record = vector_record(none, (struct saga_bytes){ at->key, at->key_bytes },
                                               (struct saga_bytes){ at->value, at->value_bytes });

        if (mark == NULL || strncmp(mark, "busy:", 5) == 0)
            continue;
        ck_assert_str_eq(mark, text_of("done:%s", record.hash_text));
        found++;
    }
    ck_assert_int_gt(found, 0);
    json_decref(none);
    redisFree(redis);
    PQfinish(conn);
}

START_TEST(test_python_i17_i18_i19_i30_killed_at_work_loses_and_doubles_nothing)
{
    struct shop *shop = given_shop_with_python();
    struct process *python = shop_service(shop, SHOP_SHIPPING, 1, NULL), *customers;
    const char *checked;

    for (int kill = 0; kill < KILLS; kill++) {
        shop->placed += BATCH;
        customers = shop_customers(shop, NULL);
        if (kill % 2 == 0)
            kill_at_work(python);
        else
            kill_behind_commit(python);
        python = shop_service(shop, SHOP_SHIPPING, 1, NULL);
        process_expect(customers, 0, 15000);
        shop_send_oddities(shop, 1);
    }
    WAIT_UNTIL(shop_unfinished(shop) == 0, 30000);
    replay_commands(shop, &python);
    checked = shop_check(shop, 15000);
    ck_assert_int_eq(shop_figure(checked, "orders"), shop->placed);
    expect_marks(shop, SHOP_SHIPPING, "shipping.commands");
    expect_marks(shop, SHOP_ORDER, "order.replies");
    process_signal(python, SIGTERM);
    process_expect(python, 0, 5000);
    printf("%s  %-22s %d\n     %s", checked, "sent again", shop_sent_again(shop),
           process_output(python));
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "python/participant",
        .tests = TESTS(test_python_holds_to_the_vectors,
                       test_python_i17_i18_i19_i30_killed_at_work_loses_and_doubles_nothing),
        .timeout_s = 90,
    });
}
