/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program outbox-relay: settings from the command line and a file, signals,
 * and the exit code. What it does is the library's (include/saga/relay.h).
 */
#include "base/log.h"
#include "outbox/daemon_settings.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_REFUSED = 4 };

static struct saga_relay *running;
static volatile sig_atomic_t interrupted;

static void
on_signal(int signal)
{
    (void)signal;
    interrupted = 1;
    saga_relay_stop(running);
}

/* The first signal stops in good order, a second one at once. */
static void
catch_signals(void)
{
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND };

    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

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

static void
log_end(const struct saga_log *log, const struct saga_relay *relay, int rc,
        const struct saga_error *err)
{
    struct saga_relay_stats stats = { SAGA_RELAY_STATS };

    if (rc != 0)
        log_error(log, SAGA_LOG_ERROR, "the relay stops", err);
    saga_relay_stats(relay, &stats);
    log_event(log, SAGA_LOG_INFO, "done", LOG_INT("published", stats.published),
              LOG_INT("refused", stats.refused), LOG_INT("reconnects", stats.reconnects));
}

int
main(int argc, char **argv)
{
    struct settings settings;
    struct saga_error err;
    int rc = settings_read(&settings, argc, argv);

    if (rc != SETTINGS_RUN) {
        settings_clear(&settings);
        return rc == SETTINGS_EXIT ? EXIT_OK : EXIT_USAGE;
    }
    rc = saga_relay_new(&running, &settings.options, &err);
    if (rc != 0) {
        fprintf(stderr, "outbox-relay: %s\n", err.message);
        settings_clear(&settings);
        return exit_code_of(rc);
    }
    catch_signals();
    rc = saga_relay_run(running, settings.once ? SAGA_RELAY_ONCE : SAGA_RELAY_UNTIL_STOP, &err);
    /* What --once has promised is to publish all that is there. */
    if (rc == 0 && settings.once && interrupted) {
        rc = SAGA_ETIMEOUT;
        err = (struct saga_error){ .code = rc, .message = "ended by a signal before all was done" };
    }
    log_end(&settings.options.log, running, rc, &err);
    saga_relay_free(running);
    settings_clear(&settings);
    return exit_code_of(rc);
}
