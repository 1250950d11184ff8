/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts, watches and buries the processes of a sweep.
 */
#include "test/support/member.h"

#include "test/support/run.h"
#include "test/support/wait.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { END_MS = 15000 }; /* who was told to end, ends */

struct member
member_of(int kind, int service, int instance)
{
    const char *name = "customers";

    if (kind != KIND_CUSTOMERS)
        name = text_of("%s%s%s", kind == KIND_RELAY ? "relay-" : "", shop_service_name(service),
                       instance > 1 ? text_of("-%d", instance) : "");
    return (struct member){ .kind = kind, .service = service, .instance = instance, .name = name };
}

void
member_start(struct member *member, const struct shop *shop, struct target target,
             struct score *score)
{
    const char *log = text_of("%s/test-output/%s.passed", build_dir(), unique_name(member->name));
    const char *environment[] = { text_of("SAGA_CRASH_LOG=%s", log), NULL, NULL };

    if (target.hit != 0)
        environment[1] = text_of("SAGA_CRASH=%s:%d", score->points[target.point].name, target.hit);
    member->target = target;
    member->log = log;
    member->read = 0;
    member->near = member->died = member->told_to_end = false;
    member->since_us = monotonic_us();
    if (member->kind == KIND_RELAY)
        member->process = shop_relay(shop, member->service, environment);
    else if (member->kind == KIND_CUSTOMERS)
        member->process = shop_customers(shop, environment);
    else
        member->process = shop_service(shop, member->service, member->instance, environment);
    score->starts++;
}

void
member_tell_to_end(struct member *member)
{
    member->told_to_end = true;
    member->since_us = monotonic_us();
    kill(member->process->pid, SIGTERM); /* it may be dead already, and is not yet buried */
}

static bool
same_module(const char *a, const char *b)
{
    size_t len = strcspn(a, ".") + 1;

    return strncmp(a, b, len) == 0;
}

static void
note_passing(struct member *member, struct score *score, const char *name, int n)
{
    int point = point_index(score, name);

    if (!score->passed[member->kind][point][1])
        score->at_stop[member->kind][point] = member->told_to_end;
    if (n <= HIT_MAX)
        score->passed[member->kind][point][n] |= 1u << member->service;
    if (member->target.hit != 0 && same_module(name, score->points[member->target.point].name))
        member->near = true;
}

static void
read_log(struct member *member, struct score *score)
{
    FILE *log = fopen(member->log, "r");
    char line[128], what[16], name[64];
    int n;

    if (log == NULL)
        return;
    fseek(log, member->read, SEEK_SET);
    while (fgets(line, sizeof line, log) != NULL && strchr(line, '\n') != NULL) {
        member->read = ftell(log);
        ck_assert_int_eq(sscanf(line, "%15s %63s %d", what, name, &n), 3);
        if (strcmp(what, "died") == 0)
            member->died = true;
        else
            note_passing(member, score, name, n);
    }
    fclose(log);
}

static bool
ended_well(const struct member *member, const struct process *process)
{
    if (!member->told_to_end && member->kind != KIND_CUSTOMERS)
        return false;
    /* Told so before it had begun to work, and to listen to such signals. */
    if (WIFSIGNALED(process->status) && WTERMSIG(process->status) == SIGTERM)
        return member->read == 0;
    return WIFEXITED(process->status) && WEXITSTATUS(process->status) == 0;
}

static enum member_state
bury(struct member *member, struct score *score)
{
    const struct target target = member->target;
    struct process *process = member->process;
    const char *counts;

    unlink(member->log);
    member->process = NULL;
    if (member->died && WIFSIGNALED(process->status) && WTERMSIG(process->status) == SIGKILL) {
        score->kills++;
        score->killed[member->kind][target.point][target.hit]++;
        return MEMBER_DIED;
    }
    ck_assert_msg(ended_well(member, process),
                  "%s, to die at %s:%d, ended with status %#x; it said: %s", member->name,
                  target.hit != 0 ? score->points[target.point].name : "no point", target.hit,
                  process->status, process_errors(process));
    counts = strstr(process_output(process), "suppressed ");
    if (counts != NULL)
        score->suppressed += atol(counts + strlen("suppressed "));
    return MEMBER_ENDED;
}

enum member_state
member_look(struct member *member, struct score *score)
{
    bool ended = process_ended(member->process);

    read_log(member, score); /* after the look at its end, so that nothing is missed */
    if (ended)
        return bury(member, score);
    ck_assert_msg(!member->told_to_end || monotonic_us() - member->since_us < END_MS * 1000L,
                  "%s does not end on SIGTERM; it said: %s", member->name,
                  process_errors(member->process));
    return MEMBER_LIVES;
}
