/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The settings file of outbox-relay.
 */
#include "outbox/daemon_ini.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Reads every byte that it is given. */
static bool
each(void *user, const char *section, const char *name, const char *value, int line)
{
    size_t *seen = user;

    *seen += strlen(name) + strlen(value);
    return *section != '\0' && line >= 1 && strchr(value, '\n') == NULL;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    const char *why = NULL;
    size_t seen = 0;
    int line;

    if (text == NULL)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    line = ini_read(text, size, each, &seen, &why);
    if (seen > size || line < 0 || (line > 0 && why == NULL))
        abort();
    free(text);
    return 0;
}
