/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the daemon itself parses of HTTP: method and path of a request, and the
 * address to listen at. The input is "METHOD PATH" or an address.
 */
#include "outbox/daemon_http.h"
#include "outbox/daemon_listen.h"

#include <arpa/inet.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1), *space;
    struct listen_address address;

    if (text == NULL)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    /* An address without a colon is only ever loopback. */
    if (listen_parse(&address, text) && strchr(text, ':') == NULL && !address.loopback)
        abort();
    space = strchr(text, ' ');
    if (space != NULL) {
        *space = '\0';
        if (http_what(text, space + 1) == HTTP_METRICS && strcmp(space + 1, "/metrics") != 0)
            abort();
    }
    free(text);
    return 0;
}
