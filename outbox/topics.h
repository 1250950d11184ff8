/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is known of the topics: how large a message they take, and whether they
 * take any at all at present.
 *
 * Outlives the producers, so that a new one need not find out everything again.
 * Asks nobody: answers come from limits.c, refusals from the judge.
 */
#ifndef OUTBOX_TOPICS_H
#define OUTBOX_TOPICS_H

#include "outbox/verdict.h"

#include <stddef.h>
#include <stdint.h>

enum {
    TOPIC_BYTES_ASSUMED = 1048588, /* the brokers' own default */
    TOPIC_ANSWER_MS = 300,         /* so long its messages wait for an answer */
    TOPIC_REFUSED_MS = 60000       /* the first time; doubled up to sixteen times that */
};

struct topic {
    char *name;

    int64_t max_bytes; /* of a batch, as far as we know; 0: never heard of */
    bool known, asking;
    int32_t outdated; /* questions of before it was doubted: their answers tell nothing */
    int64_t asked_ms, answered_ms; /* answered: by the brokers, not by time */

    const struct verdict *refused; /* the last refusal of the whole topic */
    int64_t refused_until_ms;
    int32_t refusals; /* since the last delivery */

    int format; /* enum record_format; the outlet sets it */

    /* The sink's: */
    void *handle;
    bool delivered; /* the present producer has delivered to it, so it exists */
};

/* Zero is a valid empty table. */
struct topics {
    struct topic **at; /* sorted by name */
    size_t n;
    int64_t smallest; /* max_bytes of all; 0: none has any */
};

void topics_clear(struct topics *topics);

/* The topic of that name, which stays where it is. NULL: out of memory. */
struct topic *topics_get(struct topics *topics, const char *name);

/* Whether its limit has to be asked for, or waited for. */
bool topic_is_unknown(const struct topic *topic, int64_t now_ms);

/* The topic was asked for. */
void topic_asked(struct topic *topic, int64_t now_ms);

/* No answer will come: nothing was learnt, but nobody waits any longer. */
void topic_unanswered(struct topic *topic);

/* Its producer has ended. Who has waited for the answer long enough need not
 * wait for the next producer's. */
void topic_interrupted(struct topic *topic, int64_t now_ms);

/* An answer; max_bytes 0: that we cannot be told. True: it changes what was
 * known. */
bool topics_answered(struct topics *topics, struct topic *topic, int64_t max_bytes, int64_t now_ms);

void topic_refuse(struct topic *topic, const struct verdict *verdict, int64_t now_ms);
bool topic_is_refused(const struct topic *topic, int64_t now_ms);

/* What was known may be wrong by now: ask again before the next message. */
void topic_doubt(struct topic *topic);

/* As if nothing had been refused; an operator believes so. */
void topic_pardon(struct topic *topic);

#endif
