/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inbox for users' connections.
 */
#include "idempotency/inbox.h"

#include <string.h>

static int
check_arguments(PGconn *tx, const char *consumer, const struct saga_record *record,
                const int32_t *verdict, struct saga_error *err)
{
    static const struct saga_uuid none;

    error_clear(err);
    if (tx == NULL)
        return error_set(err, SAGA_EINVAL, "`tx` is NULL");
    if (consumer == NULL || *consumer == '\0')
        return error_set(err, SAGA_EINVAL, "no consumer: name the group that reads the message");
    if (record == NULL || verdict == NULL)
        return error_set(err, SAGA_EINVAL, "`record` or `verdict` is NULL");
    if (memcmp(&record->id, &none, sizeof none) == 0)
        return error_set(err, SAGA_EINVAL, "the record has no id: set it from its message-id");
    if (record->topic == NULL || *record->topic == '\0')
        return error_set(err, SAGA_EINVAL, "the record has no topic");
    return pg_check_tx(tx, err);
}

int
saga_inbox_enter(PGconn *tx, const char *consumer, const struct saga_record *record,
                 int32_t *verdict, struct saga_error *err)
{
    struct pg pg = pg_borrow(tx);
    int rc = check_arguments(tx, consumer, record, verdict, err);

    return rc != 0 ? rc : inbox_enter(&pg, consumer, record, verdict, err);
}
