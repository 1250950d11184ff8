/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sets the shop up, and knows its programs' command lines.
 */
#include "test/support/shop.h"

#include "test/support/db.h"
#include "test/support/kafka.h"
#include "test/support/redis.h"
#include "test/support/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PARTITIONS = 4, SESSION_MS = 6000 };

static const char *const names[SHOP_SERVICES] = { "order", "inventory", "payment", "shipping" };
static const char *const topics[] = { "inventory.commands", "payment.commands", "shipping.commands",
                                      "order.replies", "nobody" };

static const char *
contents(const char *path)
{
    FILE *file = fopen(path, "r");
    char *text = NULL;
    size_t size = 0;

    ck_assert_msg(file != NULL && getdelim(&text, &size, '\0', file) > 0, "cannot read %s", path);
    fclose(file);
    at_test_end(free, text);
    return text;
}

/* Other tests may have made the logins; they belong to the cluster. */
static void
make_login(PGconn *conn, const char *login, const char *role)
{
    db_exec(conn,
            "DO $$ BEGIN CREATE ROLE %s LOGIN IN ROLE %s;"
            " EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$",
            login, role);
}

static const char *
make_database(int service)
{
    const char *dir = text_of("%s/examples/services", source_dir());
    const char *conninfo = given_database();
    PGconn *conn = db_connect(conninfo);

    db_exec(conn, "%s", contents(text_of("%s/journal.sql", dir)));
    db_exec(conn, "%s", contents(text_of("%s/%s.sql", dir, names[service])));
    make_login(conn, "shop_service", "saga_app");
    make_login(conn, "shop_relay", "saga_relay");
    PQfinish(conn);
    return conninfo;
}

static void
close_shop(void *arg)
{
    struct shop *shop = arg;

    PQfinish(shop->orders);
    unlink(shop->intents);
    unlink(shop->relay_config);
    free(shop);
}

static void
write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    ck_assert_msg(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0, "%s: %m", path);
}

struct shop *
given_shop(void)
{
    struct shop *shop = calloc(1, sizeof *shop);

    ck_assert_ptr_nonnull(shop);
    shop->prefix = text_of("%s.", unique_name("shop"));
    for (int service = 0; service < SHOP_SERVICES; service++)
        shop->databases[service] = make_database(service);
    for (size_t i = 0; i < sizeof topics / sizeof *topics; i++)
        create_topic(text_of("%s%s", shop->prefix, topics[i]), PARTITIONS,
                     (const char *const[]){ NULL });
    shop->intents = text_of("%s/%sintents", build_dir(), shop->prefix);
    shop->relay_config = text_of("%s/%srelay.ini", build_dir(), shop->prefix);
    write_text(shop->relay_config, "[relay]\npage_rows = 100\nlease_ms = 1000\n");
    shop->orders = db_connect(shop->databases[SHOP_ORDER]);
    at_test_end(close_shop, shop);
    return shop;
}

const char *
shop_service_name(int service)
{
    return names[service];
}

static struct process *
python_service(const struct shop *shop, int service, int instance)
{
    return start_process(
        ARGS(text_of("%s/build/python/bin/python", source_dir()),
             text_of("%s/examples/python_participant/%s.py", source_dir(), names[service]),
             "--database", text_of("%s user=shop_service", shop->databases[service]), "--brokers",
             brokers(), "--redis", redis_address(), "--prefix", shop->prefix, "--kafka",
             text_of("group.instance.id=%s-%d", names[service], instance), "--kafka",
             text_of("session.timeout.ms=%d", SESSION_MS)),
        NULL);
}

struct process *
shop_service(const struct shop *shop, int service, int instance, const char *const *environment)
{
    const char *program = text_of("examples/services/%s", names[service]);
    const char *database = text_of("%s user=shop_service", shop->databases[service]);

    if (service == SHOP_SHIPPING && shop->python)
        return python_service(shop, service, instance);
    return start_process(ARGS(program, "--database", database, "--brokers", brokers(), "--redis",
                              redis_address(), "--prefix", shop->prefix, "--kafka",
                              text_of("group.instance.id=%s-%d", names[service], instance),
                              "--kafka", text_of("session.timeout.ms=%d", SESSION_MS), "--reply-ms",
                              text_of("%d", shop->reply_ms)),
                         environment);
}

struct process *
shop_relay(const struct shop *shop, int service, const char *const *environment)
{
    const char *database = text_of("%s user=shop_relay", shop->databases[service]);

    return start_process(ARGS("outbox-relay", "--database", database, "--brokers", brokers(),
                              "--config", shop->relay_config),
                         environment);
}

struct process *
shop_customers(const struct shop *shop, const char *const *environment)
{
    return start_process(ARGS("examples/services/order", "--database",
                              text_of("%s user=shop_service", shop->databases[SHOP_ORDER]),
                              "--prefix", shop->prefix, "--place", text_of("%d", shop->placed),
                              "--intents", shop->intents),
                         environment);
}

int
shop_unfinished(const struct shop *shop)
{
    return (int)db_int(shop->orders, "SELECT count(*) FROM saga.instance"
                                     " WHERE state IN ('running', 'compensating')");
}

/* Those of the shop have neither a colon nor a line end in them. */
#define HEADERS_OF_MESSAGE "jsonb_object(regexp_split_to_array(headers, ': |\\n'))"

int
shop_sent_again(const struct shop *shop)
{
    return (int)db_int(shop->orders,
                       "SELECT count(DISTINCT (h ->> 'saga-id', h ->> 'saga-step',"
                       "  h ->> 'saga-action', h ->> 'saga-attempt'))"
                       "  FROM (SELECT " HEADERS_OF_MESSAGE " AS h FROM outbox.message"
                       "         WHERE topic LIKE '%%.commands') m"
                       " WHERE h ->> 'saga-attempt' <> '1'");
}

/* Commands in the name of a saga that nobody knows of, whose order goes nowhere. */
static void
send_of_nobody(const struct shop *shop, const char *participants, const char *commands)
{
    db_exec(shop->orders,
            "SELECT outbox.enqueue('%s' || service || '.commands', convert_to(jsonb_build_object("
            "        'order', id, 'destination', 'Atlantis', 'quantity', '1')::text, 'UTF8'),"
            "        id::text, jsonb_build_object('saga-id', id, 'saga-definition', 'order',"
            "        'saga-step', step, 'saga-action', action, 'saga-attempt', '1',"
            "        'saga-reply-to', '%snobody'))"
            "  FROM (VALUES %s) participant (service, step),"
            "       (SELECT outbox.uuid_v7() AS id) saga, (VALUES %s) command (position, action)"
            " ORDER BY position",
            shop->prefix, shop->prefix, participants, commands);
}

void
shop_send_oddities(const struct shop *shop, int burst)
{
    static int service;
    PGconn *conn = db_connect(shop->databases[service++ % SHOP_SERVICES]);

    db_exec(conn,
            "SELECT outbox.enqueue('%snobody', 'burst', (n %% 7)::text)"
            "  FROM generate_series(1, %d) n",
            shop->prefix, burst);
    PQfinish(conn);
    /* A resend has another id, and the same saga, step and action. */
    db_exec(shop->orders, "SELECT outbox.enqueue(topic, payload, key, " HEADERS_OF_MESSAGE ")"
                          "  FROM outbox.message WHERE topic LIKE '%%.commands'"
                          "   AND " HEADERS_OF_MESSAGE " ->> 'saga-reply-to' NOT LIKE '%%nobody'"
                          " ORDER BY random() LIMIT 2");
    send_of_nobody(shop, "('inventory', 'reserve'), ('payment', 'charge'), ('shipping', 'ship')",
                   "(1, 'compensate'), (2, 'run'), (3, 'compensate'), (4, 'run')");
    send_of_nobody(shop, "('shipping', 'ship')", "(1, 'run'), (2, 'compensate')");
}

/* The undoing was done without doing anything, and the doing after it refused;
 * whoever asked again was told the same. */
static void
expect_oddities_answered(const struct shop *shop)
{
    int64_t sent =
        db_int(shop->orders, "SELECT count(*) FROM outbox.message"
                             " WHERE topic LIKE '%%inventory.commands'"
                             " AND " HEADERS_OF_MESSAGE " ->> 'saga-reply-to' LIKE '%%nobody'");

    for (int service = SHOP_ORDER + 1; sent > 0 && service < SHOP_SERVICES; service++) {
        PGconn *conn = db_connect(shop->databases[service]);

        db_exec(conn, "CREATE TEMP VIEW answer AS SELECT " HEADERS_OF_MESSAGE " AS h"
                      "  FROM outbox.message WHERE topic LIKE '%%nobody' AND payload <> 'burst'");
        ck_assert_int_ge(db_int(conn, "SELECT count(*) FROM answer"), sent);
        ck_assert_str_eq(db_text(conn, "SELECT string_agg(DISTINCT concat_ws(' ',"
                                       " h ->> 'saga-action', h ->> 'saga-outcome'), ', ')"
                                       "  FROM answer"),
                         "compensate done, run refused");
        if (service == SHOP_SHIPPING && !shop->python)
            ck_assert_int_gt(
                db_int(conn, "SELECT count(*) FROM parcel WHERE answer = 'called back'"), 0);
        PQfinish(conn);
    }
}

const char *
shop_check(const struct shop *shop, int ms)
{
    struct process *check = start_process(
        ARGS("check-shop", "--orders", shop->databases[SHOP_ORDER], "--inventory",
             shop->databases[SHOP_INVENTORY], "--payment", shop->databases[SHOP_PAYMENT],
             "--shipping", shop->databases[SHOP_SHIPPING], "--intents", shop->intents, "--brokers",
             brokers(), "--wait", text_of("%d", ms / 1000)),
        NULL);
    int code = process_wait(check, ms + 30000);
    const char *said = process_output(check);

    ck_assert_msg(code == 0, "check-shop ended with %d:\n%s%s", code, said, process_errors(check));
    expect_oddities_answered(shop);
    return said;
}

long
shop_figure(const char *checked, const char *label)
{
    const char *line = strstr(checked, text_of("\n  %s ", label));

    if (line == NULL && strncmp(checked, text_of("  %s ", label), strlen(label) + 3) == 0)
        line = checked;
    return line != NULL ? strtol(line + strlen(label) + 3, NULL, 10) : 0;
}
