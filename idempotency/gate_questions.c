/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the gate asks Redis, and what it writes there.
 */
#include "base/clock.h"
#include "idempotency/gate_state.h"

#include <stdio.h>
#include <string.h>

enum { LATE_MS = 1 };

#define TEXT(text)                                                                                 \
    {                                                                                              \
        (text), strlen(text)                                                                       \
    }

static const char *
name_of(struct gate *gate, const char *prefix, const struct gate_question *question)
{
    snprintf(gate->name, sizeof gate->name, "%s%s", prefix, question->suffix);
    return gate->name;
}

static bool
is_text(const struct wire_answer *answer, const char *text)
{
    return answer->len == strlen(text) && memcmp(answer->text, text, answer->len) == 0;
}

static bool
exchange(struct gate *gate, struct hearing *hearing, int64_t deadline_ms)
{
    return gate_send(gate, 1, 0, deadline_ms) && gate_receive(gate, hearing, deadline_ms);
}

/* --- asking for many ----------------------------------------------------------- */

struct round {
    const struct gate *gate;
    struct gate_question *questions;
    size_t n;
};

static void
take_mark(void *user, size_t i, const struct wire_answer *answer)
{
    const struct round *round = user;
    struct gate_question *question = &round->questions[i];

    question->absent = answer->type == REDIS_REPLY_NIL;
    if (answer->type != REDIS_REPLY_STRING)
        return;
    question->verdict = gate_decide(answer->text, answer->len, round->gate->token, question->hash);
    question->leased = is_text(answer, round->gate->busy);
}

static void
forget_answers(const struct round *round)
{
    for (size_t i = 0; i < round->n; i++) {
        round->questions[i].verdict = GATE_GO;
        round->questions[i].absent = round->questions[i].leased = false;
    }
}

/* One command for all: nearly nothing but copying, for us and for Redis. */
static void
write_mget(struct buffer *commands, const char *prefix, const struct round *round)
{
    size_t suffix_len = strlen(round->questions->suffix);
    char head[GATE_NAME_MAX + 32];
    int len = snprintf(head, sizeof head, "*%zu\r\n$4\r\nMGET\r\n", round->n + 1);

    buffer_add(commands, head, (size_t)len);
    len = snprintf(head, sizeof head, "$%zu\r\n%s", strlen(prefix) + suffix_len, prefix);
    for (size_t i = 0; i < round->n; i++) {
        buffer_add(commands, head, (size_t)len);
        buffer_add(commands, round->questions[i].suffix, suffix_len);
        buffer_add(commands, "\r\n", 2);
    }
}

void
gate_ask(struct gate *gate, const char *prefix, struct gate_question *questions, size_t n)
{
    int64_t deadline = clock_mono_ms() + gate->timeout_ms;
    struct round round = { gate, questions, n };

    forget_answers(&round);
    gate->answer_by_ms = 0;
    if (n == 0 || !gate_ready(gate, deadline))
        return;
    gate->commands.len = 0;
    write_mget(&gate->commands, prefix, &round);
    if (gate_send(gate, 1, n, deadline))
        gate->answer_by_ms = deadline;
}

void
gate_hear(struct gate *gate, struct gate_question *questions, size_t n)
{
    struct round round = { gate, questions, n };
    struct hearing hearing = { .take = take_mark, .user = &round };
    /* Who comes late gets what fits into the socket at once, and the rest a moment later. */
    int64_t soon = clock_mono_ms() + LATE_MS;

    if (gate->answer_by_ms != 0 &&
        !gate_receive(gate, &hearing, gate->answer_by_ms > soon ? gate->answer_by_ms : soon))
        forget_answers(&round);
}

/* --- a lease ------------------------------------------------------------------- */

/* One command that looks, marks and sets the expiry: between two of them a death
 * would leave a mark that never expires. */
static void
write_lease(struct gate *gate, const char *name)
{
    const struct saga_bytes seven[] = { TEXT("SET"), TEXT(name), TEXT(gate->busy), TEXT("NX"),
                                        TEXT("GET"), TEXT("PX"), TEXT(gate->lease) };
    const struct saga_bytes older[] = { TEXT("SET"), TEXT(name), TEXT(gate->busy),
                                        TEXT("NX"),  TEXT("PX"), TEXT(gate->lease) };

    gate->commands.len = 0;
    if (gate->no_set_get)
        wire_command(&gate->commands, 6, older);
    else
        wire_command(&gate->commands, 7, seven);
}

/* Nothing there: now it is. */
static void
take_lease(void *user, size_t i, const struct wire_answer *answer)
{
    const struct round *round = user;

    take_mark(user, i, answer);
    if (round->questions[i].absent)
        round->questions[i].leased = true;
}

/* Nothing: somebody came in between. */
static void
take_late_lease(void *user, size_t i, const struct wire_answer *answer)
{
    const struct round *round = user;

    round->questions[i].leased = answer->type == REDIS_REPLY_STATUS;
    round->questions[i].verdict = answer->type == REDIS_REPLY_NIL ? GATE_BUSY : GATE_GO;
}

/* Before Redis 7: looks, and marks in a second round trip where there was nothing. */
static void
enter_older(struct gate *gate, const char *prefix, const struct round *round, int64_t deadline_ms)
{
    struct hearing hearing = { .take = take_late_lease, .user = (void *)round };

    gate_ask(gate, prefix, round->questions, 1);
    gate_hear(gate, round->questions, 1);
    if (!round->questions->absent || !gate_ready(gate, deadline_ms))
        return;
    write_lease(gate, name_of(gate, prefix, round->questions));
    if (!exchange(gate, &hearing, deadline_ms))
        forget_answers(round);
}

void
gate_enter(struct gate *gate, const char *prefix, struct gate_question *question)
{
    int64_t deadline = clock_mono_ms() + gate->timeout_ms;
    struct round round = { gate, question, 1 };
    struct hearing hearing = { .take = take_lease, .user = &round };

    forget_answers(&round);
    if (!gate_ready(gate, deadline))
        return;
    if (!gate->no_set_get) {
        write_lease(gate, name_of(gate, prefix, question));
        if (!exchange(gate, &hearing, deadline))
            forget_answers(&round);
        gate->no_set_get = hearing.too_new;
    }
    if (gate->no_set_get)
        enter_older(gate, prefix, &round, deadline);
}

/* One command, as a mark that has expired between two of them may be another's
 * by then. The answer is a text, like all that we ask for. */
static const char prolong[] = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'lost' end "
                              "redis.call('PEXPIRE', KEYS[1], ARGV[2]) return 'ours'";

static void
take_prolonged(void *user, size_t i, const struct wire_answer *answer)
{
    enum gate_lease *lease = user;

    (void)i;
    if (answer->type == REDIS_REPLY_STRING)
        *lease = is_text(answer, "ours") ? GATE_LEASE_OURS : GATE_LEASE_LOST;
}

enum gate_lease
gate_prolong(struct gate *gate, const char *prefix, const struct gate_question *question)
{
    int64_t deadline = clock_mono_ms() + gate->timeout_ms;
    enum gate_lease lease = GATE_LEASE_UNKNOWN;
    struct hearing hearing = { .take = take_prolonged, .user = &lease };
    const char *name = name_of(gate, prefix, question);
    const struct saga_bytes argv[] = { TEXT("EVAL"), TEXT(prolong),    TEXT("1"),
                                       TEXT(name),   TEXT(gate->busy), TEXT(gate->lease) };

    if (!gate_ready(gate, deadline))
        return GATE_LEASE_UNKNOWN;
    gate->commands.len = 0;
    wire_command(&gate->commands, 6, argv);
    return exchange(gate, &hearing, deadline) ? lease : GATE_LEASE_UNKNOWN;
}

/* --- done ------------------------------------------------------------------------ */

void
gate_done(struct gate *gate, const char *prefix, const struct gate_question *questions, size_t n)
{
    int64_t deadline = clock_mono_ms() + gate->timeout_ms;
    char done[5 + GATE_HASH_LEN + 1];

    if (n == 0 || !gate_ready(gate, deadline))
        return;
    gate->commands.len = 0;
    for (size_t i = 0; i < n; i++) {
        const char *name = name_of(gate, prefix, &questions[i]);
        int len = snprintf(done, sizeof done, "done:%s", questions[i].hash);
        const struct saga_bytes argv[] = {
            TEXT("SET"), TEXT(name), { done, (size_t)len }, TEXT("PX"), TEXT(gate->window)
        };

        wire_command(&gate->commands, 5, argv);
    }
    gate_send(gate, n, 0, deadline);
}

void
gate_settle(struct gate *gate)
{
    if (gate->wire.owed > 0)
        (void)gate_ready(gate, clock_mono_ms() + gate->timeout_ms);
}
