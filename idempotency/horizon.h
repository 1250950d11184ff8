/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether messages are known for as long as a topic may bring them again: the
 * topic's retention beside the inbox's horizon and the window of the marks in
 * Redis. Pure.
 */
#ifndef IDEMPOTENCY_HORIZON_H
#define IDEMPOTENCY_HORIZON_H

#include <stddef.h>
#include <stdint.h>

enum { HORIZON_FOREVER = -1 };

struct horizon {
    int64_t retention_ms; /* the topic's; HORIZON_FOREVER: it deletes nothing by age */
    int64_t window_ms;    /* of the marks, where Redis alone recognises duplicates; else 0 */
    /* The inbox's, where that does: for ids of version 7, and for all others. */
    int64_t keep_ms, keep_foreign_ms;
};

enum horizon_flaw {
    HORIZON_INBOX,   /* what comes again after keep_ms is quarantined */
    HORIZON_FOREIGN, /* what comes again after keep_foreign_ms is applied again */
    HORIZON_WINDOW   /* what comes again after window_ms is applied again */
};
enum { HORIZON_FLAWS = 3 };

struct horizon_finding {
    enum horizon_flaw flaw;
    int64_t known_ms;
    int64_t short_by_ms; /* HORIZON_FOREVER: no length would do */
};

/* What is too short. Returns how many. */
size_t horizon_compare(const struct horizon *horizon,
                       struct horizon_finding findings[HORIZON_FLAWS]);

/* 0: no such value; else what the topic's settings mean. Either may be NULL. */
int64_t horizon_retention_ms(const char *retention_ms, const char *cleanup_policy);

#endif
