/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gate in front of the database: asks Redis for marks and writes them.
 *
 * Owns the circuit, that is, when to ask at all: a Redis that has failed, or was
 * too slow, is left alone for a while, so that it costs nothing for each message.
 */
#include "idempotency/gate.h"

#include "base/backoff.h"
#include "base/clock.h"
#include "idempotency/gate_wire.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RETRY_FIRST_MS = 100, RETRY_LONGEST_MS = 10000 };
enum { OUTAGE_LOG_MS = 10000, LASTING_LOG_MS = 60000 };

struct gate {
    struct gate_address address;
    struct wire wire;
    const struct saga_log *log;
    char token[GATE_TOKEN_LEN + 1], busy[5 + GATE_TOKEN_LEN + 1];
    char lease[16], window[16]; /* milliseconds, as the command wants them */
    int32_t timeout_ms;
    bool no_set_get;  /* older than Redis 7: SET cannot NX and GET at once */
    int32_t failures; /* without a success since */
    int64_t outages;  /* in all */
    int64_t retry_at_ms;
    int64_t log_at_ms;      /* not before */
    int32_t unlogged;       /* outages since */
    bool outage_logged;     /* the present one was; so its end will be */
    struct buffer commands; /* being made */
    char name[GATE_NAME_MAX];
};

int
gate_new(struct gate **made, const struct gate_options *options, struct saga_error *err)
{
    struct gate *gate = calloc(1, sizeof *gate);
    int rc;

    if (gate == NULL)
        return error_set(err, SAGA_ENOMEM, "out of memory");
    gate->wire.fd = -1;
    rc = gate_parse(&gate->address, options->address, options->remote, err);
    if (rc != 0) {
        free(gate);
        return rc;
    }
    gate->log = options->log;
    gate->timeout_ms = options->timeout_ms;
    snprintf(gate->lease, sizeof gate->lease, "%" PRId32, options->lease_ms);
    snprintf(gate->window, sizeof gate->window, "%" PRId32, options->window_ms);
    snprintf(gate->token, sizeof gate->token, "%016" PRIx64, backoff_random());
    snprintf(gate->busy, sizeof gate->busy, "busy:%s", gate->token);
    *made = gate;
    return 0;
}

void
gate_free(struct gate *gate)
{
    if (gate == NULL)
        return;
    wire_close(&gate->wire);
    buffer_clear(&gate->commands);
    free(gate);
}

/* --- whether to ask ------------------------------------------------------ */

enum gate_circuit
gate_circuit(const struct gate *gate)
{
    if (gate->failures == 0)
        return GATE_CLOSED;
    return clock_mono_ms() < gate->retry_at_ms ? GATE_OPEN : GATE_HALF_OPEN;
}

int64_t
gate_outages(const struct gate *gate)
{
    return gate->outages;
}

/* A Redis that comes and goes is logged now and then, by outages; one that stays away, too. */
static void
log_outage(struct gate *gate, int64_t now, const char *said)
{
    bool is_counted = gate->failures > 1 && !gate->outage_logged;

    if (now < gate->log_at_ms) {
        gate->unlogged += gate->failures == 1;
        return;
    }
    log_event(gate->log, SAGA_LOG_WARNING,
              "Redis is of no use; going on without it, the inbox recognises duplicates",
              LOG_TEXT("redis", gate->address.host), LOG_INT("port", gate->address.port),
              LOG_TEXT("said", said), LOG_INT("unlogged_outages", gate->unlogged - is_counted));
    gate->log_at_ms = now + LASTING_LOG_MS;
    gate->unlogged = 0;
    gate->outage_logged = true;
}

static void
failed(struct gate *gate, const char *said)
{
    int64_t now = clock_mono_ms();

    gate->outages += gate->failures == 0;
    gate->failures++;
    gate->retry_at_ms =
        now + backoff_ms(RETRY_FIRST_MS, RETRY_LONGEST_MS, gate->failures, backoff_random());
    log_outage(gate, now, said);
}

static void
worked(struct gate *gate)
{
    if (gate->outage_logged) {
        log_event(gate->log, SAGA_LOG_INFO, "Redis answers again");
        gate->log_at_ms = clock_mono_ms() + OUTAGE_LOG_MS;
        gate->outage_logged = false;
    }
    gate->failures = 0;
}

/* --- one round trip -------------------------------------------------------- */

/* What the server refuses (out of memory, read only, loading) is a failure like
 * silence; only the connection can go on being used. */
struct hearing {
    wire_take *take; /* NULL: nothing but errors matters */
    void *user;
    char error[64];
};

static void
hear(void *user, size_t i, const redisReply *reply)
{
    struct hearing *hearing = user;

    if (reply->type == REDIS_REPLY_ERROR)
        snprintf(hearing->error, sizeof hearing->error, "%s", reply->str);
    if (hearing->take != NULL)
        hearing->take(hearing->user, i, reply);
}

static bool
receive(struct gate *gate, struct hearing *hearing, int64_t deadline_ms)
{
    if (!wire_receive(&gate->wire, hear, hearing, deadline_ms)) {
        failed(gate, "no usable answer in time");
        return false;
    }
    return true;
}

/* Connected, and with nothing owed. */
static bool
get_ready(struct gate *gate, int64_t deadline_ms)
{
    struct hearing hearing = { .take = NULL };

    if (clock_mono_ms() < gate->retry_at_ms)
        return false;
    if (gate->wire.fd < 0 && !wire_open(&gate->wire, &gate->address, deadline_ms)) {
        wire_close(&gate->wire);
        failed(gate, "no connection");
        return false;
    }
    if (gate->wire.owed == 0)
        return true;
    if (!receive(gate, &hearing, deadline_ms))
        return false;
    if (hearing.error[0] != '\0')
        failed(gate, hearing.error);
    return hearing.error[0] == '\0';
}

static bool
send_commands(struct gate *gate, size_t n, int64_t deadline_ms)
{
    bool sent = wire_send(&gate->wire, &gate->commands, n, deadline_ms);

    if (!sent)
        failed(gate, "the connection is lost");
    return sent;
}

/* --- the questions --------------------------------------------------------- */

#define TEXT(text)                                                                                 \
    {                                                                                              \
        (text), strlen(text)                                                                       \
    }

static void
add_command(struct gate *gate, int argc, const struct saga_bytes *argv)
{
    wire_command(&gate->commands, argc, argv);
}

static const char *
name_of(struct gate *gate, const char *prefix, const struct gate_question *question)
{
    snprintf(gate->name, sizeof gate->name, "%s%s", prefix, question->suffix);
    return gate->name;
}

static void
add_get(struct gate *gate, const char *name)
{
    const struct saga_bytes argv[] = { TEXT("GET"), TEXT(name) };

    add_command(gate, 2, argv);
}

static void
add_lease(struct gate *gate, const char *name)
{
    /* One command that looks, marks and sets the expiry: between two of them a
     * death would leave a mark that never expires. */
    const struct saga_bytes seven[] = { TEXT("SET"), TEXT(name), TEXT(gate->busy), TEXT("NX"),
                                        TEXT("GET"), TEXT("PX"), TEXT(gate->lease) };
    const struct saga_bytes older[] = { TEXT("SET"), TEXT(name), TEXT(gate->busy),
                                        TEXT("NX"),  TEXT("PX"), TEXT(gate->lease) };

    if (gate->no_set_get)
        add_command(gate, 6, older);
    else
        add_command(gate, 7, seven);
}

/* What is asked of Redis at once, and what comes of it. */
struct round {
    struct gate *gate;
    struct gate_question *questions;
    size_t n;
    size_t asked[GATE_MANY]; /* which of them */
    bool nothing[GATE_MANY]; /* there was no mark */
    bool sets;               /* nothing there: "busy" was written */
    bool is_set;             /* without an answer: "busy" was written, or not */
    bool syntax_error;
};

static void
take_answer(void *user, size_t i, const redisReply *reply)
{
    struct round *round = user;
    struct gate_question *question = &round->questions[round->asked[i]];

    round->nothing[round->asked[i]] = reply->type == REDIS_REPLY_NIL;
    if (round->sets)
        question->leased = reply->type == REDIS_REPLY_NIL;
    if (round->is_set) { /* nil: somebody came in between */
        question->leased = reply->type == REDIS_REPLY_STATUS;
        question->verdict = reply->type == REDIS_REPLY_NIL ? GATE_BUSY : GATE_GO;
        return;
    }
    if (reply->type == REDIS_REPLY_STRING) {
        question->verdict =
            gate_decide(reply->str, (size_t)reply->len, round->gate->token, question->hash);
        question->leased = strcmp(reply->str, round->gate->busy) == 0;
    }
    if (reply->type == REDIS_REPLY_ERROR && strncmp(reply->str, "ERR syntax", 10) == 0)
        round->syntax_error = true;
}

/* False: nothing that was heard counts. */
static bool
ask(struct round *round, int64_t deadline_ms)
{
    struct gate *gate = round->gate;
    struct hearing hearing = { .take = take_answer, .user = round };

    if (!send_commands(gate, round->n, deadline_ms) || !receive(gate, &hearing, deadline_ms)) {
        for (size_t i = 0; i < round->n; i++)
            round->questions[round->asked[i]].verdict = GATE_GO;
        return false;
    }
    if (hearing.error[0] != '\0' && !round->syntax_error)
        failed(gate, hearing.error);
    else
        worked(gate);
    return true;
}

static void
ask_all(struct round *round, const char *prefix, size_t n, bool lease, int64_t deadline_ms)
{
    struct gate *gate = round->gate;

    gate->commands.len = 0;
    round->n = n;
    round->sets = lease && !gate->no_set_get;
    for (size_t i = 0; i < n; i++) {
        const char *name = name_of(gate, prefix, &round->questions[i]);

        round->asked[i] = i;
        if (lease && !gate->no_set_get)
            add_lease(gate, name);
        else
            add_get(gate, name);
    }
    if (!ask(round, deadline_ms))
        round->n = 0;
}

/* Before Redis 7: marks where there was nothing, in a second round trip. */
static void
lease_the_rest(struct round *round, const char *prefix, int64_t deadline_ms)
{
    struct gate *gate = round->gate;
    size_t n = 0;

    gate->commands.len = 0;
    for (size_t i = 0; i < round->n; i++)
        if (round->nothing[i]) {
            add_lease(gate, name_of(gate, prefix, &round->questions[i]));
            round->asked[n++] = i;
        }
    round->n = n;
    round->sets = false;
    round->is_set = true;
    if (n > 0)
        ask(round, deadline_ms);
}

void
gate_enter(struct gate *gate, const char *prefix, struct gate_question *questions, size_t n,
           bool lease)
{
    int64_t deadline = clock_mono_ms() + gate->timeout_ms;
    struct round round = { .gate = gate, .questions = questions };

    for (size_t i = 0; i < n; i++)
        questions[i].verdict = GATE_GO;
    if (n == 0 || !get_ready(gate, deadline))
        return;
    ask_all(&round, prefix, n, lease, deadline);
    if (round.syntax_error) {
        gate->no_set_get = true;
        round.syntax_error = false;
        ask_all(&round, prefix, n, lease, deadline);
    }
    if (lease && gate->no_set_get)
        lease_the_rest(&round, prefix, deadline);
}

/* One command, as a mark that has expired between two of them may be another's
 * by then. The answer is a text, like all that we ask for. */
static const char prolong[] = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'lost' end "
                              "redis.call('PEXPIRE', KEYS[1], ARGV[2]) return 'ours'";

static void
take_lease(void *user, size_t i, const redisReply *reply)
{
    enum gate_lease *lease = user;

    (void)i;
    if (reply->type == REDIS_REPLY_STRING)
        *lease = strcmp(reply->str, "ours") == 0 ? GATE_LEASE_OURS : GATE_LEASE_LOST;
}

enum gate_lease
gate_prolong(struct gate *gate, const char *prefix, const struct gate_question *question)
{
    int64_t deadline = clock_mono_ms() + gate->timeout_ms;
    enum gate_lease lease = GATE_LEASE_UNKNOWN;
    struct hearing hearing = { .take = take_lease, .user = &lease };
    const char *name = name_of(gate, prefix, question);
    const struct saga_bytes argv[] = { TEXT("EVAL"), TEXT(prolong),    TEXT("1"),
                                       TEXT(name),   TEXT(gate->busy), TEXT(gate->lease) };

    if (!get_ready(gate, deadline))
        return GATE_LEASE_UNKNOWN;
    gate->commands.len = 0;
    add_command(gate, 6, argv);
    if (!send_commands(gate, 1, deadline) || !receive(gate, &hearing, deadline))
        return GATE_LEASE_UNKNOWN;
    if (hearing.error[0] != '\0')
        failed(gate, hearing.error);
    else
        worked(gate);
    return lease;
}

void
gate_done(struct gate *gate, const char *prefix, const struct gate_question *questions, size_t n)
{
    int64_t deadline = clock_mono_ms() + gate->timeout_ms;
    char done[5 + GATE_HASH_LEN + 1];

    if (n == 0 || !get_ready(gate, deadline))
        return;
    gate->commands.len = 0;
    for (size_t i = 0; i < n; i++) {
        const char *name = name_of(gate, prefix, &questions[i]);
        int len = snprintf(done, sizeof done, "done:%s", questions[i].hash);
        const struct saga_bytes argv[] = {
            TEXT("SET"), TEXT(name), { done, (size_t)len }, TEXT("PX"), TEXT(gate->window)
        };

        add_command(gate, 5, argv);
    }
    send_commands(gate, n, deadline);
}

void
gate_settle(struct gate *gate)
{
    if (gate->wire.owed > 0)
        (void)get_ready(gate, clock_mono_ms() + gate->timeout_ms);
}
