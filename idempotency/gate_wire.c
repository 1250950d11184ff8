/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection to Redis, and one question at a time within a deadline.
 */
#include "idempotency/gate_wire.h"

#include "base/clock.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* No answer that we ask for is longer than a mark. */
enum { REPLY_MAX = 4096 };

static bool
wait_fd(int fd, short events, int64_t deadline_ms)
{
    struct pollfd poll_fd = { .fd = fd, .events = events };
    int n;

    do
        n = poll(&poll_fd, 1, (int)clock_left_ms(deadline_ms));
    while (n < 0 && errno == EINTR);
    return n > 0;
}

static bool
connect_to(int fd, const struct sockaddr *address, socklen_t len, int64_t deadline_ms)
{
    int problem = 0;
    socklen_t problem_len = sizeof problem;

    if (fd < 0)
        return false;
    if (connect(fd, address, len) == 0)
        return true;
    if (errno != EINPROGRESS || !wait_fd(fd, POLLOUT, deadline_ms))
        return false;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &problem, &problem_len) == 0 && problem == 0;
}

static int
open_path(const char *path, int64_t deadline_ms)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    memcpy(address.sun_path, path, strnlen(path, sizeof address.sun_path - 1));
    if (connect_to(fd, (struct sockaddr *)&address, sizeof address, deadline_ms))
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

static int
open_host(const char *host, int port, int64_t deadline_ms)
{
    const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
    struct addrinfo *list = NULL;
    char service[8];
    int fd = -1, on = 1;

    snprintf(service, sizeof service, "%d", port);
    if (getaddrinfo(host, service, &hints, &list) != 0)
        return -1;
    for (struct addrinfo *at = list; at != NULL && fd < 0; at = at->ai_next) {
        fd = socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (!connect_to(fd, at->ai_addr, at->ai_addrlen, deadline_ms) && fd >= 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(list);
    if (fd >= 0)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

bool
wire_open(struct wire *wire, const struct gate_address *address, int64_t deadline_ms)
{
    wire_close(wire);
    wire->reader = redisReaderCreate();
    if (wire->reader == NULL)
        return false;
    wire->fd = address->port == 0 ? open_path(address->host, deadline_ms)
                                  : open_host(address->host, address->port, deadline_ms);
    return wire->fd >= 0;
}

void
wire_close(struct wire *wire)
{
    if (wire->fd >= 0)
        close(wire->fd);
    wire->fd = -1;
    if (wire->reader != NULL)
        redisReaderFree(wire->reader);
    wire->reader = NULL;
}

static bool
send_all(int fd, const char *bytes, size_t len, int64_t deadline_ms)
{
    while (len > 0) {
        ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);

        if (n > 0) {
            bytes += n;
            len -= (size_t)n;
        } else if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            if (!wait_fd(fd, POLLOUT, deadline_ms))
                return false;
        } else {
            return false;
        }
    }
    return true;
}

/* An array would let the server choose how much memory hiredis takes. */
static bool
is_plain(char first)
{
    return first == '+' || first == '-' || first == '$' || first == '_';
}

static redisReply *
receive_reply(struct wire *wire, int64_t deadline_ms)
{
    char bytes[1024];
    size_t received = 0;
    void *reply = NULL;

    while (reply == NULL) {
        ssize_t n = recv(wire->fd, bytes, sizeof bytes, 0);

        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            if (!wait_fd(wire->fd, POLLIN, deadline_ms))
                return NULL;
            continue;
        }
        if (n <= 0 || (received == 0 && !is_plain(bytes[0])))
            return NULL;
        received += (size_t)n;
        if (received > REPLY_MAX || redisReaderFeed(wire->reader, bytes, (size_t)n) != REDIS_OK ||
            redisReaderGetReply(wire->reader, &reply) != REDIS_OK)
            return NULL;
    }
    /* More than was asked for: we and the server no longer agree where an
     * answer begins. */
    if (wire->reader->pos < wire->reader->len) {
        freeReplyObject(reply);
        return NULL;
    }
    return reply;
}

redisReply *
wire_ask(struct wire *wire, int argc, const char **argv, int64_t deadline_ms)
{
    redisReply *reply = NULL;
    char *command = NULL;
    int len = (int)redisFormatCommandArgv(&command, argc, argv, NULL);

    if (len >= 0 && send_all(wire->fd, command, (size_t)len, deadline_ms))
        reply = receive_reply(wire, deadline_ms);
    if (len >= 0)
        redisFreeCommand(command);
    if (reply == NULL)
        wire_close(wire);
    return reply;
}
