/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The words on the wire between an orchestrator and its participants, as
 * docs/protocol.md defines them, and reading them.
 *
 * Owns names, and what a well-formed command and reply are. Does nothing with
 * them: that is command.c and reply.c; the store writes commands.
 */
#ifndef SAGA_WIRE_H
#define SAGA_WIRE_H

#include "idempotency/barrier_judge.h"

#include <saga/saga.h>
#include <stdbool.h>

/* Headers of a command. message-id is not among them: the relay adds it. */
#define WIRE_SAGA_ID         "saga-id"
#define WIRE_SAGA_DEFINITION "saga-definition"
#define WIRE_SAGA_STEP       "saga-step"
#define WIRE_SAGA_ACTION     "saga-action"  /* run or compensate */
#define WIRE_SAGA_ATTEMPT    "saga-attempt" /* 1, 2, ... */
#define WIRE_SAGA_REPLY_TO   "saga-reply-to"
#define WIRE_TRACEPARENT     "traceparent" /* optional */

/* A reply has saga-id, saga-step, saga-action, traceparent, and these. */
#define WIRE_SAGA_OUTCOME "saga-outcome" /* done, refused or unknown */
#define WIRE_SAGA_REASON  "saga-reason"  /* with done rarely, else always */

#define WIRE_RUN        "run"
#define WIRE_COMPENSATE "compensate"
#define WIRE_DONE       "done"
#define WIRE_REFUSED    "refused"
#define WIRE_UNKNOWN    "unknown"

/* The topic of the replies where a definition names none: "<name>.replies". */
#define WIRE_REPLY_SUFFIX ".replies"

/* Texts are borrowed from the record's headers. */
struct wire_command {
    struct saga_uuid saga_id;
    const char *definition, *step, *reply_to;
    const char *traceparent; /* may be NULL */
    enum barrier_action action;
    int32_t attempt;
};

struct wire_reply {
    struct saga_uuid saga_id;
    const char *step;
    enum barrier_action action;
    bool refused;
    bool unknown;       /* the participant has forgotten what it answered */
    const char *reason; /* may be NULL with done */
    const char *traceparent;
};

/* Whether the server has looked at a payload and never will like it: no JSON
 * object (class 22), or nested too deep, or too large to be held (class 54). */
bool wire_payload_refused(const struct saga_error *error);

/* saga-id/message-id/action/step/consumer: what answers a command later. Taken
 * apart by the SQL function idempotency.reply(). */
void wire_token(char token[SAGA_TOKEN_MAX + 1], const struct wire_command *command,
                const struct saga_uuid *message_id, const char *consumer);

/* 0, or SAGA_EINVAL with the header that is missing or wrong. */
int wire_read_command(struct wire_command *command, const struct saga_record *record,
                      struct saga_error *err);
int wire_read_reply(struct wire_reply *reply, const struct saga_record *record,
                    struct saga_error *err);

#endif
