/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon outbox-relay as an administrator sees it: what it says to systemd,
 * what it does with signals and new settings, where secrets do not show up, and
 * what /metrics and /healthz answer.
 */
#include "test/support/http.h"
#include "test/support/outbox.h"
#include "test/support/proxy.h"
#include "test/support/run.h"
#include "test/support/server.h"
#include "test/support/wait.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static const char *conninfo, *topic, *ini;
static PGconn *conn;

static void
write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
}

static const char *
output_file(const char *what)
{
    mkdir(text_of("%s/test-output", build_dir()), 0755);
    return text_of("%s/test-output/%s", build_dir(), unique_name(what));
}

static void
finish(void *arg)
{
    PQfinish(arg);
}

static void
given_outbox(void)
{
    conninfo = given_database();
    conn = db_connect(conninfo);
    at_test_end(finish, conn);
    topic = GIVEN_TOPIC(1);
    ini = output_file("daemon.ini");
}

/* Everything in the file, so that a test may change it. `lines` follow [relay]. */
static void
settings(const char *lines)
{
    write_file(ini,
               text_of("[relay]\ndatabase = %s\nbrokers = %s\n%s\n", conninfo, brokers(), lines));
}

static struct process *
start_daemon(const char *const *environment)
{
    return start_process(ARGS("outbox-relay", "--config", ini, "--metrics", "0"), environment);
}

static bool
has_logged(const struct process *process, const char *text)
{
    return strstr(process_errors(process), text) != NULL;
}

static int
port_of(const struct process *process)
{
    const char *found;

    WAIT_UNTIL(has_logged(process, "answering /metrics"), 10000);
    found = strstr(process_errors(process), "answering /metrics");
    found = strstr(found, "127.0.0.1:");
    ck_assert_ptr_nonnull(found);
    return atoi(found + strlen("127.0.0.1:"));
}

/* --- systemd ------------------------------------------------------------------ */

struct listener {
    int fd;
    char heard[65536]; /* all datagrams, one after the other, each in (...) */
};

static void
end_listener(void *arg)
{
    struct listener *listener = arg;

    close(listener->fd);
    free(listener);
}

/* A name that begins with @ is in no file system. */
static struct listener *
given_listener(const char *name)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct listener *listener = calloc(1, sizeof *listener);
    size_t len = strlen(name);

    ck_assert_ptr_nonnull(listener);
    ck_assert_uint_lt(len, sizeof address.sun_path);
    memcpy(address.sun_path, name, len);
    if (*name == '@')
        address.sun_path[0] = '\0';
    listener->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    ck_assert_int_eq(bind(listener->fd, (struct sockaddr *)&address,
                          (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)),
                     0);
    at_test_end(end_listener, listener);
    return listener;
}

static const char *
heard(struct listener *listener)
{
    size_t len = strlen(listener->heard);
    char datagram[1024];
    ssize_t n;

    while ((n = recv(listener->fd, datagram, sizeof datagram - 1, 0)) > 0 &&
           len + (size_t)n + 3 < sizeof listener->heard)
        len += (size_t)sprintf(listener->heard + len, "(%.*s)", (int)n, datagram);
    return listener->heard;
}

static int
times_heard(struct listener *listener, const char *text)
{
    int n = 0;

    for (const char *at = heard(listener); (at = strstr(at, text)) != NULL; at++)
        n++;
    return n;
}

static void
check_dialogue_with_systemd(const char *name)
{
    struct listener *systemd = given_listener(name);
    struct process *relay;
    long long us = -1;

    given_outbox();
    settings("");
    relay = start_daemon(ARGS(text_of("NOTIFY_SOCKET=%s", name), "WATCHDOG_USEC=600000"));
    WAIT_UNTIL(times_heard(systemd, "(READY=1)") == 1, 10000);
    ck_assert_int_eq(db_int(conn, "SELECT count(owner) FROM outbox.stream"), 1);
    WAIT_UNTIL(times_heard(systemd, "STATUS=publishing 1 of 1 streams") == 1, 5000);
    WAIT_UNTIL(times_heard(systemd, "(WATCHDOG=1)") >= 3, 3000);

    process_signal(relay, SIGHUP);
    WAIT_UNTIL(times_heard(systemd, "(READY=1)") == 2, 10000);
    sscanf(strstr(heard(systemd), "(RELOADING=1\nMONOTONIC_USEC="),
           "(RELOADING=1\nMONOTONIC_USEC=%lld", &us);
    ck_assert_msg(us > 0 && us <= monotonic_us() && us > monotonic_us() - 30000000, "%lld", us);

    process_signal(relay, SIGTERM);
    process_expect(relay, 0, 10000);
    ck_assert_int_eq(times_heard(systemd, "STOPPING=1"), 1);
    ck_assert_int_eq(times_heard(systemd, "(READY=1)"), 2);
}

START_TEST(test_daemon_tells_systemd_when_it_is_ready_and_alive)
{
    check_dialogue_with_systemd(text_of("/tmp/%s", unique_name("notify")));
}
END_TEST

START_TEST(test_daemon_speaks_to_an_abstract_socket)
{
    check_dialogue_with_systemd(text_of("@%s", unique_name("notify")));
}
END_TEST

/* While the database cannot be reached it is not ready, asks for more time to
 * start, and is not taken for dead. */
START_TEST(test_daemon_is_not_ready_without_a_database_and_not_dead)
{
    const char *name = text_of("@%s", unique_name("notify"));
    struct listener *systemd = given_listener(name);
    struct process *relay;

    ini = output_file("daemon.ini");
    write_file(ini, "[relay]\ndatabase = host=127.0.0.1 port=1\nbrokers = 127.0.0.1:1\n");
    relay = start_daemon(ARGS(text_of("NOTIFY_SOCKET=%s", name), "WATCHDOG_USEC=600000"));
    WAIT_UNTIL(times_heard(systemd, "(EXTEND_TIMEOUT_USEC=") >= 1, 5000);
    WAIT_UNTIL(times_heard(systemd, "(WATCHDOG=1)") >= 5, 5000);
    ck_assert_int_eq(times_heard(systemd, "READY=1"), 0);
    ck_assert_int_ge(times_heard(systemd, "STATUS=connecting to PostgreSQL"), 1);
    process_signal(relay, SIGTERM);
    process_expect(relay, 0, 10000);
}
END_TEST

/* A server that does not answer is waited for within the statement's deadline;
 * that is no reason to be killed. */
START_TEST(test_daemon_feeds_the_watchdog_while_postgresql_is_silent)
{
    const char *name = text_of("@%s", unique_name("notify"));
    struct listener *systemd = given_listener(name);
    struct process *relay;
    int fed;

    given_outbox();
    settings("lease_ms = 300");
    relay = start_daemon(ARGS(text_of("NOTIFY_SOCKET=%s", name), "WATCHDOG_USEC=300000"));
    WAIT_UNTIL(times_heard(systemd, "(READY=1)") == 1, 10000);
    db_exec(conn, "BEGIN");
    db_exec(conn, "LOCK TABLE outbox.stream IN ACCESS EXCLUSIVE MODE");
    WAIT_UNTIL(metric(http_get(port_of(relay), "/metrics").body,
                      "outbox_relay_heartbeat_seconds{stream=\"0\"}") > 1,
               10000);
    fed = times_heard(systemd, "(WATCHDOG=1)");
    WAIT_UNTIL(times_heard(systemd, "(WATCHDOG=1)") >= fed + 5, 5000);
    ck_assert(!process_ended(relay));
}
END_TEST

static bool
pipe_is_full(int fd)
{
    enum { PIPE_BYTES = 65536 };
    int bytes = 0;

    ck_assert_int_eq(ioctl(fd, FIONREAD, &bytes), 0);
    return bytes > PIPE_BYTES - 4096;
}

/* Its log is a pipe that nobody reads, so it hangs in the middle of a line. */
START_TEST(test_daemon_that_hangs_does_not_feed_the_watchdog)
{
    const char *name = text_of("@%s", unique_name("notify")), *fifo = output_file("fifo");
    struct listener *systemd = given_listener(name);
    char text[4096] = "";
    int fed, log, port;

    given_outbox();
    settings("stall_ms = 700\nlog = debug\n[kafka]\ndebug = all");
    ck_assert_int_eq(mkfifo(fifo, 0600), 0);
    log = open(fifo, O_RDWR | O_CLOEXEC);
    start_process(ARGS("sh", "-c",
                       text_of("exec '%s/outbox-relay' --config '%s' --metrics 0 2>'%s'",
                               build_dir(), ini, fifo)),
                  ARGS(text_of("NOTIFY_SOCKET=%s", name), "WATCHDOG_USEC=300000"));
    ck_assert_int_gt(read(log, text, sizeof text - 1), 0);
    ck_assert_msg(strstr(text, "address=127.0.0.1:") != NULL, "%s", text);
    port = atoi(strstr(text, "address=127.0.0.1:") + strlen("address=127.0.0.1:"));
    WAIT_UNTIL(times_heard(systemd, "(WATCHDOG=1)") > 0, 5000);
    /* What systemd is told is taken from the socket meanwhile, or telling blocks. */
    WAIT_UNTIL((enqueue_many(conn, topic, "m", 500), heard(systemd), pipe_is_full(log)), 20000);
    WAIT_UNTIL((enqueue_many(conn, topic, "m", 50), heard(systemd),
                http_get(port, "/healthz").code == 503),
               10000);
    ck_assert_ptr_nonnull(strstr(http_get(port, "/healthz").body, "stream 0 hangs: no round for"));
    fed = times_heard(systemd, "(WATCHDOG=1)");
    STAYS_TRUE(times_heard(systemd, "(WATCHDOG=1)") == fed, 700);
    close(log);
    unlink(fifo);
}
END_TEST

/* --- signals ------------------------------------------------------------------- */

START_TEST(test_daemon_takes_new_settings_on_hangup)
{
    struct process *relay;
    struct records records;
    const char *text;

    given_outbox();
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
    text = http_get(port_of(relay), "/metrics").body;
    ck_assert(metric(text, "outbox_relay_published_total{stream=\"0\"}") == 2); /* counters go on */
    ck_assert(metric(text, "outbox_relay_reloads_total") == 1);
}
END_TEST

START_TEST(test_daemon_goes_on_with_the_old_settings_if_the_new_are_wrong)
{
    struct process *relay;

    given_outbox();
    settings("");
    relay = start_daemon(NULL);
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
    ck_assert(metric(http_get(port_of(relay), "/metrics").body,
                     "outbox_relay_reload_failures_total") == 3);
}
END_TEST

START_TEST(test_daemon_ends_at_once_at_the_second_signal)
{
    struct process *relay;

    given_outbox();
    use_brokers("127.0.0.1:1");
    settings("drain_ms = 60000");
    enqueue(conn, topic, "k", "1");
    relay = start_daemon(NULL);
    WAIT_UNTIL(metric(http_get(port_of(relay), "/metrics").body,
                      "outbox_relay_unacknowledged_messages{stream=\"0\"}") == 1,
               10000);
    process_signal(relay, SIGTERM);
    STAYS_TRUE(!process_ended(relay), 500);
    process_signal(relay, SIGTERM);
    process_expect(relay, -SIGTERM, 2000);
}
END_TEST

/* --- secrets -------------------------------------------------------------------- */

static const char secret[] = "Gr4nd=Secret;#1";

START_TEST(test_daemon_shows_no_secret)
{
    const char *password = output_file("password"), *command_line;
    struct process *relay;

    given_outbox();
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
    ck_assert_ptr_null(strstr(http_get(port_of(relay), "/metrics").body, secret));
    process_signal(relay, SIGTERM);
    process_expect(relay, 0, 15000);
    ck_assert_ptr_null(strstr(process_errors(relay), secret));
    unlink(password);
}
END_TEST

/* --- metrics and health ---------------------------------------------------------- */

START_TEST(test_daemon_metrics_say_what_is_published_and_what_is_not)
{
    struct process *relay;
    PGconn *writer;
    const char *text;
    int port;

    given_outbox();
    settings("");
    relay = start_daemon(NULL);
    port = port_of(relay);
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
    db_exec(writer, "COMMIT");
    WAIT_UNTIL(metric(http_get(port, "/metrics").body,
                      "outbox_relay_open_transaction_seconds{stream=\"0\"}") == 0,
               5000);
}
END_TEST

START_TEST(test_daemon_metrics_show_a_backlog_and_a_silent_kafka)
{
    struct process *relay, *standby;
    struct http_answer health;
    int port;

    given_outbox();
    use_brokers("127.0.0.1:1");
    settings("drain_ms = 100\nlease_ms = 1000");
    enqueue_many(conn, topic, "m", 30);
    relay = start_daemon(NULL);
    port = port_of(relay);
    WAIT_UNTIL(metric(http_get(port, "/metrics").body,
                      "outbox_relay_kafka_silent_seconds{stream=\"0\"}") > 0.5,
               10000);
    ck_assert(metric(http_get(port, "/metrics").body, "outbox_relay_lag_messages{stream=\"0\"}") ==
              30);
    ck_assert(metric(http_get(port, "/metrics").body, "outbox_relay_lag_seconds{stream=\"0\"}") >
              0.5);
    health = http_get(port, "/healthz");
    ck_assert_int_eq(health.code, 200); /* restarting us would not bring Kafka back */

    standby = start_daemon(NULL);
    WAIT_UNTIL(metric(http_get(port_of(standby), "/metrics").body,
                      "outbox_relay_state{stream=\"0\",state=\"standby\"}") == 1,
               10000);
    expect_prometheus(http_get(port_of(standby), "/metrics").body);
}
END_TEST

START_TEST(test_daemon_is_unwell_without_postgresql)
{
    struct proxy *proxy;
    struct process *relay;
    struct http_answer health;
    int port;

    given_outbox();
    proxy = given_proxy(text_of("127.0.0.1:%s", server_env("PGPORT")));
    conninfo = text_of("%s port=%d", conninfo, proxy_port(proxy));
    settings("lease_ms = 300");
    relay = start_daemon(NULL);
    port = port_of(relay);
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
    relay = start_daemon(NULL);
    port = port_of(relay);
    ck_assert_int_eq(http_get(port, "/").code, 404);
    ck_assert_int_eq(http_get(port, "/metrics/").code, 404);
    ck_assert_int_eq(http_get(port, "/healthz?verbose=1").code, 200); /* still starting */
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
                   2, 10000);
}
END_TEST

/* --- streams ------------------------------------------------------------------------- */

static int
owned(const struct process *relay)
{
    const char *text = http_get(port_of(relay), "/metrics").body;
    int n = 0;

    for (; (text = strstr(text, "state=\"owner\"} 1")) != NULL; text++)
        n++;
    return n;
}

/* trap: O32. One process has a relay for each, also when their number changes. */
START_TEST(test_daemon_o32_publishes_all_streams_and_follows_their_number)
{
    struct process *relay;

    given_outbox();
    settings("lease_ms = 1000");
    relay = start_daemon(NULL);
    WAIT_UNTIL(owned(relay) == 1, 10000);
    db_exec(conn, "SELECT outbox.set_streams(4)");
    WAIT_UNTIL(owned(relay) == 4, 10000);
    enqueue_many(conn, topic, "m", 40);
    WAIT_UNTIL(pending(conn) == 0, 10000);
    expect_prometheus(http_get(port_of(relay), "/metrics").body);
    db_exec(conn, "SELECT outbox.set_streams(2)");
    WAIT_UNTIL(owned(relay) == 2, 10000);
    enqueue_many(conn, topic, "n", 40);
    WAIT_UNTIL(pending(conn) == 0, 10000);
    ck_assert_str_eq(http_get(port_of(relay), "/healthz").body, "ok\n");
    ck_assert_ptr_null(strstr(http_get(port_of(relay), "/metrics").body, "stream=\"2\""));
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

/* --- settings --------------------------------------------------------------------- */

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
        .tests = TESTS(test_daemon_tells_systemd_when_it_is_ready_and_alive,
                       test_daemon_speaks_to_an_abstract_socket,
                       test_daemon_is_not_ready_without_a_database_and_not_dead,
                       test_daemon_feeds_the_watchdog_while_postgresql_is_silent,
                       test_daemon_that_hangs_does_not_feed_the_watchdog,
                       test_daemon_takes_new_settings_on_hangup,
                       test_daemon_goes_on_with_the_old_settings_if_the_new_are_wrong,
                       test_daemon_ends_at_once_at_the_second_signal, test_daemon_shows_no_secret,
                       test_daemon_metrics_say_what_is_published_and_what_is_not,
                       test_daemon_metrics_show_a_backlog_and_a_silent_kafka,
                       test_daemon_is_unwell_without_postgresql,
                       test_daemon_answers_nothing_but_its_two_pages,
                       test_daemon_o32_publishes_all_streams_and_follows_their_number,
                       test_daemon_check_judges_settings_and_connects_to_nothing,
                       test_daemon_ini_that_is_installed_is_accepted_with_every_setting_on),
        .timeout_s = 60,
    });
}
