/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of topics.
 */
#include "outbox/topics.h"

#include <stdlib.h>
#include <string.h>

enum { DOUBLINGS = 4 };

static void
topic_free(struct topic *topic)
{
    if (topic != NULL)
        free(topic->name);
    free(topic);
}

void
topics_clear(struct topics *topics)
{
    for (size_t i = 0; i < topics->n; i++)
        topic_free(topics->at[i]);
    free(topics->at);
    *topics = (struct topics){ 0 };
}

/* Where the name is, or belongs. */
static size_t
place_of(const struct topics *topics, const char *name, bool *found)
{
    size_t low = 0, high = topics->n;

    *found = false;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strcmp(name, topics->at[middle]->name);

        if (order == 0) {
            *found = true;
            return middle;
        }
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

struct topic *
topics_get(struct topics *topics, const char *name)
{
    bool found;
    size_t place = place_of(topics, name, &found);
    struct topic **grown, *topic;

    if (found)
        return topics->at[place];
    grown = realloc(topics->at, (topics->n + 1) * sizeof(struct topic *));
    if (grown == NULL)
        return NULL;
    topics->at = grown;
    topic = calloc(1, sizeof *topic);
    if (topic == NULL || (topic->name = strdup(name)) == NULL) {
        topic_free(topic);
        return NULL;
    }
    memmove(grown + place + 1, grown + place, (topics->n - place) * sizeof(struct topic *));
    grown[place] = topic;
    topics->n++;
    return topic;
}

bool
topic_is_unknown(const struct topic *topic, int64_t now_ms)
{
    if (topic->known)
        return false;
    return !topic->asking || now_ms - topic->asked_ms < TOPIC_ANSWER_MS;
}

void
topic_asked(struct topic *topic, int64_t now_ms)
{
    topic->asking = true;
    topic->asked_ms = now_ms;
    if (topic->max_bytes == 0)
        topic->max_bytes = TOPIC_BYTES_ASSUMED;
}

/* Answers come in the order of their questions. */
static bool
is_outdated(struct topic *topic)
{
    if (topic->outdated == 0)
        return false;
    topic->outdated--;
    return true;
}

void
topic_unanswered(struct topic *topic)
{
    if (is_outdated(topic))
        return;
    topic->asking = false;
    topic->known = true;
}

void
topic_interrupted(struct topic *topic, int64_t now_ms)
{
    topic->outdated = 0;
    if (topic->asking && now_ms - topic->asked_ms >= TOPIC_ANSWER_MS)
        topic_unanswered(topic);
    topic->asking = false;
}

bool
topics_answered(struct topics *topics, struct topic *topic, int64_t max_bytes, int64_t now_ms)
{
    int64_t before = topic->max_bytes;

    if (is_outdated(topic))
        return false;
    topic->asking = false;
    topic->known = true;
    topic->answered_ms = now_ms;
    if (max_bytes > 0)
        topic->max_bytes = max_bytes;
    topics->smallest = topic->max_bytes;
    for (size_t i = 0; i < topics->n; i++)
        if (topics->at[i]->max_bytes > 0 && topics->at[i]->max_bytes < topics->smallest)
            topics->smallest = topics->at[i]->max_bytes;
    return topic->max_bytes != before;
}

void
topic_refuse(struct topic *topic, const struct verdict *verdict, int64_t now_ms)
{
    int doublings = topic->refusals < DOUBLINGS ? topic->refusals : DOUBLINGS;

    topic->refused = verdict;
    topic->refused_until_ms = now_ms + ((int64_t)TOPIC_REFUSED_MS << doublings);
    topic->refusals++;
}

bool
topic_is_refused(const struct topic *topic, int64_t now_ms)
{
    return topic->refused != NULL && now_ms < topic->refused_until_ms;
}

void
topic_doubt(struct topic *topic)
{
    topic->known = false;
    topic->outdated += topic->asking;
    topic->asking = false;
}

void
topic_pardon(struct topic *topic)
{
    topic->refused = NULL;
    topic->refusals = 0;
    topic->answered_ms = 0; /* nor parked by what the brokers said before */
    topic_doubt(topic);
}
