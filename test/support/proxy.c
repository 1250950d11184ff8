/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread polls the listener and all pairs of sockets. The test's thread
 * changes the plan under the lock and wakes it through a pipe.
 */
#include "test/support/proxy.h"

#include "test/support/run.h"
#include "test/support/wait.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_PAIRS = 64, CHUNK_BYTES = 65536, CUT_MS = 5000 };
enum fault { FAULT_NONE, FAULT_SWALLOW, FAULT_DELAY, FAULT_CUT, FAULT_TRUNCATE };

struct pair {
    int client, server;
    char *held; /* an answer that comes later */
    size_t held_bytes;
    int64_t held_until_us;
};

struct proxy {
    pthread_t thread;
    pthread_mutex_t lock;
    const char *address;
    int listener, wake[2], port;
    struct sockaddr_in target;
    struct pair pairs[MAX_PAIRS];
    int n_pairs;
    int answers;
    enum fault fault;
    int fault_at;         /* the number of the answer */
    const char *fault_in; /* or a text in it; NULL: the number counts */
    int delay_ms, truncate_bytes;
    bool refuse, cut_now, stop;
};

static struct sockaddr_in
loopback(int port)
{
    return (struct sockaddr_in){ .sin_family = AF_INET,
                                 .sin_port = htons((uint16_t)port),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

static void
close_pair(struct proxy *proxy, int i)
{
    struct pair *pair = &proxy->pairs[i];

    close(pair->client);
    close(pair->server);
    free(pair->held);
    *pair = proxy->pairs[--proxy->n_pairs];
}

static bool
send_all(int to, const char *bytes, size_t n)
{
    while (n > 0) {
        ssize_t sent = send(to, bytes, n, MSG_NOSIGNAL);

        if (sent <= 0)
            return false;
        bytes += sent;
        n -= (size_t)sent;
    }
    return true;
}

static void
accept_pair(struct proxy *proxy)
{
    int client = accept4(proxy->listener, NULL, NULL, SOCK_CLOEXEC), one = 1;
    int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (proxy->refuse || proxy->n_pairs == MAX_PAIRS ||
        connect(server, (struct sockaddr *)&proxy->target, sizeof proxy->target) != 0) {
        close(client);
        close(server);
        return;
    }
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    proxy->pairs[proxy->n_pairs++] = (struct pair){ .client = client, .server = server };
}

/* False: the connection is over. */
static bool
pass_question(const struct pair *pair)
{
    char chunk[CHUNK_BYTES];
    ssize_t n = recv(pair->client, chunk, sizeof chunk, 0);

    return n > 0 && send_all(pair->server, chunk, (size_t)n);
}

static bool
pass_answer(struct proxy *proxy, struct pair *pair)
{
    char chunk[CHUNK_BYTES];
    ssize_t n = recv(pair->server, chunk, sizeof chunk, 0);
    enum fault fault = FAULT_NONE;

    if (n <= 0)
        return false;
    proxy->answers++;
    if (proxy->fault_in != NULL
            ? memmem(chunk, (size_t)n, proxy->fault_in, strlen(proxy->fault_in)) != NULL
            : proxy->answers == proxy->fault_at) {
        proxy->fault_in = NULL;
        fault = proxy->fault;
        proxy->fault = FAULT_NONE;
    }
    switch (fault) {
    case FAULT_SWALLOW:
        return true;
    case FAULT_CUT:
        return false;
    case FAULT_TRUNCATE:
        n = n > proxy->truncate_bytes ? n - proxy->truncate_bytes : 0;
        break;
    case FAULT_DELAY:
        pair->held = malloc((size_t)n);
        memcpy(pair->held, chunk, (size_t)n);
        pair->held_bytes = (size_t)n;
        pair->held_until_us = monotonic_us() + (int64_t)proxy->delay_ms * 1000;
        return true;
    case FAULT_NONE:
        break;
    }
    return send_all(pair->client, chunk, (size_t)n);
}

static bool
release_held(struct pair *pair)
{
    bool sent;

    if (pair->held == NULL || monotonic_us() < pair->held_until_us)
        return true;
    sent = send_all(pair->client, pair->held, pair->held_bytes);
    free(pair->held);
    pair->held = NULL;
    return sent;
}

/* One round; fds are listener, wake, and two for each pair. */
static void
serve(struct proxy *proxy, const struct pollfd *fds, int n_polled)
{
    char byte;

    if (fds[1].revents != 0)
        (void)!read(proxy->wake[0], &byte, 1);
    for (int i = n_polled - 1; i >= 0; i--) {
        struct pair *pair = &proxy->pairs[i];
        bool alive = !proxy->cut_now && release_held(pair);

        if (alive && fds[2 + 2 * i].revents != 0)
            alive = pass_question(pair);
        if (alive && pair->held == NULL && fds[3 + 2 * i].revents != 0)
            alive = pass_answer(proxy, pair);
        if (!alive)
            close_pair(proxy, i);
    }
    proxy->cut_now = false;
    if (fds[0].revents != 0)
        accept_pair(proxy);
}

static void *
proxy_main(void *arg)
{
    struct proxy *proxy = arg;
    struct pollfd fds[2 + 2 * MAX_PAIRS];

    pthread_mutex_lock(&proxy->lock);
    while (!proxy->stop) {
        int n_polled = proxy->n_pairs, timeout_ms = -1;

        fds[0] = (struct pollfd){ .fd = proxy->listener, .events = POLLIN };
        fds[1] = (struct pollfd){ .fd = proxy->wake[0], .events = POLLIN };
        for (int i = 0; i < n_polled; i++) {
            bool held = proxy->pairs[i].held != NULL;

            /* What follows a held answer waits behind it. */
            fds[2 + 2 * i] = (struct pollfd){ .fd = proxy->pairs[i].client, .events = POLLIN };
            fds[3 + 2 * i] =
                (struct pollfd){ .fd = held ? -1 : proxy->pairs[i].server, .events = POLLIN };
            if (held)
                timeout_ms = 1;
        }
        pthread_mutex_unlock(&proxy->lock);
        poll(fds, (nfds_t)(2 + 2 * n_polled), timeout_ms);
        pthread_mutex_lock(&proxy->lock);
        serve(proxy, fds, n_polled);
    }
    while (proxy->n_pairs > 0)
        close_pair(proxy, proxy->n_pairs - 1);
    pthread_mutex_unlock(&proxy->lock);
    return NULL;
}

/* --- the test's side ------------------------------------------------------------ */

static void
end_proxy(void *arg)
{
    struct proxy *proxy = arg;

    pthread_mutex_lock(&proxy->lock);
    proxy->stop = true;
    (void)!write(proxy->wake[1], "", 1);
    pthread_mutex_unlock(&proxy->lock);
    pthread_join(proxy->thread, NULL);
    close(proxy->listener);
    close(proxy->wake[0]);
    close(proxy->wake[1]);
    free(proxy);
}

struct proxy *
given_proxy(const char *server_address)
{
    struct proxy *proxy = calloc(1, sizeof *proxy);
    struct sockaddr_in own = loopback(0);
    socklen_t len = sizeof own;

    ck_assert_ptr_nonnull(proxy);
    proxy->target = loopback(atoi(strrchr(server_address, ':') + 1));
    proxy->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(proxy->listener, (struct sockaddr *)&own, sizeof own), 0);
    ck_assert_int_eq(listen(proxy->listener, MAX_PAIRS), 0);
    ck_assert_int_eq(getsockname(proxy->listener, (struct sockaddr *)&own, &len), 0);
    proxy->port = ntohs(own.sin_port);
    proxy->address = text_of("127.0.0.1:%d", proxy->port);
    ck_assert_int_eq(pipe2(proxy->wake, O_CLOEXEC), 0);
    pthread_mutex_init(&proxy->lock, NULL);
    ck_assert_int_eq(pthread_create(&proxy->thread, NULL, proxy_main, proxy), 0);
    at_test_end(end_proxy, proxy);
    return proxy;
}

const char *
proxy_address(const struct proxy *proxy)
{
    return proxy->address;
}

int
proxy_port(const struct proxy *proxy)
{
    return proxy->port;
}

static void
plan(struct proxy *proxy, enum fault fault, int nth, int delay_ms)
{
    pthread_mutex_lock(&proxy->lock);
    proxy->fault = fault;
    proxy->fault_at = proxy->answers + nth;
    proxy->fault_in = NULL;
    proxy->delay_ms = delay_ms;
    pthread_mutex_unlock(&proxy->lock);
}

void
proxy_swallow(struct proxy *proxy, int nth)
{
    plan(proxy, FAULT_SWALLOW, nth, 0);
}

void
proxy_delay(struct proxy *proxy, int nth, int ms)
{
    plan(proxy, FAULT_DELAY, nth, ms);
}

void
proxy_cut(struct proxy *proxy, int nth)
{
    plan(proxy, FAULT_CUT, nth, 0);
}

void
proxy_cut_at(struct proxy *proxy, const char *text)
{
    pthread_mutex_lock(&proxy->lock);
    proxy->fault = FAULT_CUT;
    proxy->fault_in = text;
    pthread_mutex_unlock(&proxy->lock);
}

void
proxy_truncate(struct proxy *proxy, int nth, int bytes)
{
    proxy->truncate_bytes = bytes;
    plan(proxy, FAULT_TRUNCATE, nth, 0);
}

static bool
has_cut(void *arg)
{
    struct proxy *proxy = arg;
    bool done;

    pthread_mutex_lock(&proxy->lock);
    done = !proxy->cut_now;
    pthread_mutex_unlock(&proxy->lock);
    return done;
}

void
proxy_cut_now(struct proxy *proxy)
{
    pthread_mutex_lock(&proxy->lock);
    proxy->cut_now = true;
    (void)!write(proxy->wake[1], "", 1);
    pthread_mutex_unlock(&proxy->lock);
    ck_assert(wait_until(has_cut, proxy, CUT_MS));
}

void
proxy_refuse(struct proxy *proxy, bool refuse)
{
    pthread_mutex_lock(&proxy->lock);
    proxy->refuse = refuse;
    pthread_mutex_unlock(&proxy->lock);
}

int
proxy_answers(struct proxy *proxy)
{
    int answers;

    pthread_mutex_lock(&proxy->lock);
    answers = proxy->answers;
    pthread_mutex_unlock(&proxy->lock);
    return answers;
}
