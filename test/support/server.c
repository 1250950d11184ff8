/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls the scripts of tools/ and reads the port and process id they print.
 */
#include "test/support/server.h"

#include "test/support/run.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
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

static FILE *
tool_begin(const struct server *server, const char *verb, const char *settings)
{
    FILE *out = popen(
        text_of("%s/tools/%s %s '%s' %s", source_dir(), server->kind, verb, server->dir, settings),
        "re");

    ck_assert_ptr_nonnull(out);
    return out;
}

static void
tool_end(struct server *server, const char *verb, FILE *out)
{
    int port = 0, pid = 0, fields = fscanf(out, "%d %d", &port, &pid), status = pclose(out);

    ck_assert_msg(status == 0, "tools/%s %s %s: exit status %d", server->kind, verb, server->dir,
                  status);
    if (fields == 2) {
        server->port = port;
        server->pid = pid;
    }
}

static void
tool(struct server *server, const char *verb, const char *settings)
{
    tool_end(server, verb, tool_begin(server, verb, settings));
}

static void
remove_server(void *arg)
{
    struct server *server = arg;

    tool(server, "remove", "");
    free(server);
}

static struct server *
new_server(const char *kind)
{
    struct server *server = calloc(1, sizeof *server);

    ck_assert_ptr_nonnull(server);
    server->kind = kind;
    server->dir = text_of("%s/%s", servers_dir(), unique_name(kind));
    return server;
}

struct server *
given_server(const char *const *kind_and_settings)
{
    struct server *server = new_server(kind_and_settings[0]);
    const char *settings = "";

    for (const char *const *s = kind_and_settings + 1; *s != NULL; s++)
        settings = text_of("%s '%s'", settings, *s);
    tool(server, "start", settings);
    server->address = text_of("127.0.0.1:%d", server->port);
    at_test_end(remove_server, server);
    return server;
}

enum { NODES_MAX = 5 };

int
free_port(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, len), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    close(fd);
    return ntohs(address.sin_port);
}

/* A node is ready when most of them are, so they are started together. */
void
given_kafka_cluster(struct server **nodes, int n)
{
    const char *voters = "";
    FILE *out[NODES_MAX];

    ck_assert_int_le(n, NODES_MAX);
    for (int i = 0; i < n; i++)
        voters = text_of("%s%s%d@127.0.0.1:%d", voters, i > 0 ? "," : "", i + 1, free_port());
    for (int i = 0; i < n; i++) {
        nodes[i] = new_server("kafka");
        out[i] = tool_begin(
            nodes[i], "start",
            text_of("node.id=%d controller.quorum.voters=%s default.replication.factor=%d"
                    " min.insync.replicas=%d offsets.topic.replication.factor=%d"
                    " transaction.state.log.replication.factor=%d"
                    " transaction.state.log.min.isr=%d",
                    i + 1, voters, n, n > 2 ? 2 : 1, n, n, n > 2 ? 2 : 1));
        at_test_end(remove_server, nodes[i]);
    }
    for (int i = 0; i < n; i++) {
        tool_end(nodes[i], "start", out[i]);
        nodes[i]->address = text_of("127.0.0.1:%d", nodes[i]->port);
    }
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
