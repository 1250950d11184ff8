/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program outbox-relay: signals, reloading, telling systemd, and the exit
 * code. What it does is the library's (include/saga/relay.h).
 *
 * The main thread publishes nothing. It waits for signals and for relays that
 * end, and looks at them a few times a second.
 */
#include "base/clock.h"
#include "base/log.h"
#include "outbox/daemon_health.h"
#include "outbox/daemon_http.h"
#include "outbox/daemon_notify.h"

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_REFUSED = 4 };
enum { TICK_MS = 1000, STATUS_MS = 5000, EXTEND_US = 15000000 };

enum phase { STARTING, RUNNING, RELOADING, STOPPING };

struct daemon {
    struct arguments arguments;
    struct settings settings, next_settings;
    struct relays relays, next_relays; /* next: of a reload that is under way */
    struct board *board;
    struct http *http;
    struct notify notify;
    enum phase phase;
    bool ready;        /* once every relay has owned its stream or stood by */
    bool gave_up;      /* --once: nothing could be published */
    bool reload_again; /* asked for while one was under way */
    int signals, wake_fd;
    int32_t tick_ms;
    int64_t told_ms; /* when systemd was last told our status */
};

static int
exit_code_of(int rc)
{
    switch (rc) {
    case 0:
        return EXIT_OK;
    case SAGA_EINVAL:
        return EXIT_USAGE;
    case SAGA_ESTATE:
    case SAGA_EFENCED:
    case SAGA_EMISMATCH:
        return EXIT_REFUSED;
    default:
        return EXIT_FAILED;
    }
}

static const struct saga_log *
log_of(const struct daemon *daemon)
{
    return &daemon->settings.options.log;
}

/* --- settings ------------------------------------------------------------- */

static void
warn_of_settings(const struct daemon *daemon, bool first)
{
    if (daemon->arguments.had_password && first)
        log_event(log_of(daemon), SAGA_LOG_WARNING,
                  "a password in --database: others could see it until it was overwritten; put it "
                  "into --config, or into a file or credential that --config names",
                  LOG_NO_FIELDS);
    if (*daemon->settings.ignored != '\0')
        log_event(log_of(daemon), SAGA_LOG_WARNING,
                  "a variable in the environment is not a setting; they begin with OUTBOX_RELAY_",
                  LOG_TEXT("variable", daemon->settings.ignored));
}

static bool
same(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static void
refuse_settings(struct daemon *daemon, struct settings *settings, const struct saga_error *err)
{
    log_event(log_of(daemon), SAGA_LOG_ERROR, "the new settings are wrong; going on with the old",
              LOG_TEXT("error", err->message));
    board_reloaded(daemon->board, false);
    settings_clear(settings);
    if (daemon->ready)
        notify_send(&daemon->notify, "READY=1");
}

/* Reads all settings and makes relays of them; what is wrong has its place. */
static int
read_and_make(const struct daemon *daemon, struct settings *settings, struct relays *relays, int n,
              struct saga_error *err)
{
    int rc = settings_read(settings, &daemon->arguments, environ, err);

    if (rc != 0)
        return rc;
    rc = relays_make(relays, settings, n, daemon->wake_fd, err);
    if (rc != 0)
        settings_locate(settings, err);
    return rc;
}

/* First everything is read and checked; only then the relays are stopped. */
static void
reload(struct daemon *daemon)
{
    struct settings *next = &daemon->next_settings;
    struct saga_error err;
    int rc;

    if (daemon->phase == RELOADING)
        daemon->reload_again = true;
    if (daemon->phase == RELOADING || daemon->phase == STOPPING || daemon->arguments.once)
        return;
    notify_send(&daemon->notify, "RELOADING=1\nMONOTONIC_USEC=%" PRId64, clock_mono_ms() * 1000);
    rc = read_and_make(daemon, next, &daemon->next_relays, daemon->relays.n, &err);
    if (rc != 0) {
        refuse_settings(daemon, next, &err);
        return;
    }
    if (!same(next->listen, daemon->settings.listen))
        log_event(
            log_of(daemon), SAGA_LOG_WARNING,
            "[http] listen cannot change while we run; the new address counts after a restart",
            LOG_NO_FIELDS);
    daemon->phase = RELOADING;
    relays_stop(&daemon->relays);
}

/* The old relays have ended. */
static void
finish_reload(struct daemon *daemon)
{
    board_show(daemon->board, NULL, NULL);
    relays_free(&daemon->relays);
    settings_clear(&daemon->settings);
    daemon->relays = daemon->next_relays;
    daemon->settings = daemon->next_settings;
    daemon->next_relays = (struct relays){ 0 };
    daemon->next_settings = (struct settings){ 0 };
    relays_start(&daemon->relays, SAGA_RELAY_UNTIL_STOP);
    board_show(daemon->board, &daemon->relays, &daemon->settings);
    board_reloaded(daemon->board, true);
    log_event(log_of(daemon), SAGA_LOG_INFO, "the new settings are in force",
              LOG_INT("streams", atomic_load(&daemon->relays.n)));
    warn_of_settings(daemon, false);
    daemon->phase = daemon->ready ? RUNNING : STARTING;
    if (daemon->ready)
        notify_send(&daemon->notify, "READY=1");
    if (daemon->reload_again) {
        daemon->reload_again = false;
        reload(daemon);
    }
}

/* --- signals --------------------------------------------------------------- */

/* The first one stops in good order; from then on they do what they always do,
 * so that a second one ends the process whatever it is waiting for. */
static void
stop(struct daemon *daemon)
{
    sigset_t set;

    if (daemon->phase == STOPPING)
        return;
    daemon->phase = STOPPING;
    notify_send(&daemon->notify, "STOPPING=1\nSTATUS=stopping: waiting for what is on its way");
    relays_stop(&daemon->relays);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static void
take_signals(struct daemon *daemon)
{
    struct signalfd_siginfo info;

    while (read(daemon->signals, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGHUP)
            reload(daemon);
        else
            stop(daemon);
    }
}

static int
open_signals(struct daemon *daemon)
{
    sigset_t set;

    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL); /* in all threads: before there are any */
    daemon->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    daemon->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return daemon->signals >= 0 && daemon->wake_fd >= 0 ? 0 : -1;
}

/* --- telling systemd ------------------------------------------------------- */

static void
tell(struct daemon *daemon)
{
    struct board_view view;
    int64_t now = clock_mono_ms();
    char status[256];
    bool alive;

    if (board_read(daemon->board, &view, NULL) != 0)
        return;
    alive = health_alive(&view);
    if (daemon->notify.watchdog_us > 0 && alive)
        notify_send(&daemon->notify, "WATCHDOG=1");
    if (daemon->phase == STARTING && health_ready(&view)) {
        notify_send(&daemon->notify, "READY=1");
        daemon->phase = RUNNING;
        daemon->ready = true;
        daemon->told_ms = 0;
    }
    if (now - daemon->told_ms >= STATUS_MS || daemon->told_ms == 0) {
        daemon->told_ms = now;
        health_status(&view, status, sizeof status);
        if (daemon->phase != STOPPING)
            notify_send(&daemon->notify, "STATUS=%s", status);
        /* A database that is away, or brokers that are slow to answer the last
         * messages, are waited for; the time that systemd gives grows with it. */
        if (alive && (daemon->phase == STARTING || daemon->phase == STOPPING))
            notify_send(&daemon->notify, "EXTEND_TIMEOUT_USEC=%d", EXTEND_US);
    }
    board_view_clear(&view);
}

/* --- the whole ------------------------------------------------------------- */

static void
wait_for_something(const struct daemon *daemon)
{
    struct pollfd fds[] = { { .fd = daemon->signals, .events = POLLIN },
                            { .fd = daemon->wake_fd, .events = POLLIN } };
    uint64_t count;

    if (poll(fds, 2, daemon->tick_ms) > 0 && read(daemon->wake_fd, &count, sizeof count) < 0)
        return; /* a signal, then */
}

/* Until the relays have ended, and are not made anew. One that fails ends all. */
static int
watch_over(struct daemon *daemon, struct saga_error *err)
{
    for (;;) {
        bool ended = relays_tend(&daemon->relays);
        int rc = relays_answer(&daemon->relays, err);

        if (ended && (daemon->phase != RELOADING || rc != 0))
            return rc;
        if (ended)
            finish_reload(daemon);
        if (daemon->arguments.once && !daemon->gave_up && daemon->phase != STOPPING &&
            relays_stuck(&daemon->relays, daemon->settings.once_ms))
            daemon->gave_up = true;
        if (rc != 0 || daemon->gave_up)
            stop(daemon);
        tell(daemon);
        wait_for_something(daemon);
        take_signals(daemon);
    }
}

static void
log_end(struct daemon *daemon, int rc, const struct saga_error *err)
{
    struct board_view view;
    struct saga_relay_stats sum = { 0 };

    if (rc != 0)
        log_error(log_of(daemon), SAGA_LOG_ERROR, "the relay stops", err);
    if (board_read(daemon->board, &view, NULL) != 0)
        return;
    for (int i = 0; i < view.n; i++) {
        sum.published += view.streams[i].stats.published;
        sum.refused += view.streams[i].stats.refused;
        sum.reconnects += view.streams[i].stats.reconnects;
    }
    board_view_clear(&view);
    log_event(log_of(daemon), SAGA_LOG_INFO, "done", LOG_INT("published", sum.published),
              LOG_INT("refused", sum.refused), LOG_INT("reconnects", sum.reconnects));
}

static int
run(struct daemon *daemon, struct saga_error *err)
{
    bool once = daemon->arguments.once;
    int rc;

    relays_start(&daemon->relays, once ? SAGA_RELAY_ONCE : SAGA_RELAY_UNTIL_STOP);
    board_show(daemon->board, &daemon->relays, &daemon->settings);
    rc = watch_over(daemon, err);
    /* What --once has promised is to publish all that is there. */
    if (rc == 0 && daemon->gave_up)
        rc = error_set(err, SAGA_ETIMEOUT,
                       "nothing could be published for %d ms (once_ms); what is left is left to "
                       "the next run",
                       daemon->settings.once_ms);
    else if (rc == 0 && once && daemon->phase == STOPPING)
        rc = error_set(err, SAGA_ETIMEOUT, "ended by a signal before all was done");
    log_end(daemon, rc, err);
    return rc;
}

static int
prepare(struct daemon *daemon, struct saga_error *err)
{
    int rc = read_and_make(daemon, &daemon->settings, &daemon->relays, 1, err);

    if (rc == 0 && daemon->arguments.check)
        warn_of_settings(daemon, true);
    if (rc != 0 || daemon->arguments.check)
        return rc;
    if (!notify_open(&daemon->notify))
        log_event(log_of(daemon), SAGA_LOG_WARNING,
                  "NOTIFY_SOCKET cannot be used: it is neither an absolute path nor @name",
                  LOG_NO_FIELDS);
    daemon->tick_ms = TICK_MS;
    if (daemon->notify.watchdog_us > 0 && daemon->notify.watchdog_us / 3000 < TICK_MS)
        daemon->tick_ms = (int32_t)(daemon->notify.watchdog_us / 3000) + 1;
    daemon->board = board_new();
    if (daemon->board == NULL)
        return error_set(err, SAGA_ENOMEM, "out of memory");
    warn_of_settings(daemon, true);
    if (daemon->settings.listen != NULL)
        rc = http_start(&daemon->http, daemon->settings.listen, daemon->board, log_of(daemon), err);
    return rc;
}

static void
clear(struct daemon *daemon)
{
    http_stop(daemon->http);
    relays_free(&daemon->relays);
    relays_free(&daemon->next_relays);
    board_free(daemon->board);
    notify_close(&daemon->notify);
    settings_clear(&daemon->settings);
    settings_clear(&daemon->next_settings);
    arguments_clear(&daemon->arguments);
    close(daemon->signals);
    close(daemon->wake_fd);
}

/* Messages are freed in the order in which they were made, and so most of them
 * join a large free piece; each time the allocator would look through its lists
 * of the smallest ones, which without this is a sixth of a drain's CPU time. */
static void
set_up_allocator(void)
{
    mallopt(M_MXFAST, 0);
}

int
main(int argc, char **argv)
{
    struct daemon daemon = { .notify = { .fd = -1 } };
    struct saga_error err;
    int rc = arguments_read(&daemon.arguments, argc, argv);

    if (rc != ARGUMENTS_RUN) {
        arguments_clear(&daemon.arguments);
        return rc == ARGUMENTS_EXIT ? EXIT_OK : EXIT_USAGE;
    }
    set_up_allocator();
    if (open_signals(&daemon) != 0) {
        fprintf(stderr, "outbox-relay: %s\n", strerror(errno));
        return EXIT_FAILED;
    }
    rc = prepare(&daemon, &err);
    if (rc != 0)
        fprintf(stderr, "outbox-relay: %s\n", err.message);
    else if (daemon.arguments.check)
        puts("ok");
    else
        rc = run(&daemon, &err);
    clear(&daemon);
    return exit_code_of(rc);
}
