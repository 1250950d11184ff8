/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Telling systemd how we are: sd_notify(3), without its library.
 *
 * Owns the socket's address and the form of a datagram. Without NOTIFY_SOCKET
 * every call does nothing. Waits a second at most for who does not read.
 */
#ifndef OUTBOX_DAEMON_NOTIFY_H
#define OUTBOX_DAEMON_NOTIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

struct notify {
    int fd; /* -1: nobody to tell */
    struct sockaddr_un address;
    socklen_t address_len;
    int64_t watchdog_us; /* how often WATCHDOG=1 has to come; 0: not asked for */
};

/* Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, and takes them out of
 * the environment. False: an address that cannot be used. */
bool notify_open(struct notify *notify);
void notify_close(struct notify *notify);

/* "READY=1\nSTATUS=..." */
void notify_send(const struct notify *notify, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
