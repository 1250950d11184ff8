/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Six processes, started and ended by hand.
 */
#include "test/chaos/members.h"

#include "test/support/kafka.h"
#include "test/support/run.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STOP_MS = 40000 };

struct members *
given_members(const char *postgres, const char *database, const char *redis, const char *topic,
              struct chance *chance)
{
    struct members *members = calloc(1, sizeof *members);

    ck_assert_ptr_nonnull(members);
    at_test_end(free, members);
    members->chance = chance;
    members->topic = topic;
    members->redis = given_proxy(redis);
    for (int group = 0; group < GROUPS; group++)
        members->groups[group] = unique_name(group == 0 ? "eager" : "cooperative");
    for (int i = 0; i < MEMBERS; i++) {
        struct member *member = &members->members[i];

        member->group = members->groups[i % GROUPS];
        member->proxy = given_proxy(postgres);
        member->conninfo =
            text_of("host=127.0.0.1 port=%d user=postgres dbname=%s connect_timeout=2",
                    proxy_port(member->proxy), database);
        members_start(members, i);
    }
    return members;
}

void
members_start(struct members *members, int i)
{
    static const int clocks[] = { 0, 0, 0, 600, -600 };
    static const int batches[] = { 1, 10, 100, 100, 1000 };
    struct member *member = &members->members[i];
    int clock = clocks[between(members->chance, 0, 4)];
    int batch = batches[between(members->chance, 0, 4)];
    const char *environment[] = { text_of("LD_PRELOAD=%s/test/chaos/clock.so", build_dir()),
                                  text_of("CLOCK_SHIFT=%d", clock), NULL };
    const char *taking = percent(members->chance, 30) ? "many" : "fail=397";

    member->frozen = false;
    member->process = start_process(
        ARGS("test/programs/consumer", member->conninfo, member->group, brokers(),
             proxy_address(members->redis), members->topic, "stop", taking,
             text_of("batch_rows=%d", batch), "lease_ms=2000", text_of("window_ms=%d", WINDOW_MS),
             "statement_ms=3000", "idle_in_tx_ms=4000", "retry_first_ms=20",
             text_of("session.timeout.ms=%d", SESSION_MS), "heartbeat.interval.ms=300",
             text_of("max.poll.interval.ms=%d", POLL_MS), "auto.commit.interval.ms=200",
             "fetch.wait.max.ms=50", "reconnect.backoff.max.ms=500",
             text_of("partition.assignment.strategy=%s",
                     i % GROUPS == 0 ? "range" : "cooperative-sticky")),
        clock != 0 ? environment : NULL);
}

void
members_kill(struct members *members, int i)
{
    struct member *member = &members->members[i];

    if (member->process != NULL)
        process_kill(member->process);
    member->process = NULL;
    member->frozen = false;
}

static void
add_figures(struct members *members, const char *output)
{
    long long applied = 0, by_mark = 0, by_inbox = 0;

    if (sscanf(output, "applied %lld mark %lld inbox %lld", &applied, &by_mark, &by_inbox) != 3)
        return; /* told to end before it had begun */
    members->applied += applied;
    members->by_mark += by_mark;
    members->by_inbox += by_inbox;
}

void
members_leave(struct members *members, int i)
{
    struct member *member = &members->members[i];
    int code;

    if (member->process == NULL)
        return;
    process_signal(member->process, SIGTERM);
    code = process_wait(member->process, STOP_MS);
    ck_assert_msg(code == 0 || code == -SIGTERM, "a consumer ended with %d: %s", code,
                  process_errors(member->process));
    add_figures(members, process_output(member->process));
    member->process = NULL;
}

void
members_freeze(struct members *members, int i)
{
    struct member *member = &members->members[i];

    if (member->process == NULL)
        return;
    process_freeze(member->process);
    member->frozen = true;
}

void
members_thaw(struct members *members, int i)
{
    struct member *member = &members->members[i];

    if (member->frozen)
        process_thaw(member->process);
    member->frozen = false;
}

void
members_supervise(struct members *members)
{
    for (int i = 0; i < MEMBERS; i++) {
        struct process *process = members->members[i].process;

        if (process == NULL || members->members[i].frozen || !process_ended(process))
            continue;
        ck_abort_msg("a consumer ended by itself with status 0x%x: %s", process->status,
                     process_errors(process));
    }
}
