/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the daemon outbox-relay answers to GET /metrics and /healthz.
 */
#include "test/support/given_daemon.h"
#include "test/support/http.h"
#include "test/support/proxy.h"
#include "test/support/run.h"
#include "test/support/wait.h"

#include <string.h>

START_TEST(test_daemon_metrics_say_what_is_published_and_what_is_not)
{
    struct process *relay;
    PGconn *writer;
    const char *text;
    double held;
    int port;

    given_daemon();
    settings("");
    relay = start_daemon(ini, NULL);
    port = daemon_port(relay);
    enqueue_many(conn, topic, "m", 30);
    WAIT_UNTIL(
        metric(http_get(port, "/metrics").body, "outbox_relay_published_total{stream=\"0\"}") == 30,
        10000);
    text = http_get(port, "/metrics").body;
    expect_prometheus(text);
    ck_assert(metric(text, "outbox_relay_state{stream=\"0\",state=\"owner\"}") == 1);
    ck_assert(metric(text, "outbox_relay_state{stream=\"0\",state=\"standby\"}") == 0);
    ck_assert(metric(text, "outbox_relay_epoch{stream=\"0\"}") == 1);
    ck_assert(metric(text, "outbox_relay_lag_messages{stream=\"0\"}") == 0);
    ck_assert(metric(text, "outbox_relay_lag_seconds{stream=\"0\"}") == 0);
    ck_assert(metric(text, "outbox_relay_page_rows_sum{stream=\"0\"}") == 30);
    ck_assert(metric(text, "outbox_relay_ack_seconds_count{stream=\"0\"}") == 30);
    ck_assert(metric(text, "outbox_relay_database_up") == 1);

    writer = open_transaction(conninfo);
    WAIT_UNTIL(metric(http_get(port, "/metrics").body,
                      "outbox_relay_open_transaction_seconds{stream=\"0\"}") > 0.3,
               5000);
    held = metric(http_get(port, "/metrics").body,
                  "outbox_relay_open_transaction_seconds{stream=\"0\"}");
    db_exec(writer, "COMMIT");
    /* Other tests' transactions count, too: they have the same cluster. */
    WAIT_UNTIL(metric(http_get(port, "/metrics").body,
                      "outbox_relay_open_transaction_seconds{stream=\"0\"}") < held,
               20000);
}
END_TEST

START_TEST(test_daemon_metrics_show_a_backlog_and_a_silent_kafka)
{
    struct process *relay, *standby;
    struct http_answer health;
    int port;

    given_daemon();
    use_brokers("127.0.0.1:1");
    settings("drain_ms = 100\nlease_ms = 1000");
    enqueue_many(conn, topic, "m", 30);
    relay = start_daemon(ini, NULL);
    port = daemon_port(relay);
    WAIT_UNTIL(metric(http_get(port, "/metrics").body,
                      "outbox_relay_kafka_silent_seconds{stream=\"0\"}") > 0.5,
               10000);
    ck_assert(metric(http_get(port, "/metrics").body, "outbox_relay_lag_messages{stream=\"0\"}") ==
              30);
    ck_assert(metric(http_get(port, "/metrics").body, "outbox_relay_lag_seconds{stream=\"0\"}") >
              0.5);
    health = http_get(port, "/healthz");
    ck_assert_int_eq(health.code, 200); /* restarting us would not bring Kafka back */

    standby = start_daemon(ini, NULL);
    WAIT_UNTIL(metric(http_get(daemon_port(standby), "/metrics").body,
                      "outbox_relay_state{stream=\"0\",state=\"standby\"}") == 1,
               10000);
    expect_prometheus(http_get(daemon_port(standby), "/metrics").body);
}
END_TEST

START_TEST(test_daemon_is_unwell_without_postgresql)
{
    struct proxy *proxy;
    struct process *relay;
    struct http_answer health;
    int port;

    given_daemon();
    proxy = given_proxy(text_of("127.0.0.1:%s", server_env("PGPORT")));
    conninfo = text_of("%s port=%d", conninfo, proxy_port(proxy));
    settings("lease_ms = 300");
    relay = start_daemon(ini, NULL);
    port = daemon_port(relay);
    WAIT_UNTIL(http_get(port, "/healthz").code == 200, 5000);
    ck_assert_str_eq(http_get(port, "/healthz").body, "ok\n");
    proxy_refuse(proxy, true);
    proxy_cut_now(proxy);
    WAIT_UNTIL(http_get(port, "/healthz").code == 503, 20000);
    health = http_get(port, "/healthz");
    ck_assert_msg(strstr(health.body, "PostgreSQL has not answered the relay of stream 0 for") !=
                      NULL,
                  "%s", health.body);
    expect_prometheus(http_get(port, "/metrics").body);
    ck_assert(metric(http_get(port, "/metrics").body, "outbox_relay_database_up") == 0);
    proxy_refuse(proxy, false);
    WAIT_UNTIL(http_get(port, "/healthz").code == 200, 20000);
}
END_TEST

START_TEST(test_daemon_answers_nothing_but_its_two_pages)
{
    struct process *relay;
    int port;

    ini = output_file("daemon.ini");
    write_file(ini, "[relay]\ndatabase = host=127.0.0.1 port=1\nbrokers = 127.0.0.1:1\n");
    relay = start_daemon(ini, NULL);
    port = daemon_port(relay);
    ck_assert_int_eq(http_get(port, "/").code, 404);
    ck_assert_int_eq(http_get(port, "/metrics/").code, 404);
    ck_assert_int_ne(http_get(port, "/healthz?verbose=1").code, 404);
    ck_assert_int_eq(http_send(port, "POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                                     "Content-Length: 3\r\n\r\nabc")
                         .code,
                     405);
    ck_assert_int_eq(http_send(port, "nonsense\r\n\r\n").code / 100 == 2, 0);
    ck_assert_str_eq(
        http_send(port, "HEAD /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").body, "");
    ck_assert(!process_ended(relay));
    /* Whoever has the port already is not pushed aside. */
    process_expect(start_process(ARGS("outbox-relay", "--config", ini, "--metrics",
                                      text_of("127.0.0.1:%d", port)),
                                 NULL),
                   4, 10000);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox_daemon_http",
        .tests = TESTS(test_daemon_metrics_say_what_is_published_and_what_is_not,
                       test_daemon_metrics_show_a_backlog_and_a_silent_kafka,
                       test_daemon_is_unwell_without_postgresql,
                       test_daemon_answers_nothing_but_its_two_pages),
        .timeout_s = 60,
    });
}
