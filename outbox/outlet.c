/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sending rows, one after the other.
 */
#include "outbox/outlet.h"

#include "base/backoff.h"
#include "base/clock.h"
#include "base/error.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
    FIRST_RETRY_MS = 100,
    LONGEST_RETRY_MS = 10000,
    PATIENCE_MS = 10, /* without an answer, before batches go that are not full */
    PUSH_MS = 5
};

/* --- opening and closing ----------------------------------------------- */

int
outlet_open(struct outlet *outlet, struct saga_error *err)
{
    if (outlet->sink != NULL)
        return 0;
    atomic_fetch_add(&outlet->options.tally->producers, 1);
    outlet->alone = outlet->hurry = false;
    return sink_open(&outlet->sink, &outlet->options, &outlet->window, &outlet->topics,
                     &outlet->judge, err);
}

void
outlet_close(struct outlet *outlet)
{
    if (outlet->sink != NULL)
        atomic_fetch_add(&outlet->options.tally->refused, sink_close(outlet->sink));
    outlet->sink = NULL;
}

void
outlet_forget(struct outlet *outlet)
{
    outlet_close(outlet);
    window_reset(&outlet->window);
    judge_close(&outlet->judge);
}

void
outlet_clear(struct outlet *outlet)
{
    outlet_forget(outlet);
    window_clear(&outlet->window);
    judge_clear(&outlet->judge);
    topics_clear(&outlet->topics);
    outlet->last = NULL;
}

bool
outlet_broken(const struct outlet *outlet)
{
    return sink_broken(outlet->sink);
}

int64_t
outlet_pause_ms(struct outlet *outlet)
{
    bool found = outlet->judge.findings > 0;

    outlet->judge.findings = 0;
    if (found)
        return 0;
    outlet->failures++;
    return backoff_ms(FIRST_RETRY_MS, LONGEST_RETRY_MS, outlet->failures, backoff_random());
}

/* --- sending ----------------------------------------------------------- */

static int
find_topic(struct outlet *outlet, const char *name, struct saga_error *err)
{
    size_t known = outlet->topics.n;

    if (outlet->last != NULL && strcmp(outlet->last->name, name) == 0)
        return 0;
    outlet->last = topics_get(&outlet->topics, name);
    if (outlet->last == NULL)
        return error_set(err, SAGA_ENOMEM, "out of memory");
    if (outlet->topics.n > known)
        outlet->last->format = (int)record_format_of(&outlet->options.formats, name);
    return 0;
}

int
outlet_pardon(struct outlet *outlet, const char *topic, struct saga_error *err)
{
    int rc = find_topic(outlet, topic, err);

    if (rc == 0)
        topic_pardon(outlet->last);
    return rc;
}

/* A broker refuses a batch that is larger than the topic allows, whatever is in
 * it. batch.size is a matter of the whole producer, so that one is replaced. */
static bool
batches_too_large(const struct outlet *outlet)
{
    return outlet->topics.smallest > 0 && sink_batch_bytes(outlet->sink) > outlet->topics.smallest;
}

static int
hand_over(struct outlet *outlet, const struct row_fields *fields, int64_t seq, bool alone,
          int *outcome, struct saga_error *err)
{
    struct topic *topic = outlet->last;
    int taken;

    outlet->hurry = (alone || outlet->alone) && window_open(&outlet->window) > 0;
    if (outlet->hurry)
        return 0;
    outlet->alone = alone;
    if (alone && !judge_sends_alone(&outlet->judge, topic, seq))
        return error_set(err, SAGA_ENOMEM, "out of memory");
    taken = sink_produce(outlet->sink, topic, fields, seq);
    outlet->hurry = taken == SINK_FULL;
    if (taken == SINK_TAKEN)
        *outcome = OUTLET_SENT;
    return 0; /* full, broken, or the judge knows now */
}

/* A broker that refuses what the topic's known limit allows has another one, or
 * has not said it in time: then no number is better than a wrong one. */
static void
explain(const struct judge_case *row, const struct verdict *verdict, char why[FINDING_BYTES])
{
    *why = '\0';
    if (verdict != NULL && verdict == verdict_too_large() && row->bytes > row->topic->max_bytes)
        snprintf(why, FINDING_BYTES, "%s (%" PRId64 " bytes; %" PRId64 " are allowed)",
                 verdict->reason, row->bytes, row->topic->max_bytes);
    else if (verdict != NULL)
        snprintf(why, FINDING_BYTES, "%s", verdict->reason);
}

int
outlet_send(struct outlet *outlet, const struct row_fields *fields, int64_t seq, bool behind,
            int *outcome, char why[FINDING_BYTES], struct saga_error *err)
{
    struct judge_case row = { .seq = seq, .behind = behind };
    const struct verdict *verdict;
    int rc = find_topic(outlet, fields->topic, err);

    *outcome = OUTLET_WAIT;
    if (rc != 0)
        return rc;
    row.topic = outlet->last;
    row.bytes = sink_record_bytes(outlet->sink, row.topic, fields);
    switch (judge_row(&outlet->judge, &row, clock_mono_coarse_ms(), &verdict)) {
    case JUDGED_PARK:
        explain(&row, verdict, why);
        *outcome = OUTLET_PARK;
        return 0;
    case JUDGED_ASK:
        sink_ask(outlet->sink, row.topic);
        return 0;
    case JUDGED_ALONE:
        return hand_over(outlet, fields, seq, true, outcome, err);
    case JUDGED_SEND:
        break;
    }
    if (!batches_too_large(outlet))
        return hand_over(outlet, fields, seq, false, outcome, err);
    outlet->hurry = window_open(&outlet->window) > 0;
    if (outlet->hurry)
        return 0;
    outlet_close(outlet);
    return outlet_open(outlet, err);
}

void
outlet_serve(struct outlet *outlet, int wait_ms, bool more)
{
    bool due = window_open(&outlet->window) > 0 || sink_asking(outlet->sink);

    if (!due || wait_ms == 0) {
        sink_serve(outlet->sink, 0);
    } else if (!more || outlet->hurry) {
        sink_push(outlet->sink, wait_ms);
    } else {
        /* Many partitions share what is on its way: their batches are not full. */
        sink_serve(outlet->sink, wait_ms < PATIENCE_MS ? wait_ms : PATIENCE_MS);
        if (!sink_answered(outlet->sink))
            sink_push(outlet->sink, PUSH_MS);
    }
}
