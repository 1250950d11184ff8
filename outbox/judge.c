/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deciding what becomes of rows.
 */
#include "outbox/judge.h"

#include <stdlib.h>
#include <string.h>

void
judge_clear(struct judge *judge)
{
    free(judge->suspects);
    *judge = (struct judge){ .compresses = judge->compresses };
}

void
judge_close(struct judge *judge)
{
    judge->n = 0;
}

/* Where the row is among the suspects, or belongs. */
static size_t
place_of(const struct judge *judge, int64_t seq)
{
    size_t low = 0, high = judge->n;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (judge->suspects[middle].seq < seq)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct suspect *
find(const struct judge *judge, int64_t seq)
{
    size_t place = place_of(judge, seq);

    return place < judge->n && judge->suspects[place].seq == seq ? &judge->suspects[place] : NULL;
}

/* The suspect of that seq, made if need be. NULL: out of memory. */
static struct suspect *
get(struct judge *judge, struct topic *topic, int64_t seq)
{
    size_t place = place_of(judge, seq);
    struct suspect *at;

    if (place < judge->n && judge->suspects[place].seq == seq)
        return &judge->suspects[place];
    if (judge->n == judge->room) {
        size_t room = judge->room > 0 ? 2 * judge->room : 64;

        at = realloc(judge->suspects, room * sizeof *at);
        if (at == NULL)
            return NULL;
        judge->suspects = at;
        judge->room = room;
    }
    at = &judge->suspects[place];
    memmove(at + 1, at, (judge->n - place) * sizeof *at);
    judge->n++;
    *at = (struct suspect){ .seq = seq, .topic = topic };
    return at;
}

/* Nobody else can wait until somebody answers; a broker that takes or refuses
 * the message is an answer, too. */
static bool
asked_in_vain(const struct topic *topic, int64_t now_ms)
{
    return !topic->asking && topic->asked_ms > topic->answered_ms &&
           now_ms - topic->asked_ms < JUDGE_STALE_MS;
}

enum judgement
judge_row(const struct judge *judge, const struct judge_case *row, int64_t now_ms,
          const struct verdict **verdict)
{
    const struct suspect *suspect = judge->n > 0 ? find(judge, row->seq) : NULL;
    const struct topic *topic = row->topic;

    *verdict = NULL;
    if (suspect != NULL && suspect->state == SUSPECT_CONDEMNED) {
        *verdict = suspect->verdict;
        return JUDGED_PARK;
    }
    if (row->behind)
        return JUDGED_PARK;
    if (topic_is_refused(topic, now_ms)) {
        *verdict = topic->refused;
        return JUDGED_PARK;
    }
    if (topic_is_unknown(topic, now_ms))
        return JUDGED_ASK;
    if (row->bytes > topic->max_bytes) {
        /* How small a message becomes only the compressor knows, and it is in
         * librdkafka; so the broker has to say. */
        if (judge->compresses)
            return JUDGED_ALONE;
        if (now_ms - topic->answered_ms >= JUDGE_STALE_MS)
            return asked_in_vain(topic, now_ms) ? JUDGED_ALONE : JUDGED_ASK;
        *verdict = verdict_too_large();
        return JUDGED_PARK;
    }
    return suspect != NULL ? JUDGED_ALONE : JUDGED_SEND;
}

bool
judge_sends_alone(struct judge *judge, struct topic *topic, int64_t seq)
{
    struct suspect *suspect = get(judge, topic, seq);

    if (suspect != NULL)
        suspect->state = SUSPECT_ALONE;
    return suspect != NULL;
}

static void
blame(struct judge *judge, struct topic *topic, int64_t seq, const struct verdict *verdict)
{
    struct suspect *suspect = get(judge, topic, seq);

    if (suspect == NULL)
        return;
    suspect->verdict = verdict;
    suspect->state = suspect->state == SUSPECT_ALONE ? SUSPECT_CONDEMNED : SUSPECT;
}

/* NULL: it may pass. A topic that was there a moment ago is more likely unknown
 * to one broker that has just started than gone. A new producer waits before it
 * says so. */
static const struct verdict *
believed(const struct topic *topic, int error)
{
    const struct verdict *verdict = verdict_of(error);

    return verdict != NULL && verdict->absent && topic->delivered ? NULL : verdict;
}

void
judge_refused(struct judge *judge, struct topic *topic, int64_t seq, int error, int64_t now_ms)
{
    const struct verdict *verdict = believed(topic, error);

    if (verdict == NULL)
        return;
    judge->findings++;
    if (verdict->scope == VERDICT_TOPIC) {
        topic_refuse(topic, verdict, now_ms);
        return;
    }
    if (verdict->size)
        topic_doubt(topic);
    blame(judge, topic, seq, verdict);
}

bool
judge_not_taken(struct judge *judge, struct topic *topic, int64_t seq, int error, int64_t now_ms)
{
    const struct verdict *verdict = believed(topic, error);

    if (verdict == NULL)
        return false;
    if (verdict->scope == VERDICT_TOPIC)
        topic_refuse(topic, verdict, now_ms);
    else if (judge_sends_alone(judge, topic, seq))
        blame(judge, topic, seq, verdict);
    return true;
}

void
judge_acquit(struct judge *judge, const struct topic *topic)
{
    size_t n = 0;

    for (size_t i = 0; i < judge->n; i++) {
        const struct suspect *suspect = &judge->suspects[i];
        bool acquitted = suspect->topic == topic && suspect->state == SUSPECT &&
                         suspect->verdict != NULL && suspect->verdict->size;

        if (!acquitted)
            judge->suspects[n++] = *suspect;
    }
    judge->n = n;
}
