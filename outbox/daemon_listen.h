/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the daemon answers HTTP: "9187", "127.0.0.1:9187", "[::1]:9187".
 *
 * Owns the rule that a port alone means loopback: whoever wants to be seen from
 * elsewhere has to say so. Addresses are numbers; names are not resolved.
 */
#ifndef OUTBOX_DAEMON_LISTEN_H
#define OUTBOX_DAEMON_LISTEN_H

#include <netinet/in.h>
#include <stdbool.h>

union listen_any {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
};

struct listen_address {
    union listen_any at;
    bool loopback;
};

/* Port 0: any free one. */
bool listen_parse(struct listen_address *address, const char *text);

#endif
