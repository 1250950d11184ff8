/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two processes, started and ended by hand.
 */
#include "test/chaos/relays.h"

#include "test/support/kafka.h"
#include "test/support/run.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EXIT_OVERTAKEN = 4, STOP_MS = 30000 };

static const char *
write_config(int i, int lease_ms)
{
    const char *path = text_of("%s/test-output/%s.%d.ini", build_dir(), unique_name("chaos"), i);
    FILE *file;

    run_process(ARGS("mkdir", "-p", text_of("%s/test-output", build_dir())));
    file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fprintf(file, "[relay]\nlease_ms = %d\n[kafka]\nreconnect.backoff.max.ms = 500\n", lease_ms);
    fclose(file);
    return path;
}

struct relays *
given_relays(const char *address, const char *database, int lease_ms, struct chance *chance)
{
    struct relays *relays = calloc(1, sizeof *relays);

    ck_assert_ptr_nonnull(relays);
    at_test_end(free, relays);
    relays->chance = chance;
    for (int i = 0; i < RELAYS; i++) {
        struct relay *relay = &relays->relays[i];

        relay->proxy = given_proxy(address);
        relay->conninfo =
            text_of("host=127.0.0.1 port=%d user=postgres dbname=%s connect_timeout=2",
                    proxy_port(relay->proxy), database);
        relay->config = write_config(i, lease_ms);
        relays_start(relays, i);
    }
    return relays;
}

void
relays_start(struct relays *relays, int i)
{
    static const int clocks[] = { 0, 0, 600, -600, 200000, -200000 };
    struct relay *relay = &relays->relays[i];
    int clock = clocks[between(relays->chance, 0, 5)];
    const char *environment[] = { text_of("LD_PRELOAD=%s/test/chaos/clock.so", build_dir()),
                                  text_of("CLOCK_SHIFT=%d", clock), NULL };

    relays->skewed += clock != 0;
    relay->frozen = false;
    relay->process = start_process(ARGS("outbox-relay", "--database", relay->conninfo, "--brokers",
                                        brokers(), "--config", relay->config),
                                   clock != 0 ? environment : NULL);
}

void
relays_kill(struct relays *relays, int i)
{
    struct relay *relay = &relays->relays[i];

    if (relay->process != NULL)
        process_kill(relay->process);
    relay->process = NULL;
    relay->frozen = false;
}

void
relays_stop(struct relays *relays, int i)
{
    struct relay *relay = &relays->relays[i];
    int code;

    if (relay->process == NULL)
        return;
    if (!process_ended(relay->process))
        process_signal(relay->process, SIGTERM);
    code = process_wait(relay->process, STOP_MS);
    ck_assert_msg(code == 0 || code == EXIT_OVERTAKEN, "a relay ended with %d: %s", code,
                  process_errors(relay->process));
    relay->process = NULL;
}

void
relays_freeze(struct relays *relays, int i)
{
    struct relay *relay = &relays->relays[i];

    if (relay->process != NULL && !process_ended(relay->process)) {
        process_freeze(relay->process);
        relay->frozen = true;
    }
}

void
relays_thaw(struct relays *relays, int i)
{
    struct relay *relay = &relays->relays[i];

    if (relay->frozen)
        process_thaw(relay->process);
    relay->frozen = false;
}

void
relays_supervise(struct relays *relays)
{
    for (int i = 0; i < RELAYS; i++) {
        struct process *process = relays->relays[i].process;

        if (process == NULL || relays->relays[i].frozen || !process_ended(process))
            continue;
        ck_assert_msg(WIFEXITED(process->status) && WEXITSTATUS(process->status) == EXIT_OVERTAKEN,
                      "a relay ended by itself with status 0x%x: %s", process->status,
                      process_errors(process));
        relays->restarts++;
        relays_start(relays, i);
    }
}
