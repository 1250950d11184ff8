/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls the scripts of tools/ and reads the port and process id they print.
 */
#include "test/support/server.h"

#include "test/support/run.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* All servers of one test program lie in one directory, named by its process. */
static const char *own_dir;

static const char *
servers_dir(void)
{
    if (own_dir == NULL) {
        const char *run = server_env("SAGA_RUN");
        static char dir[512];
        /* The program's process, whose child the test is, unless CK_FORK=no. */
        const char *fork_mode = getenv("CK_FORK");
        pid_t owner = fork_mode != NULL && fork_mode[0] == 'n' ? getpid() : getppid();

        snprintf(dir, sizeof dir, "%s/own.%d", run, (int)owner);
        mkdir(dir, 0755);
        own_dir = dir;
    }
    return own_dir;
}

static void
tool(struct server *server, const char *verb, const char *settings)
{
    const char *command =
        text_of("%s/tools/%s %s '%s' %s", source_dir(), server->kind, verb, server->dir, settings);
    FILE *out = popen(command, "re");
    int port = 0, pid = 0, fields, status;

    ck_assert_ptr_nonnull(out);
    fields = fscanf(out, "%d %d", &port, &pid);
    status = pclose(out);
    ck_assert_msg(status == 0, "%s: exit status %d", command, status);
    if (fields == 2) {
        server->port = port;
        server->pid = pid;
    }
}

static void
remove_server(void *arg)
{
    struct server *server = arg;

    tool(server, "remove", "");
    free(server);
}

struct server *
given_server(const char *const *kind_and_settings)
{
    struct server *server = calloc(1, sizeof *server);
    const char *settings = "";

    ck_assert_ptr_nonnull(server);
    server->kind = kind_and_settings[0];
    server->dir = text_of("%s/%s", servers_dir(), unique_name(server->kind));
    for (const char *const *s = kind_and_settings + 1; *s != NULL; s++)
        settings = text_of("%s '%s'", settings, *s);
    tool(server, "start", settings);
    server->address = text_of("127.0.0.1:%d", server->port);
    at_test_end(remove_server, server);
    return server;
}

void
server_start(struct server *server)
{
    tool(server, "start", "");
}

void
server_stop(struct server *server)
{
    tool(server, "stop", "");
}

void
server_kill(struct server *server)
{
    tool(server, "kill", "");
}

void
server_freeze(struct server *server)
{
    ck_assert_int_eq(kill(server->pid, SIGSTOP), 0);
}

void
server_thaw(struct server *server)
{
    ck_assert_int_eq(kill(server->pid, SIGCONT), 0);
}

void
servers_sweep(void)
{
    const char *run = getenv("SAGA_RUN");
    char command[1024];

    if (run == NULL)
        return;
    snprintf(command, sizeof command, "%s/own.%d", run, (int)getpid());
    if (access(command, F_OK) != 0)
        return;
    snprintf(command, sizeof command, "%s/tools/servers --sweep '%s/own.%d'", SOURCE_DIR, run,
             (int)getpid());
    if (system(command) != 0)
        fprintf(stderr, "cannot clean up: %s\n", command);
}
