/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection to Redis: many questions in one piece.
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
enum { REPLY_MAX = 4096, READ_BYTES = 65536 };

/* --- what hiredis makes of an answer: nothing, it is handed on ------------------- */

static void *
answered(const redisReadTask *task, int type, const char *text, size_t len)
{
    struct wire *wire = task->privdata;
    const struct wire_answer answer = { type, text, len };

    wire->take(wire->user, wire->taken++, &answer);
    return wire;
}

static void *
take_string(const redisReadTask *task, char *text, size_t len)
{
    return answered(task, task->type, text, len);
}

static void *
take_nil(const redisReadTask *task)
{
    return answered(task, REDIS_REPLY_NIL, NULL, 0);
}

#if HIREDIS_MAJOR >= 1
typedef size_t array_length;
#else
typedef int array_length;
#endif

/* NULL, which ends the connection: it is not what we have asked for. */
static void *
take_array(const redisReadTask *task, array_length n)
{
    struct wire *wire = task->privdata;

    return wire->elements > 0 && task->parent == NULL && (size_t)n == wire->elements ? wire : NULL;
}

static void *
refuse_integer(const redisReadTask *task, long long value)
{
    (void)task;
    (void)value;
    return NULL;
}

static void
free_nothing(void *wire)
{
    (void)wire;
}

static redisReplyObjectFunctions answers = { .createString = take_string,
                                             .createArray = take_array,
                                             .createInteger = refuse_integer,
                                             .createNil = take_nil,
                                             .freeObject = free_nothing };

/* --- connecting ------------------------------------------------------------------ */

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
    wire->reader = redisReaderCreateWithFunctions(&answers);
    if (wire->reader == NULL)
        return false;
    wire->reader->privdata = wire;
    wire->reader->maxbuf = 0; /* its buffer stays for the next answers */
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
    wire->owed = wire->elements = 0;
    wire->inside_reply = false;
}

/* --- asking ---------------------------------------------------------------- */

void
wire_command(struct buffer *commands, int argc, const struct saga_bytes *argv)
{
    char head[32];

    buffer_add(commands, head, (size_t)snprintf(head, sizeof head, "*%d\r\n", argc));
    for (int i = 0; i < argc; i++) {
        buffer_add(commands, head, (size_t)snprintf(head, sizeof head, "$%zu\r\n", argv[i].len));
        buffer_add(commands, argv[i].data, argv[i].len);
        buffer_add(commands, "\r\n", 2);
    }
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

/* Nothing may lie there when we ask: we and the server would not agree on which
 * answer belongs to which question. */
static bool
is_silent(const struct wire *wire)
{
    char byte;

    return wire->owed > 0 ||
           (recv(wire->fd, &byte, 1, MSG_PEEK) < 0 && (errno == EAGAIN || errno == EINTR));
}

bool
wire_send(struct wire *wire, const struct buffer *commands, size_t n, size_t elements,
          int64_t deadline_ms)
{
    if (commands->failed || !is_silent(wire) ||
        !send_all(wire->fd, (const char *)commands->data, commands->len, deadline_ms)) {
        wire_close(wire);
        return false;
    }
    wire->owed += n;
    wire->elements = elements;
    return true;
}

/* --- answers --------------------------------------------------------------- */

/* The next whole reply among what was read is taken; or more has to be read.
 * False: it is no reply. */
static bool
next_reply(struct wire *wire, bool *whole)
{
    const redisReader *reader = wire->reader;
    void *found = NULL;

    *whole = false;
    if (reader->pos >= reader->len && !wire->inside_reply)
        return true;
    wire->inside_reply = true;
    if (redisReaderGetReply(wire->reader, &found) != REDIS_OK)
        return false;
    *whole = found != NULL;
    if (found != NULL)
        wire->inside_reply = false;
    return true;
}

static bool
read_more(struct wire *wire, size_t *left, int64_t deadline_ms)
{
    char bytes[READ_BYTES];
    ssize_t n;

    while ((n = recv(wire->fd, bytes, sizeof bytes, 0)) < 0 && (errno == EAGAIN || errno == EINTR))
        if (!wait_fd(wire->fd, POLLIN, deadline_ms))
            return false;
    if (n <= 0 || (size_t)n > *left)
        return false;
    *left -= (size_t)n;
    return redisReaderFeed(wire->reader, bytes, (size_t)n) == REDIS_OK;
}

static bool
receive_all(struct wire *wire, int64_t deadline_ms)
{
    size_t left = (wire->owed + wire->elements) * REPLY_MAX;
    bool whole;

    while (wire->owed > 0) {
        if (!next_reply(wire, &whole) || (!whole && !read_more(wire, &left, deadline_ms)))
            return false;
        wire->owed -= whole;
    }
    wire->elements = 0;
    /* More than was asked for: we no longer agree where an answer begins. */
    return wire->reader->pos >= wire->reader->len;
}

bool
wire_receive(struct wire *wire, wire_take *take, void *user, int64_t deadline_ms)
{
    bool good;

    wire->take = take;
    wire->user = user;
    wire->taken = 0;
    good = receive_all(wire, deadline_ms);
    if (!good)
        wire_close(wire);
    return good;
}
