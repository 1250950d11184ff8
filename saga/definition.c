/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checking a definition, filling in its defaults, and its digest.
 */
#include "saga/definition.h"

#include "saga/wire.h"

#include <stdio.h>
#include <string.h>

enum {
    ATTEMPTS_MAX = 5,
    ATTEMPTS_MAX_RETRIABLE = 100, /* most of an hour, with the default delays */
    FIRST_DELAY_MS = 200,
    LONGEST_DELAY_MS = 30000,
    TIMEOUT_MS = 30000,
    COMPENSATION_MS = 3600000,
    TOPIC_MAX = 249 /* Kafka's limit */
};

/* A hundred years: far from where the machine's and PostgreSQL's times end. */
static const int64_t TIME_MAX_MS = INT64_C(36525) * 24 * 3600 * 1000;

const char *
definition_kind_name(int32_t kind)
{
    static const char *const names[] = { "compensatable", "pivot", "retriable" };

    return kind >= SAGA_COMPENSATABLE && kind <= SAGA_RETRIABLE ? names[kind] : "?";
}

const char *
definition_step_kind(const struct saga_step *step)
{
    static const char *const commands[] = { "compensatable command", "pivot command",
                                            "retriable command" };

    if (step->command_topic == NULL || step->kind < SAGA_COMPENSATABLE ||
        step->kind > SAGA_RETRIABLE)
        return definition_kind_name(step->kind);
    return commands[step->kind];
}

static bool
topic_like(const char *text, size_t longest)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                  "0123456789._-";
    size_t len = text != NULL ? strlen(text) : 0;

    /* "." and ".." are no topics. */
    return len > 0 && len <= longest && strspn(text, allowed) == len && strspn(text, ".") != len;
}

bool
definition_name_valid(const char *name)
{
    return topic_like(name, SAGA_NAME_MAX);
}

int
definition_find(const struct definition *definition, const char *step)
{
    for (size_t i = 0; i < definition->n_steps; i++)
        if (strcmp(definition->steps[i].name, step) == 0)
            return (int)i;
    return -1;
}

/* --- the digest ------------------------------------------------------------ */

/* FNV-1a with 128 bits: short to write in any language, and nobody has an
 * interest in a collision. */
static unsigned __int128
fnv1a(unsigned __int128 hash, const char *text)
{
    const unsigned __int128 prime = ((unsigned __int128)1 << 88) + 0x13B;

    for (; *text != '\0'; text++)
        hash = (hash ^ (unsigned char)*text) * prime;
    return hash;
}

/* Over "name kind\n" of each step, in order: what may not change under a
 * running saga. Topics, delays and functions may. Whether a participant does
 * the step may not: what one has done the other would not undo. */
static void
digest(struct definition *definition)
{
    unsigned __int128 hash = ((unsigned __int128)0x6C62272E07BB0142 << 64) | 0x62B821756295C58D;

    for (size_t i = 0; i < definition->n_steps; i++) {
        hash = fnv1a(hash, definition->steps[i].name);
        hash = fnv1a(hash, " ");
        hash = fnv1a(hash, definition_step_kind(&definition->steps[i]));
        hash = fnv1a(hash, "\n");
    }
    snprintf(definition->digest, sizeof definition->digest, "%016llx%016llx",
             (unsigned long long)(hash >> 64), (unsigned long long)hash);
}

/* --- the rules ------------------------------------------------------------- */

/* The rule that the step breaks by itself, or NULL. */
static const char *
own_rule(const struct saga_step *step, enum definition_role role)
{
    if (!definition_name_valid(step->name))
        return "a name has 1 to 64 characters of A-Z a-z 0-9 . _ -, not only dots";
    if (step->kind < SAGA_COMPENSATABLE || step->kind > SAGA_RETRIABLE)
        return "its kind is none of SAGA_COMPENSATABLE, SAGA_PIVOT, SAGA_RETRIABLE";
    if (step->reserved != 0)
        return "`reserved` must be 0";
    if (step->attempts_max < 0 || step->first_delay_ms < 0 || step->longest_delay_ms < 0 ||
        step->timeout_ms < 0)
        return "attempts, delays and timeout must not be negative";
    if (role == DEFINITION_OF_COMMANDS) {
        if (step->command_topic != NULL)
            return "a participant does it itself: leave command_topic out";
        return step->run != NULL ? NULL : "it needs a `run`";
    }
    if (step->command_topic != NULL) {
        if (!topic_like(step->command_topic, TOPIC_MAX))
            return "command_topic is no name of a Kafka topic";
        return step->run == NULL && step->compensate == NULL
                   ? NULL
                   : "its participant has the functions: set command_topic or `run`, not both";
    }
    if (step->run == NULL)
        return "it needs a `run`, or a command_topic";
    if (step->kind == SAGA_COMPENSATABLE && step->compensate == NULL)
        return "it is compensatable and needs a `compensate`";
    if (step->kind != SAGA_COMPENSATABLE && step->compensate != NULL)
        return "it is never undone, so its `compensate` would never be called; "
               "leave that out, or make it compensatable";
    return NULL;
}

/* The rule that the step breaks by its place behind `before`, or NULL. */
static const char *
rule_of_order(int32_t before, int32_t kind)
{
    if (kind > before || (kind == before && kind != SAGA_PIVOT))
        return NULL;
    if (kind == SAGA_COMPENSATABLE)
        return "a compensatable step cannot come after a pivot or a retriable step: what came "
               "before it could not be undone any more";
    if (before == SAGA_PIVOT)
        return "there is a pivot already; a saga has one point of no return";
    return "a pivot cannot come after a retriable step, which is never undone";
}

static int
broken(struct saga_error *err, const struct definition *definition, size_t i, const char *rule)
{
    const char *name = definition->steps[i].name;

    error_set(err, SAGA_EINVAL, "definition \"%.64s\", step %zu (\"%.64s\"): %s", definition->name,
              i + 1, name != NULL ? name : "", rule);
    if (err != NULL)
        err->index = (uint32_t)i;
    return SAGA_EINVAL;
}

static int
check_steps(const struct definition *definition, enum definition_role role, struct saga_error *err)
{
    int32_t before = SAGA_COMPENSATABLE;

    for (size_t i = 0; i < definition->n_steps; i++) {
        const struct saga_step *step = &definition->steps[i];
        const char *rule = own_rule(step, role);

        if (rule == NULL && definition_find(definition, step->name) != (int)i)
            rule = "another step has the same name";
        if (rule == NULL && role == DEFINITION_OF_SAGA)
            rule = rule_of_order(before, step->kind);
        if (rule != NULL)
            return broken(err, definition, i, rule);
        before = step->kind;
    }
    return 0;
}

/* --- reading it ------------------------------------------------------------ */

static int
check_shape(const struct saga_definition *given, struct saga_error *err)
{
    if (given == NULL)
        return error_set(err, SAGA_EINVAL, "no definition: it is NULL");
    if (given->size < offsetof(struct saga_definition, reply_topic) ||
        given->size > sizeof *given ||
        given->step_size < offsetof(struct saga_step, attempts_max) ||
        given->step_size > sizeof(struct saga_step))
        return error_set(err, SAGA_EINVAL,
                         "the definition's sizes are wrong: use SAGA_DEFINITION, and a library "
                         "that is not older than its headers");
    if (!definition_name_valid(given->name))
        return error_set(err, SAGA_EINVAL,
                         "a definition's name has 1 to %d characters of A-Z a-z 0-9 . _ -, not "
                         "only dots: \"%.80s\"",
                         SAGA_NAME_MAX, given->name != NULL ? given->name : "");
    if (given->steps == NULL || given->n_steps == 0 || given->n_steps > SAGA_STEPS_MAX)
        return error_set(err, SAGA_EINVAL, "definition \"%s\" has %zu steps; 1 to %d are possible",
                         given->name, given->n_steps, SAGA_STEPS_MAX);
    return 0;
}

static int32_t
or_default(int32_t value, int32_t fallback)
{
    return value == 0 ? fallback : value;
}

static void
fill_in(struct saga_step *step)
{
    step->attempts_max = or_default(
        step->attempts_max, step->kind == SAGA_RETRIABLE ? ATTEMPTS_MAX_RETRIABLE : ATTEMPTS_MAX);
    step->first_delay_ms = or_default(step->first_delay_ms, FIRST_DELAY_MS);
    step->longest_delay_ms = or_default(step->longest_delay_ms, LONGEST_DELAY_MS);
    step->timeout_ms = or_default(step->timeout_ms, TIMEOUT_MS);
}

static int
read_topic_and_times(struct definition *into, const struct saga_definition *given,
                     struct saga_error *err)
{
    if (given->reply_topic != NULL && !topic_like(given->reply_topic, TOPIC_MAX))
        return error_set(err, SAGA_EINVAL,
                         "definition \"%s\": reply_topic is no name of a Kafka topic", given->name);
    if (given->deadline_ms < 0 || given->deadline_ms > TIME_MAX_MS || given->compensation_ms < 0 ||
        given->compensation_ms > TIME_MAX_MS)
        return error_set(err, SAGA_EINVAL,
                         "definition \"%s\": deadline_ms and compensation_ms must be from 0 to a "
                         "hundred years",
                         given->name);
    if (given->reply_topic != NULL)
        snprintf(into->reply_topic, sizeof into->reply_topic, "%s", given->reply_topic);
    else
        snprintf(into->reply_topic, sizeof into->reply_topic, "%s" WIRE_REPLY_SUFFIX, given->name);
    into->deadline_ms = given->deadline_ms;
    into->compensation_ms = given->compensation_ms != 0 ? given->compensation_ms : COMPENSATION_MS;
    return 0;
}

int
definition_read(struct definition *into, const struct saga_definition *given,
                enum definition_role role, struct saga_error *err)
{
    struct saga_definition whole = { 0 };
    int rc = check_shape(given, err);

    if (rc != 0)
        return rc;
    memcpy(&whole, given, given->size);
    *into = (struct definition){ .name = whole.name, .n_steps = whole.n_steps };
    for (size_t i = 0; i < whole.n_steps; i++)
        memcpy(&into->steps[i], (const char *)whole.steps + i * whole.step_size, whole.step_size);
    if ((rc = read_topic_and_times(into, &whole, err)) != 0 ||
        (rc = check_steps(into, role, err)) != 0)
        return rc;
    for (size_t i = 0; i < into->n_steps; i++)
        fill_in(&into->steps[i]);
    digest(into);
    return 0;
}
