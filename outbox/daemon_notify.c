/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Datagrams to systemd.
 */
#include "outbox/daemon_notify.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

/* A path, or "@name" for one that is in no file system. */
static bool
read_address(struct notify *notify, const char *text)
{
    size_t len = strlen(text);

    if ((text[0] != '/' && text[0] != '@') || len < 2 || len >= sizeof notify->address.sun_path)
        return false;
    notify->address.sun_family = AF_UNIX;
    memcpy(notify->address.sun_path, text, len + 1);
    notify->address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
    if (text[0] == '@') {
        notify->address.sun_path[0] = '\0';
        notify->address_len--; /* every byte counts in such a name */
    }
    return true;
}

/* Meant for this process, and not for one that has started it? */
static int64_t
read_watchdog(void)
{
    const char *us = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");

    if (us == NULL || (pid != NULL && strtol(pid, NULL, 10) != getpid()))
        return 0;
    return strtoll(us, NULL, 10);
}

bool
notify_open(struct notify *notify)
{
    const char *socket_name = getenv("NOTIFY_SOCKET");
    const struct timeval patience = { .tv_sec = 1 };
    bool usable = true;

    *notify = (struct notify){ .fd = -1, .watchdog_us = read_watchdog() };
    if (socket_name != NULL) {
        usable = read_address(notify, socket_name);
        if (usable)
            notify->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        usable = usable && notify->fd >= 0;
        setsockopt(notify->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    }
    if (notify->fd < 0 || notify->watchdog_us < 0)
        notify->watchdog_us = 0;
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    return usable;
}

void
notify_close(struct notify *notify)
{
    if (notify->fd >= 0)
        close(notify->fd);
    notify->fd = -1;
}

void
notify_send(const struct notify *notify, const char *format, ...)
{
    char text[512];
    va_list args;
    int len;

    if (notify->fd < 0)
        return;
    va_start(args, format);
    len = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (len >= (int)sizeof text)
        len = sizeof text - 1;
    sendto(notify->fd, text, (size_t)len, MSG_NOSIGNAL, (const struct sockaddr *)&notify->address,
           notify->address_len);
}
