/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading an address.
 */
#include "outbox/daemon_listen.h"

#include <arpa/inet.h>
#include <string.h>

static bool
read_port(in_port_t *port, const char *text)
{
    unsigned value = 0;
    size_t len = strlen(text);

    if (len < 1 || len > 5 || strspn(text, "0123456789") != len)
        return false;
    for (; *text != '\0'; text++)
        value = value * 10 + (unsigned)(*text - '0');
    *port = htons((uint16_t)value);
    return value <= 65535;
}

bool
listen_parse(struct listen_address *address, const char *text)
{
    const char *colon = strrchr(text, ':'), *host = "127.0.0.1", *port = text;
    union listen_any *at = &address->at;
    char buffer[INET6_ADDRSTRLEN + 2];
    size_t len = 0;

    memset(address, 0, sizeof *address);
    if (colon != NULL) {
        len = (size_t)(colon - text);
        if (len >= sizeof buffer)
            return false;
        memcpy(buffer, text, len);
        buffer[len] = '\0';
        host = buffer;
        port = colon + 1;
    }
    if (len >= 2 && buffer[0] == '[' && buffer[len - 1] == ']') {
        buffer[len - 1] = '\0';
        at->in6.sin6_family = AF_INET6;
        if (inet_pton(AF_INET6, buffer + 1, &at->in6.sin6_addr) != 1)
            return false;
        address->loopback = IN6_IS_ADDR_LOOPBACK(&at->in6.sin6_addr);
        return read_port(&at->in6.sin6_port, port);
    }
    at->in.sin_family = AF_INET;
    if (inet_pton(AF_INET, host, &at->in.sin_addr) != 1)
        return false;
    address->loopback = ntohl(at->in.sin_addr.s_addr) >> 24 == 127;
    return read_port(&at->in.sin_port, port);
}
