/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is to become of a row: sent, sent alone, or parked.
 *
 * Owns the rule of whom a refusal is blamed on. A broker refuses a whole batch
 * for one message, and does not say for which; so all of it are suspects, each
 * is sent again by itself, and only what is refused alone is parked. Decides by
 * what it is told; sends nothing and asks nobody.
 */
#ifndef OUTBOX_JUDGE_H
#define OUTBOX_JUDGE_H

#include "outbox/topics.h"

enum { JUDGE_STALE_MS = 10000 }; /* an older answer is not enough to park a message */

enum judgement {
    JUDGED_SEND,
    JUDGED_ALONE, /* with nothing else on its way before or after it */
    JUDGED_PARK,
    JUDGED_ASK /* first the topic's limit must be known */
};

struct suspect {
    int64_t seq;
    struct topic *topic;
    const struct verdict *verdict; /* NULL: sent alone out of caution */
    enum { SUSPECT, SUSPECT_ALONE, SUSPECT_CONDEMNED } state;
};

/* Zero is a valid judge. */
struct judge {
    struct suspect *suspects; /* sorted by seq */
    size_t n, room;
    bool compresses; /* what is too large may still fit */
    int64_t findings;
};

void judge_clear(struct judge *judge);

struct judge_case {
    struct topic *topic;
    int64_t seq;
    int64_t bytes; /* of a batch with it alone, uncompressed; at most */
    bool behind;   /* its topic and key are parked */
};

/* `verdict` is set for JUDGED_PARK; NULL: because of those before it. */
enum judgement judge_row(const struct judge *judge, const struct judge_case *row, int64_t now_ms,
                         const struct verdict **verdict);

/* The row is sent alone. False: out of memory. */
bool judge_sends_alone(struct judge *judge, struct topic *topic, int64_t seq);

/* The row was refused, alone or with others. Out of memory: it is not noted,
 * and the message is sent again as if nothing had been said. */
void judge_refused(struct judge *judge, struct topic *topic, int64_t seq, int error,
                   int64_t now_ms);

/* librdkafka does not even take the row. False: that is no reason to park it. */
bool judge_not_taken(struct judge *judge, struct topic *topic, int64_t seq, int error,
                     int64_t now_ms);

/* The topic's limit is another one than when its batches were refused: they
 * were too large, and their messages may not be. */
void judge_acquit(struct judge *judge, const struct topic *topic);

/* The rows that were judged so far are done with. */
void judge_close(struct judge *judge);

#endif
