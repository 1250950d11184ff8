/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values on their way to a SQL function, and its errors on their way back.
 */
#include "saga/values.h"

#include "base/utf8.h"
#include "saga/definition.h"

#include <string.h>

int
values_take(struct pg_array *names, struct pg_array *texts, const struct saga_pair *values,
            struct saga_error *err)
{
    for (; values != NULL && values->name != NULL; values++) {
        if (!definition_name_valid(values->name))
            return error_set(
                err, SAGA_EINVAL,
                "a value's name has 1 to %d characters of A-Z a-z 0-9 . _ -: \"%.80s\"",
                SAGA_NAME_MAX, values->name);
        if (values->value == NULL || !utf8_valid(values->value, strlen(values->value)))
            return error_set(err, SAGA_EINVAL, "value \"%s\" is NULL or not UTF-8", values->name);
        pg_array_add_text(names, values->name);
        pg_array_add_text(texts, values->value);
    }
    if (names->bytes.len + texts->bytes.len > SAGA_VALUES_MAX)
        return error_set(err, SAGA_ELIMIT, "a saga's values have at most %d bytes",
                         SAGA_VALUES_MAX);
    if (names->bytes.failed || texts->bytes.failed)
        return error_set(err, SAGA_ENOMEM, "out of memory");
    return 0;
}

int
values_raised(int rc, struct saga_error *err)
{
    static const struct {
        const char *sqlstate;
        int code;
    } codes[] = { { "P0002", SAGA_ENOTFOUND },
                  { "SG002", SAGA_EMISMATCH },
                  { "SG003", SAGA_EFENCED },
                  { "54000", SAGA_ELIMIT },
                  { "22023", SAGA_EINVAL } };
    char said[sizeof err->message];

    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        if (rc != SAGA_EDB || strcmp(err->sqlstate, codes[i].sqlstate) != 0)
            continue;
        memcpy(said, err->message, sizeof said);
        rc = error_set(err, codes[i].code, "%s", said);
        memcpy(err->sqlstate, codes[i].sqlstate, sizeof "P0002");
        return error_flag(err, rc, SAGA_ERR_TX_ABORTED);
    }
    return rc;
}
