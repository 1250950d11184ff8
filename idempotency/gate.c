/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gate in front of the database: asks Redis for marks and writes them.
 *
 * Owns when to ask at all: a Redis that has failed is left alone for a while,
 * so that a dead one costs nothing for each message.
 */
#include "idempotency/gate.h"

#include "base/backoff.h"
#include "base/clock.h"
#include "idempotency/gate_wire.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RETRY_FIRST_MS = 100, RETRY_LONGEST_MS = 10000, LOG_EVERY_MS = 60000 };

struct gate {
    struct gate_address address;
    struct wire wire;
    const struct saga_log *log;
    char token[GATE_TOKEN_LEN + 1];
    char lease[16], window[16]; /* milliseconds, as the command wants them */
    int32_t timeout_ms;
    bool no_set_get; /* older than Redis 7: SET cannot NX and GET at once */
    int32_t failures;
    int64_t retry_at_ms, log_at_ms;
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
    *made = gate;
    return 0;
}

void
gate_free(struct gate *gate)
{
    if (gate == NULL)
        return;
    wire_close(&gate->wire);
    free(gate);
}

/* --- whether to ask ------------------------------------------------------ */

static void
failed(struct gate *gate)
{
    int64_t now = clock_mono_ms();

    gate->failures++;
    gate->retry_at_ms =
        now + backoff_ms(RETRY_FIRST_MS, RETRY_LONGEST_MS, gate->failures, backoff_random());
    if (now < gate->log_at_ms)
        return;
    gate->log_at_ms = now + LOG_EVERY_MS;
    log_event(gate->log, SAGA_LOG_WARNING,
              "Redis does not answer; going on without it, the inbox recognises duplicates",
              LOG_TEXT("redis", gate->address.host), LOG_INT("port", gate->address.port));
}

/* One question, within what is left of its time. NULL: no usable answer. */
static redisReply *
ask(struct gate *gate, int argc, const char **argv, int64_t deadline_ms)
{
    redisReply *reply = NULL;

    if (clock_mono_ms() < gate->retry_at_ms)
        return NULL;
    if (gate->wire.fd >= 0 || wire_open(&gate->wire, &gate->address, deadline_ms))
        reply = wire_ask(&gate->wire, argc, argv, deadline_ms);
    if (reply == NULL) {
        failed(gate);
        return NULL;
    }
    if (gate->failures > 0)
        log_event(gate->log, SAGA_LOG_INFO, "Redis answers again");
    gate->failures = 0;
    return reply;
}

/* --- the questions --------------------------------------------------------- */

static redisReply *
ask_get(struct gate *gate, const char *name, int64_t deadline_ms)
{
    const char *argv[] = { "GET", name };

    return ask(gate, 2, argv, deadline_ms);
}

static redisReply *
ask_set(struct gate *gate, const char *name, const char *busy, int64_t deadline_ms)
{
    /* One command that looks, marks and sets the expiry: between two of them a
     * death would leave a mark that never expires. */
    const char *seven[] = { "SET", name, busy, "NX", "GET", "PX", gate->lease };
    const char *older[] = { "SET", name, busy, "NX", "PX", gate->lease };

    return gate->no_set_get ? ask(gate, 6, older, deadline_ms) : ask(gate, 7, seven, deadline_ms);
}

/* Before Redis 7: what is there, or else a mark of ours. */
static redisReply *
ask_older(struct gate *gate, const char *name, const char *busy, int64_t deadline_ms)
{
    redisReply *reply = ask_get(gate, name, deadline_ms);

    if (reply == NULL || reply->type != REDIS_REPLY_NIL)
        return reply;
    freeReplyObject(reply);
    reply = ask_set(gate, name, busy, deadline_ms);
    if (reply == NULL || reply->type != REDIS_REPLY_NIL)
        return reply; /* OK: the mark is ours */
    freeReplyObject(reply);
    return ask_get(gate, name, deadline_ms); /* somebody came in between */
}

static bool
is_syntax_error(const redisReply *reply)
{
    return reply != NULL && reply->type == REDIS_REPLY_ERROR &&
           strncmp(reply->str, "ERR syntax", 10) == 0;
}

enum gate_verdict
gate_enter(struct gate *gate, const char *name, const char *hash)
{
    int64_t deadline = clock_mono_ms() + gate->timeout_ms;
    enum gate_verdict verdict = GATE_GO;
    char busy[5 + GATE_TOKEN_LEN + 1];
    redisReply *reply = NULL;

    snprintf(busy, sizeof busy, "busy:%s", gate->token);
    if (!gate->no_set_get)
        reply = ask_set(gate, name, busy, deadline);
    if (is_syntax_error(reply)) {
        freeReplyObject(reply);
        reply = NULL;
        gate->no_set_get = true;
    }
    if (gate->no_set_get)
        reply = ask_older(gate, name, busy, deadline);
    if (reply == NULL)
        return GATE_GO;
    if (reply->type == REDIS_REPLY_STRING)
        verdict = gate_decide(reply->str, (size_t)reply->len, gate->token, hash);
    freeReplyObject(reply);
    return verdict;
}

void
gate_done(struct gate *gate, const char *name, const char *hash)
{
    int64_t deadline = clock_mono_ms() + gate->timeout_ms;
    char done[5 + GATE_HASH_LEN + 1];
    const char *argv[] = { "SET", name, done, "PX", gate->window };

    snprintf(done, sizeof done, "done:%s", hash);
    freeReplyObject(ask(gate, 5, argv, deadline));
}
