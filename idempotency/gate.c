/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gate's circuit, and one round trip through it.
 *
 * Owns when to ask at all: a Redis that has failed, or was too slow, is left
 * alone for a while, so that it costs nothing for each message. What is asked is
 * in gate_questions.c.
 */
#include "idempotency/gate_state.h"

#include "base/backoff.h"
#include "base/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RETRY_FIRST_MS = 100, RETRY_LONGEST_MS = 10000 };
enum { OUTAGE_LOG_MS = 10000, LASTING_LOG_MS = 60000 };

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
    gate->without = options->without;
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
    log_event(gate->log, SAGA_LOG_WARNING, gate->without, LOG_TEXT("redis", gate->address.host),
              LOG_INT("port", gate->address.port), LOG_TEXT("said", said),
              LOG_INT("unlogged_outages", gate->unlogged - is_counted));
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

static void
hear(void *user, size_t i, const struct wire_answer *answer)
{
    struct hearing *hearing = user;

    if (answer->type == REDIS_REPLY_ERROR) {
        snprintf(hearing->error, sizeof hearing->error, "%.*s", (int)answer->len, answer->text);
        hearing->too_new = strncmp(hearing->error, "ERR syntax", 10) == 0;
    }
    if (hearing->take != NULL)
        hearing->take(hearing->user, i, answer);
}

static bool
receive(struct gate *gate, struct hearing *hearing, int64_t deadline_ms)
{
    hearing->error[0] = '\0';
    if (!wire_receive(&gate->wire, hear, hearing, deadline_ms)) {
        failed(gate, "no usable answer in time");
        return false;
    }
    return true;
}

bool
gate_ready(struct gate *gate, int64_t deadline_ms)
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

bool
gate_send(struct gate *gate, size_t n, size_t elements, int64_t deadline_ms)
{
    bool sent = wire_send(&gate->wire, &gate->commands, n, elements, deadline_ms);

    if (!sent)
        failed(gate, "the connection is lost");
    return sent;
}

bool
gate_receive(struct gate *gate, struct hearing *hearing, int64_t deadline_ms)
{
    if (!receive(gate, hearing, deadline_ms))
        return false;
    if (hearing->error[0] != '\0' && !hearing->too_new)
        failed(gate, hearing->error);
    else
        worked(gate);
    return true;
}
