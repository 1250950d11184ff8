/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a list of brokers.
 */
#include "outbox/brokers.h"

#include <stddef.h>
#include <string.h>
#include <strings.h>

const char brokers_allowed[] =
    "must be HOST:PORT,HOST:PORT, with ports from 1 to 65535 (9092 where there is none)";

static const char digits[] = "0123456789";

/* Behind the protocol, if there is one. */
static const char *
skip_protocol(const char *text)
{
    static const char *const protocols[] = { "plaintext://", "ssl://", "sasl_plaintext://",
                                             "sasl_ssl://" };

    for (size_t i = 0; i < sizeof protocols / sizeof *protocols; i++)
        if (strncasecmp(text, protocols[i], strlen(protocols[i])) == 0)
            return text + strlen(protocols[i]);
    return text;
}

/* The end of the host's name or address; NULL: it is none. */
static const char *
skip_host(const char *text)
{
    size_t len = 0;

    if (*text == '[') {
        len = strspn(text + 1, "0123456789abcdefABCDEF:.");
        return len > 0 && text[1 + len] == ']' ? text + len + 2 : NULL;
    }
    /* Names that are not ASCII are the resolver's business. */
    while ((unsigned char)text[len] >= 0x80 ||
           (text[len] != '\0' && strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                        "0123456789._-",
                                        text[len]) != NULL))
        len++;
    return len > 0 ? text + len : NULL;
}

static const char *
skip_port(const char *text)
{
    size_t len = strspn(text, digits);
    long port = 0;

    for (size_t i = 0; i < len && port <= 65535; i++)
        port = port * 10 + (text[i] - '0');
    return port >= 1 && port <= 65535 ? text + len : NULL;
}

bool
brokers_valid(const char *list)
{
    const char *at = list + strspn(list, ", ");

    if (*at == '\0')
        return false;
    while (*at != '\0') {
        at = skip_host(skip_protocol(at));
        if (at != NULL && *at == ':')
            at = skip_port(at + 1);
        if (at == NULL)
            return false;
        at += strspn(at, " ");
        if (*at != ',' && *at != '\0')
            return false;
        at += strspn(at, ", ");
    }
    return true;
}
