/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Version-7 ids (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then
 * random bits; and their text form.
 */
#include "base/uuid.h"

#include "base/clock.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

int
uuid_make_of(struct saga_uuid *id, int64_t unix_us, struct saga_error *err)
{
    uint64_t ms = (uint64_t)unix_us / 1000;
    struct saga_uuid made;

    if (getrandom(made.bytes, sizeof made.bytes, 0) != (ssize_t)sizeof made.bytes)
        return error_set(err, SAGA_EINVAL, "getrandom: %s", strerror(errno));
    for (int i = 0; i < 6; i++)
        made.bytes[i] = (uint8_t)(ms >> (40 - 8 * i));
    made.bytes[6] = (uint8_t)(0x70 | (made.bytes[6] & 0x0F));
    made.bytes[8] = (uint8_t)(0x80 | (made.bytes[8] & 0x3F));
    *id = made;
    return 0;
}

int
saga_uuid_make(struct saga_uuid *id, struct saga_error *err)
{
    error_clear(err);
    if (id == NULL)
        return error_set(err, SAGA_EINVAL, "no place for the id: `id` is NULL");
    return uuid_make_of(id, clock_wall_us(), err);
}

void
saga_uuid_text(const struct saga_uuid *id, char text[37])
{
    static const char digits[] = "0123456789abcdef";
    char *p = text;

    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *p++ = '-';
        *p++ = digits[id->bytes[i] >> 4];
        *p++ = digits[id->bytes[i] & 15];
    }
    *p = '\0';
}

static int
nibble(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

int
saga_uuid_parse(struct saga_uuid *id, const char *text, struct saga_error *err)
{
    struct saga_uuid read;
    const char *p = text;

    error_clear(err);
    if (id == NULL || text == NULL)
        return error_set(err, SAGA_EINVAL, "saga_uuid_parse: NULL");
    for (int i = 0; i < 16; i++) {
        int high, low;

        if ((i == 4 || i == 6 || i == 8 || i == 10) && *p++ != '-')
            goto malformed;
        high = nibble(*p);
        low = high < 0 ? -1 : nibble(p[1]);
        if (low < 0)
            goto malformed;
        read.bytes[i] = (uint8_t)(high << 4 | low);
        p += 2;
    }
    if (*p != '\0')
        goto malformed;
    *id = read;
    return 0;
malformed:
    return error_set(err, SAGA_EINVAL, "not a uuid: '%.60s'", text);
}
