/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The names on the wire between an orchestrator and its participants, as
 * docs/protocol.md defines them. Owns the words and nothing else: command.c
 * and reply.c read and write the messages, the store enqueues commands.
 */
#ifndef SAGA_WIRE_H
#define SAGA_WIRE_H

/* Headers of a command. message-id is not among them: the relay adds it. */
#define WIRE_SAGA_ID         "saga-id"
#define WIRE_SAGA_DEFINITION "saga-definition"
#define WIRE_SAGA_STEP       "saga-step"
#define WIRE_SAGA_ACTION     "saga-action"  /* run or compensate */
#define WIRE_SAGA_ATTEMPT    "saga-attempt" /* 1, 2, ... */
#define WIRE_SAGA_REPLY_TO   "saga-reply-to"
#define WIRE_TRACEPARENT     "traceparent" /* optional */

/* A reply has saga-id, saga-step, saga-action, traceparent, and these. */
#define WIRE_SAGA_OUTCOME "saga-outcome" /* done or refused */
#define WIRE_SAGA_REASON  "saga-reason"  /* with refused always, with done rarely */

#define WIRE_RUN        "run"
#define WIRE_COMPENSATE "compensate"
#define WIRE_DONE       "done"
#define WIRE_REFUSED    "refused"

/* The topic of the replies where a definition names none: "<name>.replies". */
#define WIRE_REPLY_SUFFIX ".replies"

#endif
