/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The marks of messages in Redis: which ones are asked for, what their names
 * are, and when an answer counts.
 */
#include "base/clock.h"
#include "base/crash.h"
#include "idempotency/consumer_state.h"

#include <stdio.h>
#include <string.h>

enum { BUSY_MS = 50 };

/* The group: two consumers both want the message. The database: a mark tells of
 * commits that another one, or this one after a failover, may not have. Not the
 * topic: the same id from a retry topic is the same message. */
static void
mark_prefix(const struct saga_consumer *consumer, char prefix[GATE_NAME_MAX])
{
    snprintf(prefix, GATE_NAME_MAX, "saga:mark:%s:%s:", consumer->identity,
             consumer->options.group);
}

static void
set_question(struct gate_question *question, const struct taken *taken)
{
    saga_uuid_text(&taken->record.public.id, question->suffix);
    question->hash = taken->record.hash_text;
}

/* Not where the database is known to have lost what marks may tell of. */
static bool
mark_counts(const struct taken *taken)
{
    return taken->item.offset >= taken->partition->distrust_below;
}

static void
take_verdict(struct saga_consumer *consumer, struct taken *taken, enum gate_verdict verdict)
{
    if (verdict == GATE_SKIP) {
        taken->item.state = HAND_FINISHED;
        atomic_fetch_add(&consumer->counters.duplicates_by_mark, 1);
    } else if (verdict == GATE_BUSY && !taken->waited) {
        taken->waited = true;
        hand_put_back(&taken->item, clock_mono_ms() + BUSY_MS);
    }
}

static void
ask(struct saga_consumer *consumer, struct taken *const *asked, size_t n)
{
    struct gate_question *questions = consumer->questions;
    char prefix[GATE_NAME_MAX];
    bool skips = false, same;

    mark_prefix(consumer, prefix);
    for (size_t i = 0; i < n; i++)
        set_question(&questions[i], asked[i]);
    gate_ask(consumer->gate, prefix, questions, n);
    kafka_read(consumer, 2);
    gate_hear(consumer->gate, questions, n);
    CRASH_POINT("consumer.after_gate");
    for (size_t i = 0; i < n; i++)
        skips |= questions[i].verdict == GATE_SKIP;
    same = !skips || database_same(consumer);
    for (size_t i = 0; i < n; i++)
        if (same || questions[i].verdict != GATE_SKIP)
            take_verdict(consumer, asked[i], questions[i].verdict);
}

void
marks_ask(struct saga_consumer *consumer, struct taken **taken, size_t n)
{
    struct taken *asked[GATE_MANY];
    size_t n_asked = 0;

    if (consumer->gate == NULL)
        return;
    for (size_t i = 0; i < n; i++)
        if (mark_counts(taken[i]))
            asked[n_asked++] = taken[i];
    if (n_asked > 0)
        ask(consumer, asked, n_asked);
    atomic_store(&consumer->counters.circuit, (int)gate_circuit(consumer->gate));
}

void
marks_done(struct saga_consumer *consumer, struct taken *const *done, size_t n)
{
    struct gate_question *questions = consumer->questions;
    char prefix[GATE_NAME_MAX];
    size_t n_done = 0;

    if (consumer->gate == NULL)
        return;
    mark_prefix(consumer, prefix);
    for (size_t i = 0; i < n; i++)
        if (done[i]->record.flaw == NULL && done[i]->verdict < SAGA_INBOX_CONFLICT &&
            !done[i]->partition->route->answers)
            set_question(&questions[n_done++], done[i]);
    gate_done(consumer->gate, prefix, questions, n_done);
    atomic_store(&consumer->counters.circuit, (int)gate_circuit(consumer->gate));
}

/* --- Redis alone ------------------------------------------------------------------ */

/* From when it was asked for: that is earlier than Redis counts. */
static void
hold_lease(struct saga_consumer *consumer, const struct gate_question *question, int64_t from_ms)
{
    enum { EARLY = 3 }; /* with two more chances before it ends */

    consumer->lease.held = true;
    consumer->lease.lost = false;
    consumer->lease.question = *question;
    consumer->lease.until_ms = from_ms + consumer->options.lease_ms;
    consumer->lease.again_ms = from_ms + consumer->options.lease_ms / EARLY;
}

int
marks_keep_lease(struct saga_consumer *consumer)
{
    int64_t now = clock_mono_ms();
    char prefix[GATE_NAME_MAX];

    if (!consumer->lease.held || (!consumer->lease.lost && now < consumer->lease.again_ms))
        return 0;
    if (consumer->lease.lost)
        return SAGA_EFENCED;
    mark_prefix(consumer, prefix);
    switch (gate_prolong(consumer->gate, prefix, &consumer->lease.question)) {
    case GATE_LEASE_OURS:
        hold_lease(consumer, &consumer->lease.question, now);
        return 0;
    case GATE_LEASE_LOST:
        consumer->lease.lost = true;
        return SAGA_EFENCED;
    default:
        return now < consumer->lease.until_ms ? 0 : SAGA_EUNKNOWN;
    }
}

void
marks_forget_lease(struct saga_consumer *consumer)
{
    consumer->lease.held = false;
}

/* Our own mark of before, of an attempt or of a question whose answer was lost, lives only for
 * what that has left of it. */
static bool
lease_is_fresh(struct saga_consumer *consumer, const char *prefix,
               const struct gate_question *question)
{
    return question->absent || gate_prolong(consumer->gate, prefix, question) == GATE_LEASE_OURS;
}

bool
marks_lease(struct saga_consumer *consumer, struct taken *taken)
{
    struct gate_question question = { .verdict = GATE_GO };
    int64_t now = clock_mono_ms();
    char prefix[GATE_NAME_MAX];

    if (taken->record.flaw != NULL || taken->given_up != NULL)
        return true;
    mark_prefix(consumer, prefix);
    set_question(&question, taken);
    gate_enter(consumer->gate, prefix, &question);
    if (question.leased && gate_circuit(consumer->gate) == GATE_CLOSED) {
        if (lease_is_fresh(consumer, prefix, &question)) {
            hold_lease(consumer, &question, now);
            return true;
        }
        hand_put_back(&taken->item, now + BUSY_MS);
        return false;
    }
    if (question.verdict == GATE_SKIP) {
        take_verdict(consumer, taken, GATE_SKIP);
        return false;
    }
    if (question.verdict == GATE_GO && gate_circuit(consumer->gate) == GATE_CLOSED) {
        taken->record.flaw = "same id, other contents: its mark in Redis is not of this message";
        taken->forged = true;
        return true;
    }
    /* Nobody is there to tell, or somebody is at it: until his lease ends. */
    hand_put_back(&taken->item, clock_mono_ms() + BUSY_MS);
    return false;
}
