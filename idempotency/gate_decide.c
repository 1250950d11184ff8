/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a mark means, and what may be an address of Redis. Asks nobody.
 */
#include "idempotency/gate.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STATE_LEN = 5 }; /* "done:", "busy:" */

static bool
is_mark(const char *found, size_t len, const char *state, const char *value, size_t value_len)
{
    return len == STATE_LEN + value_len && memcmp(found, state, STATE_LEN) == 0 &&
           memcmp(found + STATE_LEN, value, value_len) == 0;
}

enum gate_verdict
gate_decide(const char *found, size_t len, const char *token, const char *hash)
{
    if (found == NULL)
        return GATE_GO;
    if (is_mark(found, len, "done:", hash, GATE_HASH_LEN))
        return GATE_SKIP;
    /* Ours from a question whose answer was lost, or from an attempt that was
     * rolled back: waiting for ourselves would be waiting for the lease. */
    if (is_mark(found, len, "busy:", token, GATE_TOKEN_LEN))
        return GATE_GO;
    if (len == STATE_LEN + GATE_TOKEN_LEN && memcmp(found, "busy:", STATE_LEN) == 0)
        return GATE_BUSY;
    /* "done" with another hash: the inbox decides whether that is a forgery.
     * Anything else is not ours. */
    return GATE_GO;
}

static bool
is_loopback(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;

    if (inet_pton(AF_INET, host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    if (inet_pton(AF_INET6, host, &v6) == 1)
        return IN6_IS_ADDR_LOOPBACK(&v6);
    return strcmp(host, "localhost") == 0;
}

int
gate_parse(struct gate_address *address, const char *text, bool remote, struct saga_error *err)
{
    struct gate_address read = { .port = 0 };
    const char *colon = strrchr(text, ':');
    size_t len = colon != NULL ? (size_t)(colon - text) : 0;
    char *end = NULL;
    long port;

    if (*text == '/') {
        if (strlen(text) >= 108) /* sun_path */
            return error_set(err, SAGA_EINVAL, "the path of Redis' socket is too long");
        strcpy(read.host, text);
        *address = read;
        return 0;
    }
    errno = 0;
    port = colon != NULL ? strtol(colon + 1, &end, 10) : 0;
    if (len == 0 || len >= sizeof read.host || end == colon + 1 || *end != '\0' || errno != 0 ||
        port < 1 || port > 65535)
        return error_set(err, SAGA_EINVAL,
                         "'%.60s' is no address of Redis: give host:port or a socket's path", text);
    if (*text == '[' && text[len - 1] == ']') /* [::1]:6379 */
        text++, len -= 2;
    memcpy(read.host, text, len);
    read.port = (int)port;
    if (!remote && !is_loopback(read.host))
        return error_set(err, SAGA_EINVAL,
                         "Redis at %.60s is not on this host: the connection is in clear text and "
                         "without a password; set `redis_remote` if that is wanted",
                         read.host);
    *address = read;
    return 0;
}
