/* SPDX-License-Identifier: Apache-2.0 */
/* long */
/*
 * The outside checker can fail: a shop in which all is well is spoilt in every
 * way that the checker knows, one after the other, and each time it must say so.
 *
 * The shop is written by hand, with one order completed, one refused by shipping
 * and one withdrawn by its customer; no service runs.
 */
#include "test/support/db.h"
#include "test/support/run.h"

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ORDERS, INVENTORY, PAYMENT, SHIPPING, N_DATABASES };
static const char *const names[N_DATABASES] = { "order", "inventory", "payment", "shipping" };

struct shop {
    const char *conninfo[N_DATABASES];
    PGconn *conn[N_DATABASES];
    const char *intents; /* a file */
    rd_kafka_t *producer;
    const char *brokers;
};

/* --- a good shop ----------------------------------------------------------------- */

static const char SQL_ORDERS[] =
    "INSERT INTO orders (id, customer, sku, quantity, cents, destination, status, withdrawn,"
    "    placed_at, ended_at) VALUES"
    " ('o1', 'ann', 'lamp', 2, 3998, 'Rome', 'completed', false, now(), now()),"
    " ('o2', 'bob', 'chair', 1, 4950, 'Atlantis', 'cancelled', false, now(), now()),"
    " ('o3', 'dave', 'desk', 1, 12900, 'Oslo', 'cancelled', true, now(), now());"
    "INSERT INTO saga.instance (id, definition, business_key, state, steps, step_states,"
    "    step_attempts, step_due_at, data, digest)"
    "    SELECT md5(id)::uuid, 'order', id, CASE status WHEN 'completed' THEN status"
    "        ELSE 'compensated' END, '{}', '{}', '{}', '{}', '{}', 'x' FROM orders";

/* Every row of the four journals; %s is a service. */
static const char SQL_JOURNAL[] =
    "INSERT INTO journal (order_id, step, action, what, amount, done_at)"
    " SELECT o, step, action, what, amount, '2026-01-01'::timestamptz + second * interval '1 s'"
    " FROM (VALUES"
    " ('order', 1, 'o1', 'accept', 'run', 'ann', 3998),"
    " ('inventory', 2, 'o1', 'reserve', 'run', 'lamp', 2),"
    " ('payment', 3, 'o1', 'charge', 'run', 'ann', 3998),"
    " ('shipping', 4, 'o1', 'ship', 'run', 'Rome', 2),"
    " ('order', 5, 'o1', 'confirm', 'run', 'ann', 3998),"
    " ('order', 1, 'o2', 'accept', 'run', 'bob', 4950),"
    " ('inventory', 2, 'o2', 'reserve', 'run', 'chair', 1),"
    " ('payment', 3, 'o2', 'charge', 'run', 'bob', 4950),"
    " ('payment', 7, 'o2', 'charge', 'compensate', 'bob', 4950),"
    " ('inventory', 8, 'o2', 'reserve', 'compensate', 'chair', 1),"
    " ('order', 9, 'o2', 'accept', 'compensate', 'bob', 4950),"
    " ('order', 1, 'o3', 'accept', 'run', 'dave', 12900),"
    " ('inventory', 2, 'o3', 'reserve', 'run', 'desk', 1),"
    " ('payment', 3, 'o3', 'charge', 'run', 'dave', 12900),"
    " ('shipping', 4, 'o3', 'ship', 'run', 'Oslo', 1),"
    " ('shipping', 6, 'o3', 'ship', 'compensate', 'Oslo', 1),"
    " ('payment', 7, 'o3', 'charge', 'compensate', 'dave', 12900),"
    " ('inventory', 8, 'o3', 'reserve', 'compensate', 'desk', 1),"
    " ('order', 9, 'o3', 'accept', 'compensate', 'dave', 12900))"
    " j (service, second, o, step, action, what, amount) WHERE service = '%s' ORDER BY second";

/* For each thing in another service's journal there was a command and a reply. %1$s is
 * the service whose outbox and inbox are filled; an id is made of what it stands for. */
static const char SQL_MESSAGES[] =
    "CREATE TEMP TABLE traffic AS SELECT sender, topic, reader, key, action,"
    "    md5(topic || key || action || sender)::uuid AS id"
    "  FROM (VALUES ('inventory', 'o1', 'run'), ('payment', 'o1', 'run'), ('shipping', 'o1', "
    "'run'),"
    "    ('inventory', 'o2', 'run'), ('payment', 'o2', 'run'), ('payment', 'o2', 'undo'),"
    "    ('inventory', 'o2', 'undo')) asked (who, key, action),"
    "  LATERAL (VALUES ('order', who || '.commands', who), (who, 'order.replies', 'order'))"
    "    sent (sender, topic, reader);"
    "SELECT outbox.enqueue(topic, convert_to(action, 'UTF8'), key, '{}', id) FROM traffic"
    "  WHERE sender = '%1$s' ORDER BY action;"
    "INSERT INTO idempotency.inbox (consumer, message_id, hash, topic, partition, \"offset\", slot)"
    "  SELECT '%1$s', id, '', topic, 0, 0, 0 FROM traffic WHERE reader = '%1$s'";

/* What the steps have moved, by the service's number. */
static const char *const SQL_BUSINESS[N_DATABASES] = {
    SQL_ORDERS,
    "UPDATE stock SET free = free - 2 WHERE sku = 'lamp'",
    "UPDATE account SET cents = cents + CASE owner WHEN 'ann' THEN -3998 ELSE 3998 END"
    " WHERE owner IN ('ann', 'shop')",
    "UPDATE route SET booked = 2 WHERE destination = 'Rome'",
};

static const char INTENTS[] = "intended\to1\tann\tlamp\t2\t3998\tRome\ncommitted\to1\n"
                              "intended\to2\tbob\tchair\t1\t4950\tAtlantis\ncommitted\to2\n"
                              "intended\to3\tdave\tdesk\t1\t12900\tOslo\nunknown\to3\n"
                              "intended\to4\tdave\tdesk\t1\t12900\tOslo\nunknown\to4\n"
                              "intended\to5\tdave\tde";

static void
run_file(PGconn *conn, const char *name)
{
    FILE *file = fopen(text_of("%s/examples/services/%s.sql", source_dir(), name), "r");
    char sql[4096];
    size_t len;

    ck_assert_ptr_nonnull(file);
    len = fread(sql, 1, sizeof sql - 1, file);
    sql[len] = '\0';
    fclose(file);
    db_exec(conn, "%s", sql);
}

static const char *
given_file(const char *contents)
{
    char path[] = "/tmp/intents.XXXXXX";
    int fd = mkstemp(path);
    FILE *file = fdopen(fd, "w");

    ck_assert_ptr_nonnull(file);
    fputs(contents, file);
    fclose(file);
    return text_of("%s", path);
}

static rd_kafka_t *
given_broker(void)
{
    char reason[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();

    ck_assert_int_eq(rd_kafka_conf_set(conf, "log_level", "3", reason, sizeof reason),
                     RD_KAFKA_CONF_OK);
    ck_assert_int_eq(rd_kafka_conf_set(conf, "test.mock.num.brokers", "1", reason, sizeof reason),
                     RD_KAFKA_CONF_OK);
    return rd_kafka_new(RD_KAFKA_PRODUCER, conf, reason, sizeof reason);
}

static void
publish(struct shop *shop, int database)
{
    PGresult *rows =
        PQexec(shop->conn[database], "SELECT topic, key, encode(payload, 'escape'), message_id"
                                     " FROM outbox.message ORDER BY seq");

    for (int i = 0; i < PQntuples(rows); i++) {
        const char *payload = PQgetvalue(rows, i, 2), *key = PQgetvalue(rows, i, 1);

        ck_assert_int_eq(
            rd_kafka_producev(shop->producer, RD_KAFKA_V_TOPIC(PQgetvalue(rows, i, 0)),
                              RD_KAFKA_V_KEY(key, strlen(key)),
                              RD_KAFKA_V_VALUE((void *)payload, strlen(payload)),
                              RD_KAFKA_V_HEADER("message-id", PQgetvalue(rows, i, 3), -1),
                              RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END),
            0);
    }
    PQclear(rows);
    ck_assert_int_eq(rd_kafka_flush(shop->producer, 5000), 0);
}

static const char *const spoilable[] = { "journal",       "orders",         "stock",
                                         "account",       "route",          "parcel",
                                         "saga.instance", "outbox.message", "idempotency.inbox" };

/* Copies the tables that a service has, or puts the copies back. */
static void
copy_tables(PGconn *conn, bool back)
{
    for (size_t t = 0; t < sizeof spoilable / sizeof *spoilable; t++) {
        const char *table = spoilable[t];

        if (db_text(conn, "SELECT to_regclass('%s')", table) == NULL)
            continue;
        if (back)
            db_exec(conn,
                    "TRUNCATE %s; INSERT INTO %s OVERRIDING SYSTEM VALUE SELECT * FROM kept_%zu",
                    table, table, t);
        else
            db_exec(conn, "CREATE TABLE kept_%zu AS TABLE %s", t, table);
    }
}

static struct shop
given_shop(void)
{
    struct shop shop = { .intents = given_file(INTENTS), .producer = given_broker() };

    shop.brokers = rd_kafka_mock_cluster_bootstraps(rd_kafka_handle_mock_cluster(shop.producer));
    for (int i = 0; i < N_DATABASES; i++) {
        shop.conninfo[i] = given_database();
        shop.conn[i] = db_connect(shop.conninfo[i]);
        db_exec(shop.conn[i], "SET client_min_messages = warning");
        run_file(shop.conn[i], "journal");
        run_file(shop.conn[i], names[i]);
        db_exec(shop.conn[i], "%s", SQL_BUSINESS[i]);
        db_exec(shop.conn[i], "%s", text_of(SQL_JOURNAL, names[i]));
        db_exec(shop.conn[i], "%s", text_of(SQL_MESSAGES, names[i]));
        publish(&shop, i);
        copy_tables(shop.conn[i], false);
    }
    return shop;
}

static void
close_shop(struct shop *shop)
{
    for (int i = 0; i < N_DATABASES; i++)
        PQfinish(shop->conn[i]);
    rd_kafka_destroy(shop->producer);
    remove(shop->intents);
}

/* --- spoiling it, and making it good again ------------------------------------------ */

/* What check-shop prints, and its exit code. */
static int
check_shop(const struct shop *shop, const char *intents, const char *brokers, char *out,
           size_t size)
{
    FILE *checker =
        popen(text_of("%s/check-shop --intents %s --orders '%s' --inventory '%s' --payment '%s'"
                      " --shipping '%s' %s%s",
                      build_dir(), intents, shop->conninfo[ORDERS], shop->conninfo[INVENTORY],
                      shop->conninfo[PAYMENT], shop->conninfo[SHIPPING],
                      brokers != NULL ? "--brokers " : "", brokers != NULL ? brokers : ""),
              "r");
    size_t len = fread(out, 1, size - 1, checker);

    out[len] = '\0';
    return WEXITSTATUS(pclose(checker));
}

struct damage {
    int database;
    const char *sql, *seen;
};

/* Effects, money, stock, states: seen without a look at the topics. Those of a row are
 * made at once, and do not hide each other. */
enum { AT_ONCE = 3 };
static const struct damage damages[][AT_ONCE] = {
    {
        { ORDERS, "DELETE FROM orders WHERE id = 'o1'", "an order that was committed is missing" },
        { INVENTORY, "UPDATE stock SET free = free - 1 WHERE sku = 'lamp'",
          "the stock does not agree with the journal" },
        { PAYMENT, "UPDATE account SET cents = cents + 1 WHERE owner = 'shop'",
          "money came into being or vanished" },
    },
    {
        { ORDERS, "UPDATE orders SET id = 'o9' WHERE id = 'o1'",
          "an order exists that nobody placed" },
        { INVENTORY,
          "INSERT INTO journal (order_id, step, action, what, amount) SELECT order_id, step, "
          "action,"
          " what, amount FROM journal WHERE order_id = 'o2' AND action = 'compensate'",
          "a step was undone more than once" },
        { SHIPPING, "UPDATE route SET booked = 1 WHERE destination = 'Rome'",
          "the parcels booked do not agree with the journal" },
    },
    {
        { ORDERS, "INSERT INTO orders SELECT * FROM orders WHERE id = 'o1'",
          "an order exists more than once" },
        { INVENTORY, "UPDATE journal SET done_at = '2026-01-01 00:00:03.5Z' WHERE order_id = 'o1'",
          "a step was done before the one in front of it" },
        { PAYMENT,
          "DELETE FROM idempotency.inbox WHERE message_id = (SELECT message_id FROM"
          " idempotency.inbox LIMIT 1)",
          "a message was never consumed" },
    },
    {
        { ORDERS, "UPDATE orders SET cents = 1 WHERE id = 'o2'",
          "an order is not what the customer wanted" },
        { PAYMENT,
          "UPDATE account SET cents = cents + CASE owner WHEN 'ann' THEN 1 ELSE -1 END"
          " WHERE owner IN ('ann', 'bob')",
          "an account does not agree with the journal" },
        { INVENTORY, "DELETE FROM journal WHERE order_id = 'o2'",
          "a step was done although the one in front of it never was" },
    },
    {
        { ORDERS, "DELETE FROM saga.instance WHERE business_key = 'o2'", "an order has no saga" },
        { PAYMENT, "UPDATE journal SET amount = 1 WHERE order_id = 'o1'",
          "an effect is not what its order says" },
        { SHIPPING, "DELETE FROM journal WHERE order_id = 'o1'",
          "an order is completed, but a step of it is not done" },
    },
    {
        { ORDERS, "DELETE FROM orders WHERE id = 'o3'", "a saga has no order" },
        { PAYMENT, "DELETE FROM journal WHERE order_id = 'o2' AND action = 'compensate'",
          "an order is compensated, but a step of it stayed done" },
        { SHIPPING,
          "INSERT INTO journal (order_id, step, action, what, amount) SELECT order_id, step,"
          " 'compensate', what, amount FROM journal WHERE order_id = 'o1'",
          "an order is completed, but a step of it is undone" },
    },
    {
        { ORDERS,
          "INSERT INTO saga.instance SELECT (jsonb_populate_record(s, jsonb_build_object('id',"
          " gen_random_uuid()))).* FROM saga.instance s WHERE business_key = 'o1'",
          "an order has more than one saga" },
        { PAYMENT,
          "UPDATE idempotency.inbox SET message_id = md5('forged')::uuid WHERE message_id ="
          " (SELECT message_id FROM idempotency.inbox LIMIT 1)",
          "a message was consumed that was never committed" },
        { INVENTORY,
          "UPDATE journal SET done_at = '2026-01-01 00:00:05Z' WHERE order_id = 'o3'"
          " AND action = 'compensate'",
          "steps were not undone in reverse order" },
    },
    {
        { ORDERS, "UPDATE saga.instance SET state = 'running' WHERE business_key = 'o1'",
          "a saga has not ended" },
        { PAYMENT, "UPDATE journal SET order_id = 'o7' WHERE order_id = 'o1'",
          "an effect belongs to no order" },
        { SHIPPING,
          "UPDATE journal SET done_at = '2026-01-01 00:00:08.5Z' WHERE order_id = 'o3'"
          " AND action = 'run'",
          "a step was done after the saga had turned round" },
    },
    {
        { ORDERS,
          "UPDATE saga.instance SET state = 'parked', reason = '' WHERE business_key = 'o1'",
          "a saga is parked without a reason" },
        { PAYMENT, "DELETE FROM journal WHERE order_id = 'o2' AND action = 'run'",
          "a step was undone that had not been done" },
        { SHIPPING,
          "INSERT INTO parcel (order_id, destination, quantity, token) VALUES"
          " ('o3', 'Oslo', 1, 'x')",
          "a parcel was taken in and never answered for" },
    },
    {
        { ORDERS, "UPDATE orders SET status = 'accepted' WHERE id = 'o2'",
          "an order's status is not what its saga ended as" },
        { PAYMENT, "UPDATE journal SET step = 'ship' WHERE order_id = 'o1'",
          "an effect is of no step of that service" },
    },
    {
        { ORDERS, "UPDATE orders SET withdrawn = true WHERE id = 'o1'",
          "an order was completed after its customer had withdrawn it" },
        /* trap: S16. Twice charged, and every sum agrees. */
        { PAYMENT,
          "INSERT INTO journal (order_id, step, action, what, amount) SELECT order_id, step, "
          "action,"
          " what, amount FROM journal WHERE order_id = 'o1'; UPDATE account SET cents = cents +"
          " CASE owner WHEN 'ann' THEN -3998 ELSE 3998 END WHERE owner IN ('ann', 'shop')",
          "a step was done more than once" },
    },
    {
        { ORDERS, "UPDATE orders SET cents = cents + 1 WHERE id = 'o1'",
          "the shop did not earn what its completed orders cost" },
        { ORDERS, "UPDATE orders SET quantity = 3 WHERE id = 'o1'",
          "the stock taken is not what completed orders hold" },
    },
};

/* What Kafka should hold, spoilt on the side that the checker compares it with. */
static const struct damage topic_damages[] = {
    { ORDERS, "SELECT outbox.enqueue('payment.commands', 'x', 'o1')",
      "a committed message is not in Kafka" },
    { ORDERS,
      "DELETE FROM outbox.message WHERE seq = (SELECT min(seq) FROM outbox.message"
      " WHERE topic = 'payment.commands')",
      "a record in Kafka was never committed" },
    { INVENTORY, "UPDATE outbox.message SET payload = 'other' WHERE key = 'o1'",
      "a record differs from the message that was committed" },
    { ORDERS,
      "UPDATE outbox.message m SET message_id = n.message_id, payload = n.payload FROM"
      " outbox.message n WHERE m.topic = 'payment.commands' AND n.topic = m.topic"
      " AND m.key = 'o2' AND n.key = m.key AND m.seq <> n.seq",
      "the messages of a key are not in the order of their commit" },
};

/* All of them at once, then the databases are as they were. Returns how many. */
static int
expect_seen(struct shop *shop, const struct damage *some, int most, const char *intents,
            const char *brokers)
{
    char out[32768];
    int code, n;

    for (n = 0; n < most && some[n].seen != NULL; n++) {
        if (some[n].sql != NULL)
            db_exec(shop->conn[some[n].database], "%s", some[n].sql);
    }
    code = check_shop(shop, intents, brokers, out, sizeof out);
    for (int i = 0; i < n; i++) {
        ck_assert_msg(code == 1 && strstr(out, text_of("VIOLATED: %s", some[i].seen)) != NULL,
                      "not seen (exit code %d): %s\n%s", code, some[i].seen, out);
        if (some[i].sql != NULL)
            copy_tables(shop->conn[some[i].database], true);
    }
    return n;
}

/* Every invariant is one that a test below sees violated. */
enum { DATABASE_DAMAGES = 34, TOPIC_DAMAGES = 6 };

START_TEST(test_check_shop_where_all_is_well_is_clean)
{
    struct shop shop = given_shop();
    const char *all = text_of("clean: %d of %d", DATABASE_DAMAGES + TOPIC_DAMAGES,
                              DATABASE_DAMAGES + TOPIC_DAMAGES);
    char out[16384];
    int code = check_shop(&shop, shop.intents, shop.brokers, out, sizeof out);

    ck_assert_msg(code == 0, "exit code %d:\n%s", code, out);
    ck_assert_msg(strstr(out, all) != NULL, "not all, or not only, what is tested here:\n%s", out);
    close_shop(&shop);
}
END_TEST

START_TEST(test_check_shop_s16_sees_every_damage_in_the_databases)
{
    struct shop shop = given_shop();
    const char *intents = given_file(text_of("failed\to1\n%s", INTENTS));
    int seen = 0;

    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++)
        seen += expect_seen(&shop, damages[i], AT_ONCE, shop.intents, NULL);
    seen += expect_seen(
        &shop, &(struct damage){ .seen = "an order exists although its transaction failed" }, 1,
        intents, NULL);
    ck_assert_int_eq(seen, DATABASE_DAMAGES);
    remove(intents);
    close_shop(&shop);
}
END_TEST

static void
produce(struct shop *shop, int partition, const char *id, size_t len)
{
    char *bytes = calloc(1, len);

    ck_assert_int_eq(rd_kafka_producev(shop->producer, RD_KAFKA_V_TOPIC("order.replies"),
                                       RD_KAFKA_V_PARTITION(partition),
                                       RD_KAFKA_V_VALUE(bytes, len),
                                       RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_FREE),
                                       RD_KAFKA_V_HEADER("message-id", id, -1), RD_KAFKA_V_END),
                     0);
    ck_assert_int_eq(rd_kafka_flush(shop->producer, 5000), 0);
}

START_TEST(test_check_shop_sees_every_damage_in_the_topics)
{
    struct shop shop = given_shop();
    const char *id = db_text(shop.conn[PAYMENT], "SELECT message_id FROM outbox.message LIMIT 1");
    int seen = 0;

    for (size_t i = 0; i < sizeof topic_damages / sizeof *topic_damages; i++)
        seen += expect_seen(&shop, &topic_damages[i], 1, shop.intents, shop.brokers);
    produce(&shop, 0, id, 1);
    produce(&shop, 1, id, 1);
    seen += expect_seen(&shop, &(struct damage){ .seen = "a message went to two partitions" }, 1,
                        shop.intents, shop.brokers);
    for (int megabytes = 0; megabytes < 7; megabytes++)
        produce(&shop, 0, id, 900000);
    seen +=
        expect_seen(&shop, &(struct damage){ .seen = "a topic no longer holds its first records" },
                    1, shop.intents, shop.brokers);
    ck_assert_int_eq(seen, TOPIC_DAMAGES);
    close_shop(&shop);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "demo/check",
        .tests = TESTS(test_check_shop_where_all_is_well_is_clean,
                       test_check_shop_s16_sees_every_damage_in_the_databases,
                       test_check_shop_sees_every_damage_in_the_topics),
        .timeout_s = 60,
    });
}
