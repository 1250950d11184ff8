/* SPDX-License-Identifier: Apache-2.0 */
/* long */
/*
 * The daemon outbox-relay as an administrator sees it: what it does with signals
 * and new settings, that it publishes all streams, and where secrets do not show
 * up.
 */
#include "test/support/given_daemon.h"
#include "test/support/http.h"
#include "test/support/run.h"
#include "test/support/wait.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

/* --- signals --------------------------------------------------------------- */

START_TEST(test_daemon_takes_new_settings_on_hangup)
{
    struct process *relay;
    struct records records;
    const char *text;

    given_daemon();
    settings("log_format = json\n[http]\nlisten = 127.0.0.1:0");
    relay = start_process(ARGS("outbox-relay", "--config", ini), NULL);
    enqueue(conn, topic, "k", "1");
    WAIT_UNTIL(pending(conn) == 0, 10000);

    settings("log_format = text\nsource = /orders\n[topics]\n* = cloudevents\n"
             "[http]\nlisten = [::1]:0");
    process_signal(relay, SIGHUP);
    WAIT_UNTIL(has_logged(relay, "event=\"the new settings are in force\""), 10000);
    ck_assert(has_logged(relay, "[http] listen cannot change while we run"));
    enqueue(conn, topic, "k", "2");
    WAIT_UNTIL(pending(conn) == 0, 10000);
    records = topic_records(topic);
    ck_assert_uint_eq(records.n, 2);
    ck_assert_ptr_null(record_header(&records.at[0], "ce_source"));
    ck_assert_str_eq(record_header(&records.at[1], "ce_source"), "/orders");
    text = http_get(daemon_port(relay), "/metrics").body;
    ck_assert(metric(text, "outbox_relay_published_total{stream=\"0\"}") == 2); /* counters go on */
    ck_assert(metric(text, "outbox_relay_reloads_total") == 1);
}
END_TEST

START_TEST(test_daemon_goes_on_with_the_old_settings_if_the_new_are_wrong)
{
    struct process *relay;

    given_daemon();
    settings("");
    relay = start_daemon(ini, NULL);
    enqueue(conn, topic, "k", "1");
    WAIT_UNTIL(pending(conn) == 0, 10000);
    settings("lease_ms = 7");
    process_signal(relay, SIGHUP);
    WAIT_UNTIL(has_logged(relay, "the new settings are wrong; going on with the old"), 10000);
    ck_assert(has_logged(relay, text_of("%s, line 4: [relay] lease_ms: must be a whole number from "
                                        "300 to 300000",
                                        ini)));
    /* What only the library finds out counts as well. */
    settings("[kafka]\nacks = 1");
    process_signal(relay, SIGHUP);
    WAIT_UNTIL(has_logged(relay, "the property acks is set by the relay"), 10000);
    settings("[kafka]\nsecurity.protocol = ssl\nssl.ca.location = /nowhere.pem");
    process_signal(relay, SIGHUP);
    WAIT_UNTIL(has_logged(relay, "ssl.ca.location failed"), 10000);
    enqueue(conn, topic, "k", "2");
    WAIT_UNTIL(pending(conn) == 0, 10000);
    ck_assert_int_eq(db_int(conn, "SELECT epoch FROM outbox.stream"), 1); /* it never stopped */
    ck_assert(metric(http_get(daemon_port(relay), "/metrics").body,
                     "outbox_relay_reload_failures_total") == 3);
}
END_TEST

START_TEST(test_daemon_ends_at_once_at_the_second_signal)
{
    struct process *relay;

    given_daemon();
    use_brokers("127.0.0.1:1");
    settings("drain_ms = 60000");
    enqueue(conn, topic, "k", "1");
    relay = start_daemon(ini, NULL);
    WAIT_UNTIL(metric(http_get(daemon_port(relay), "/metrics").body,
                      "outbox_relay_unacknowledged_messages{stream=\"0\"}") == 1,
               10000);
    process_signal(relay, SIGTERM);
    STAYS_TRUE(!process_ended(relay), 500);
    process_signal(relay, SIGTERM);
    process_expect(relay, -SIGTERM, 2000);
}
END_TEST

/* --- secrets --------------------------------------------------------------- */

static const char secret[] = "Gr4nd=Secret;#1";

START_TEST(test_daemon_shows_no_secret)
{
    const char *password = output_file("password"), *command_line;
    struct process *relay;

    given_daemon();
    write_file(password, text_of("%s\n", secret));
    write_file(
        ini,
        text_of("[relay]\nbrokers = %s\nlog = debug\ndrain_ms = 100\n[kafka]\nsecurity.protocol = "
                "sasl_plaintext\nsasl.mechanism = PLAIN\nsasl.username = u\n"
                "sasl.password = file:%s\ndebug = all\n",
                brokers(), password));
    relay = start_process(ARGS("outbox-relay", "--config", ini, "--database",
                               text_of("%s password='%s'", conninfo, secret), "--metrics", "0"),
                          NULL);
    enqueue(conn, topic, "k", "1");
    WAIT_UNTIL(has_logged(relay, "took the stream"), 10000);
    WAIT_UNTIL(has_logged(relay, "sasl.password"), 10000); /* librdkafka tells all its properties */
    ck_assert(has_logged(relay, "a password in --database: others could see it"));
    command_line =
        run_process(ARGS("sh", "-c", text_of("tr '\\0' ' ' </proc/%d/cmdline", (int)relay->pid)));
    ck_assert_msg(strstr(command_line, "--database xxxxxxxx") != NULL, "%s", command_line);
    ck_assert_ptr_null(strstr(command_line, secret));
    ck_assert_ptr_null(strstr(http_get(daemon_port(relay), "/metrics").body, secret));
    process_signal(relay, SIGTERM);
    process_expect(relay, 0, 15000);
    ck_assert_ptr_null(strstr(process_errors(relay), secret));
    unlink(password);
}
END_TEST

/* --- streams --------------------------------------------------------------- */

static int
owned(const struct process *relay)
{
    const char *text = http_get(daemon_port(relay), "/metrics").body;
    int n = 0;

    for (; (text = strstr(text, "state=\"owner\"} 1")) != NULL; text++)
        n++;
    return n;
}

/* trap: O32. One process has a relay for each, also when their number changes. */
START_TEST(test_daemon_o32_publishes_all_streams_and_follows_their_number)
{
    struct process *relay;

    given_daemon();
    settings("lease_ms = 1000");
    relay = start_daemon(ini, NULL);
    WAIT_UNTIL(owned(relay) == 1, 10000);
    db_exec(conn, "SELECT outbox.set_streams(4)");
    WAIT_UNTIL(owned(relay) == 4, 10000);
    enqueue_many(conn, topic, "m", 40);
    WAIT_UNTIL(pending(conn) == 0, 10000);
    expect_prometheus(http_get(daemon_port(relay), "/metrics").body);
    db_exec(conn, "SELECT outbox.set_streams(2)");
    WAIT_UNTIL(owned(relay) == 2, 10000);
    enqueue_many(conn, topic, "n", 40);
    WAIT_UNTIL(pending(conn) == 0, 10000);
    ck_assert_str_eq(http_get(daemon_port(relay), "/healthz").body, "ok\n");
    ck_assert_ptr_null(strstr(http_get(daemon_port(relay), "/metrics").body, "stream=\"2\""));
    process_signal(relay, SIGHUP);
    WAIT_UNTIL(has_logged(relay, "the new settings are in force"), 10000);
    WAIT_UNTIL(owned(relay) == 2, 10000);
    process_signal(relay, SIGTERM);
    process_expect(relay, 0, 15000);
    ck_assert_int_eq(db_int(conn, "SELECT count(owner) FROM outbox.stream"), 0);

    db_exec(conn, "SELECT outbox.set_streams(3)");
    enqueue_many(conn, topic, "o", 40);
    run_process(ARGS("outbox-relay", "--config", ini, "--once"));
    ck_assert_int_eq(pending(conn), 0);
}
END_TEST

/* It was asleep for longer than its lease, and is told to reload before it has
 * found out: that is no reason to end. */
START_TEST(test_daemon_that_is_overtaken_while_it_reloads_waits_for_its_turn)
{
    struct process *relay, *other;

    given_daemon();
    settings("lease_ms = 600");
    relay = start_daemon(ini, NULL);
    WAIT_UNTIL(owned(relay) == 1, 10000);
    process_freeze(relay);
    other = start_daemon(ini, NULL);
    WAIT_UNTIL(owned(other) == 1, 10000);
    process_signal(relay, SIGHUP);
    process_thaw(relay);
    WAIT_UNTIL(has_logged(relay, "the new settings are in force"), 10000);
    process_signal(other, SIGTERM);
    process_expect(other, 0, 10000);
    WAIT_UNTIL(owned(relay) == 1, 10000);
    process_signal(relay, SIGTERM);
    process_expect(relay, 0, 10000);
}
END_TEST

/* --- settings -------------------------------------------------------------- */

START_TEST(test_daemon_check_judges_settings_and_connects_to_nothing)
{
    struct process *check;

    ini = output_file("daemon.ini");
    write_file(ini, "[relay]\nbrokers = 127.0.0.1:1\ndatabase = host=127.0.0.1 port=1\n");
    ck_assert_str_eq(run_process(ARGS("outbox-relay", "--config", ini, "--check")), "ok\n");
    write_file(ini, "[relay]\nbrokers = 127.0.0.1:1\nspeed = 11\n");
    check = start_process(ARGS("outbox-relay", "--config", ini, "--check"), NULL);
    process_expect(check, 2, 10000);
    ck_assert(
        has_logged(check, text_of("%s, line 3: [relay] speed: there is no such setting; there "
                                  "are database, brokers,",
                                  ini)));
}
END_TEST

START_TEST(test_daemon_check_names_the_place_of_whatever_is_wrong)
{
    static const struct {
        const char *lines, *variable, *says;
    } vectors[] = {
        { "brokers = kafka:http", "X=1", ", line 2: [relay] brokers: must be HOST:PORT" },
        { "brokers = a:1\n[relais]", "X=1", ", line 3: [relais]: there is no such section" },
        { "brokers = a:1\n[kafka]\nlinger.mss = 5", "X=1", ", line 4: [kafka] linger.mss: lib" },
        { "brokers = a:1\n[kafka]\nacks = 1", "X=1", ", line 4: [kafka] acks: the property" },
        { "brokers = a:1\n[topics]\n* = avro", "X=1", ", line 4: [topics] *: the format" },
        { "brokers = a:1", "OUTBOX_RELAY_LEASE=5", "OUTBOX_RELAY_LEASE: [relay] lease: there is" },
    };

    ini = output_file("daemon.ini");
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        struct process *check;

        write_file(ini, text_of("[relay]\n%s\n", vectors[i].lines));
        check = start_process(ARGS("outbox-relay", "--config", ini, "--check"),
                              ARGS(vectors[i].variable));
        process_expect(check, 2, 10000);
        ck_assert_msg(has_logged(check, vectors[i].says), "%s", process_errors(check));
    }
    unlink(ini);
}
END_TEST

/* The file that is installed is the documentation: every setting stands in it,
 * and switched on it is accepted. */
START_TEST(test_daemon_ini_that_is_installed_is_accepted_with_every_setting_on)
{
    const char *from = text_of("%s/outbox/outbox-relay.ini", source_dir());

    ini = output_file("daemon.ini");
    run_process(ARGS("outbox-relay", "--config", from, "--check", "--brokers", "a:1"));
    run_process(
        ARGS("sh", "-c",
             text_of("sed -E 's/^#([a-z_.*]+ =)/\\1/; s/(file|credential):.*/x/' '%s' >'%s'", from,
                     ini)));
    run_process(ARGS("outbox-relay", "--config", ini, "--check"));
    unlink(ini);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox_daemon",
        .tests = TESTS(test_daemon_takes_new_settings_on_hangup,
                       test_daemon_goes_on_with_the_old_settings_if_the_new_are_wrong,
                       test_daemon_ends_at_once_at_the_second_signal, test_daemon_shows_no_secret,
                       test_daemon_o32_publishes_all_streams_and_follows_their_number,
                       test_daemon_that_is_overtaken_while_it_reloads_waits_for_its_turn,
                       test_daemon_check_judges_settings_and_connects_to_nothing,
                       test_daemon_check_names_the_place_of_whatever_is_wrong,
                       test_daemon_ini_that_is_installed_is_accepted_with_every_setting_on),
        .timeout_s = 60,
    });
}
