/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A proxy whose answers come late: a Redis that is far away, or overloaded.
 *
 *     slow PORT MS          listens on a free port, which it prints
 *
 * Serves one connection after the other, until it is killed.
 */
#include "bench/bench.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

static struct sockaddr_in
loopback(int port)
{
    return (struct sockaddr_in){ .sin_family = AF_INET,
                                 .sin_port = htons((uint16_t)port),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

/* False: one side has ended. */
static int
pass(int from, int to, int64_t late_ns)
{
    static char bytes[1 << 16];
    ssize_t n = recv(from, bytes, sizeof bytes, 0);

    if (n <= 0)
        return 0;
    if (late_ns > 0)
        sleep_until(now_ns() + late_ns);
    return send(to, bytes, (size_t)n, MSG_NOSIGNAL) == n;
}

static void
serve(int client_fd, int port, int64_t late_ns)
{
    struct sockaddr_in address = loopback(port);
    int server = socket(AF_INET, SOCK_STREAM, 0);
    struct pollfd fds[] = { { .fd = client_fd, .events = POLLIN },
                            { .fd = server, .events = POLLIN } };

    if (connect(server, (struct sockaddr *)&address, sizeof address) == 0)
        while (poll(fds, 2, -1) > 0)
            if ((fds[0].revents != 0 && !pass(client_fd, server, 0)) ||
                (fds[1].revents != 0 && !pass(server, client_fd, late_ns)))
                break;
    close(server);
    close(client_fd);
}

int
main(int argc, char **argv)
{
    struct sockaddr_in address = loopback(0);
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (argc != 3)
        die("usage: slow PORT MS");
    if (bind(fd, (struct sockaddr *)&address, len) != 0 || listen(fd, 5) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &len) != 0)
        die("no port");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;)
        serve(accept(fd, NULL, NULL), atoi(argv[1]), atol(argv[2]) * 1000000);
}
