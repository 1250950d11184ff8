/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading the headers of commands and replies.
 *
 * Headers that we do not know are no error, and neither is a value that is
 * only told to people (attempt): the other side may be newer, or not ours.
 */
#include "saga/wire.h"

#include "base/error.h"

#include <saga/outbox.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The last one counts, as in Kafka's own clients. NULL: not there, or empty. */
static const char *
find(const struct saga_pair *headers, const char *name)
{
    const char *value = NULL;

    for (; headers != NULL && headers->name != NULL; headers++)
        if (strcmp(headers->name, name) == 0)
            value = headers->value;
    return value != NULL && *value != '\0' ? value : NULL;
}

static int
need(const char **value, const struct saga_pair *headers, const char *name, struct saga_error *err)
{
    *value = find(headers, name);
    return *value != NULL ? 0 : error_set(err, SAGA_EINVAL, "no header %s", name);
}

static int
need_saga_id(struct saga_uuid *id, const struct saga_pair *headers, struct saga_error *err)
{
    const char *text;
    int rc = need(&text, headers, WIRE_SAGA_ID, err);

    if (rc == 0 && saga_uuid_parse(id, text, NULL) != 0)
        rc = error_set(err, SAGA_EINVAL, "header " WIRE_SAGA_ID " is no uuid: '%.60s'", text);
    return rc;
}

/* One of two words; `is_second` receives which. */
static int
need_word(bool *is_second, const struct saga_pair *headers, const char *name, const char *first,
          const char *second, struct saga_error *err)
{
    const char *text;
    int rc = need(&text, headers, name, err);

    if (rc != 0)
        return rc;
    *is_second = strcmp(text, second) == 0;
    if (!*is_second && strcmp(text, first) != 0)
        return error_set(err, SAGA_EINVAL, "header %s is neither %s nor %s: '%.60s'", name, first,
                         second, text);
    return 0;
}

static int
need_action(enum barrier_action *action, const struct saga_pair *headers, struct saga_error *err)
{
    bool compensate = false;
    int rc = need_word(&compensate, headers, WIRE_SAGA_ACTION, WIRE_RUN, WIRE_COMPENSATE, err);

    *action = compensate ? BARRIER_COMPENSATE : BARRIER_RUN;
    return rc;
}

/* What Kafka and the outbox take for a topic; a reply to any other could never
 * be sent. */
static int
need_topic(const char **topic, const struct saga_pair *headers, struct saga_error *err)
{
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    int rc = need(topic, headers, WIRE_SAGA_REPLY_TO, err);

    if (rc == 0 && (strspn(*topic, allowed) != strlen(*topic) || strlen(*topic) > SAGA_TOPIC_MAX ||
                    strcmp(*topic, ".") == 0 || strcmp(*topic, "..") == 0))
        rc = error_set(err, SAGA_EINVAL, "header " WIRE_SAGA_REPLY_TO " is no topic: '%.60s'",
                       *topic);
    return rc;
}

/* Handed on, never a reason to fail: one that is too long is nobody's. */
static const char *
find_trace(const struct saga_pair *headers)
{
    enum { TRACE_MAX = 255 };
    const char *trace = find(headers, WIRE_TRACEPARENT);

    return trace != NULL && strlen(trace) <= TRACE_MAX ? trace : NULL;
}

/* For people, so anything will do where it is missing or no number. */
static int32_t
read_attempt(const struct saga_pair *headers)
{
    const char *text = find(headers, WIRE_SAGA_ATTEMPT);
    long attempt = text != NULL ? strtol(text, NULL, 10) : 1;

    return attempt < 1 ? 1 : attempt > INT32_MAX ? INT32_MAX : (int32_t)attempt;
}

bool
wire_payload_refused(const struct saga_error *error)
{
    return strncmp(error->sqlstate, "22", 2) == 0 || strncmp(error->sqlstate, "54", 2) == 0;
}

int
wire_read_command(struct wire_command *command, const struct saga_record *record,
                  struct saga_error *err)
{
    const struct saga_pair *headers = record->headers;
    struct wire_command read = { .attempt = read_attempt(headers) };
    int rc;

    if ((rc = need_saga_id(&read.saga_id, headers, err)) != 0 ||
        (rc = need(&read.definition, headers, WIRE_SAGA_DEFINITION, err)) != 0 ||
        (rc = need(&read.step, headers, WIRE_SAGA_STEP, err)) != 0 ||
        (rc = need_action(&read.action, headers, err)) != 0 ||
        (rc = need_topic(&read.reply_to, headers, err)) != 0)
        return rc;
    read.traceparent = find_trace(headers);
    *command = read;
    return 0;
}

void
wire_token(char token[SAGA_TOKEN_MAX + 1], const struct wire_command *command,
           const struct saga_uuid *message_id, const char *consumer)
{
    char saga_id[37], message[37];

    saga_uuid_text(&command->saga_id, saga_id);
    saga_uuid_text(message_id, message);
    snprintf(token, SAGA_TOKEN_MAX + 1, "%s/%s/%s/%s/%s", saga_id, message,
             command->action == BARRIER_RUN ? WIRE_RUN : WIRE_COMPENSATE, command->step, consumer);
}

static int
need_outcome(struct wire_reply *reply, const struct saga_pair *headers, struct saga_error *err)
{
    const char *outcome = find(headers, WIRE_SAGA_OUTCOME);

    reply->unknown = outcome != NULL && strcmp(outcome, WIRE_UNKNOWN) == 0;
    if (reply->unknown)
        return 0;
    return need_word(&reply->refused, headers, WIRE_SAGA_OUTCOME, WIRE_DONE, WIRE_REFUSED, err);
}

int
wire_read_reply(struct wire_reply *reply, const struct saga_record *record, struct saga_error *err)
{
    const struct saga_pair *headers = record->headers;
    struct wire_reply read = { .reason = find(headers, WIRE_SAGA_REASON),
                               .traceparent = find_trace(headers) };
    int rc;

    if ((rc = need_saga_id(&read.saga_id, headers, err)) != 0 ||
        (rc = need(&read.step, headers, WIRE_SAGA_STEP, err)) != 0 ||
        (rc = need_action(&read.action, headers, err)) != 0 ||
        (rc = need_outcome(&read, headers, err)) != 0)
        return rc;
    if (read.refused && read.action == BARRIER_COMPENSATE)
        return error_set(err, SAGA_EINVAL, "a compensation cannot be refused, only retried");
    if (read.refused && read.reason == NULL)
        read.reason = "refused without a reason";
    *reply = read;
    return 0;
}
