/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Comparing how long messages are known with how long they may come again.
 */
#include "idempotency/horizon.h"

#include <stdlib.h>
#include <string.h>

/* The same length is too short: a message has waited in the outbox before Kafka had it. */
static size_t
add_if_short(struct horizon_finding *finding, enum horizon_flaw flaw, int64_t known_ms,
             int64_t retention_ms)
{
    if (retention_ms >= 0 && known_ms > retention_ms)
        return 0;
    *finding = (struct horizon_finding){
        .flaw = flaw,
        .known_ms = known_ms,
        .short_by_ms = retention_ms < 0 ? HORIZON_FOREVER : retention_ms - known_ms,
    };
    return 1;
}

size_t
horizon_compare(const struct horizon *horizon, struct horizon_finding findings[HORIZON_FLAWS])
{
    int64_t retention_ms = horizon->retention_ms;
    size_t n = 0;

    if (horizon->window_ms > 0)
        return add_if_short(&findings[0], HORIZON_WINDOW, horizon->window_ms, retention_ms);
    n += add_if_short(&findings[n], HORIZON_INBOX, horizon->keep_ms, retention_ms);
    n += add_if_short(&findings[n], HORIZON_FOREIGN, horizon->keep_foreign_ms, retention_ms);
    return n;
}

int64_t
horizon_retention_ms(const char *retention_ms, const char *cleanup_policy)
{
    char *end;
    long long ms;

    if (cleanup_policy != NULL && strstr(cleanup_policy, "delete") == NULL)
        return HORIZON_FOREVER; /* compacted only: a key's last message stays */
    if (retention_ms == NULL)
        return 0;
    ms = strtoll(retention_ms, &end, 10);
    if (end == retention_ms || *end != '\0')
        return 0;
    return ms < 0 ? HORIZON_FOREVER : ms;
}
