/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the daemon outbox-relay says to systemd: when it is ready, what it does, and
 * that it does not hang.
 */
#include "test/support/given_daemon.h"
#include "test/support/http.h"
#include "test/support/run.h"
#include "test/support/wait.h"

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

/* --- the socket ------------------------------------------------------------ */

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

/* --- the dialogue ---------------------------------------------------------- */

static void
check_dialogue_with_systemd(const char *name)
{
    struct listener *systemd = given_listener(name);
    struct process *relay;
    long long us = -1;

    given_daemon();
    settings("");
    relay = start_daemon(ini, ARGS(text_of("NOTIFY_SOCKET=%s", name), "WATCHDOG_USEC=600000"));
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
    relay = start_daemon(ini, ARGS(text_of("NOTIFY_SOCKET=%s", name), "WATCHDOG_USEC=600000"));
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

    given_daemon();
    settings("lease_ms = 300");
    relay = start_daemon(ini, ARGS(text_of("NOTIFY_SOCKET=%s", name), "WATCHDOG_USEC=300000"));
    WAIT_UNTIL(times_heard(systemd, "(READY=1)") == 1, 10000);
    db_exec(conn, "BEGIN");
    db_exec(conn, "LOCK TABLE outbox.stream IN ACCESS EXCLUSIVE MODE");
    WAIT_UNTIL(metric(http_get(daemon_port(relay), "/metrics").body,
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

    given_daemon();
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

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox_daemon_systemd",
        .tests = TESTS(test_daemon_tells_systemd_when_it_is_ready_and_alive,
                       test_daemon_speaks_to_an_abstract_socket,
                       test_daemon_is_not_ready_without_a_database_and_not_dead,
                       test_daemon_feeds_the_watchdog_while_postgresql_is_silent,
                       test_daemon_that_hangs_does_not_feed_the_watchdog),
        .timeout_s = 60,
    });
}
