/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules of a definition, each with its message, and the digest.
 */
#include "saga/definition.h"
#include "test/support/run.h"

#include <string.h>

static int
fn(struct saga_ctx *ctx, void *user)
{
    (void)ctx;
    (void)user;
    return 0;
}

#define C(name)                                                                                    \
    {                                                                                              \
        (name), SAGA_COMPENSATABLE, .run = fn, .compensate = fn                                    \
    }
#define P(name)                                                                                    \
    {                                                                                              \
        (name), SAGA_PIVOT, .run = fn                                                              \
    }
#define R(name)                                                                                    \
    {                                                                                              \
        (name), SAGA_RETRIABLE, .run = fn                                                          \
    }

static const char long_name[] =
    "a23456789012345678901234567890123456789012345678901234567890123456";

static const struct {
    const char *rule;
    struct saga_step steps[4];
    const char *message; /* NULL: valid */
    uint32_t index;
} rules[] = {
    { "all kinds in order", { C("a"), P("b"), R("c"), R("d") }, NULL },
    { "compensatable steps only", { C("a"), C("b") }, NULL },
    { "a pivot alone", { P("a") }, NULL },
    { "no pivot at all", { C("a"), R("b") }, NULL },
    { "a command needs no functions", { { "a", .command_topic = "t.commands" }, P("b") }, NULL },
    { "compensatable after a pivot", { P("a"), C("b") }, "cannot come after a pivot", 1 },
    { "compensatable after a retriable", { R("a"), C("b") }, "cannot come after a pivot", 1 },
    { "two pivots", { C("a"), P("b"), P("c") }, "there is a pivot already", 2 },
    { "pivot after a retriable", { R("a"), P("b") }, "cannot come after a retriable", 1 },
    { "the same name twice", { C("a"), C("b"), C("a") }, "another step has the same name", 2 },
    { "nothing to undo it with", { C("a"), { "b", .run = fn } }, "needs a `compensate`", 1 },
    { "nothing to run", { C("a"), { "b", .compensate = fn } }, "needs a `run`", 1 },
    { "a pivot's compensate",
      { { "a", SAGA_PIVOT, .run = fn, .compensate = fn } },
      "never be called" },
    { "both ways", { { "a", .command_topic = "t", .run = fn } }, "not both" },
    { "a topic that is none",
      { { "a", .command_topic = "no topic" } },
      "no name of a Kafka topic" },
    { "a topic of dots", { { "a", .command_topic = ".." } }, "no name of a Kafka topic" },
    { "a bad name", { C("re serve") }, "a name has" },
    { "an empty name", { C("") }, "a name has" },
    { "a long name", { C(long_name) }, "a name has" },
    { "an unknown kind", { { "a", 7, .run = fn } }, "its kind is none of" },
    { "negative attempts",
      { { "a", .run = fn, .compensate = fn, .attempts_max = -1 } },
      "negative" },
    { "a field of the future",
      { { "a", .reserved = 1, .run = fn, .compensate = fn } },
      "reserved" },
};

static struct saga_definition
table_of(const struct saga_step *steps)
{
    struct saga_definition table = {
        .size = sizeof table, .step_size = sizeof *steps, .name = "order", .steps = steps
    };

    for (; table.n_steps < 4 && steps[table.n_steps].name != NULL;)
        table.n_steps++;
    return table;
}

START_TEST(test_definition_rules_name_the_step_and_the_rule)
{
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        struct saga_definition table = table_of(rules[i].steps);
        struct definition definition;
        struct saga_error err = { 0 };
        int rc = definition_read(&definition, &table, DEFINITION_OF_SAGA, &err);

        if (rules[i].message == NULL) {
            ck_assert_msg(rc == 0, "%s: %s", rules[i].rule, err.message);
            continue;
        }
        ck_assert_msg(rc == SAGA_EINVAL, "%s: %d", rules[i].rule, rc);
        ck_assert_msg(strstr(err.message, rules[i].message) != NULL, "%s: %s", rules[i].rule,
                      err.message);
        ck_assert_msg(err.index == rules[i].index, "%s: step %u", rules[i].rule, err.index);
    }
}
END_TEST

START_TEST(test_definition_of_commands_has_no_order)
{
    static const struct saga_step steps[4] = { P("charge"), C("reserve"), { "look", .run = fn } };
    struct saga_definition table = table_of(steps);
    struct definition definition;

    ck_assert_int_eq(definition_read(&definition, &table, DEFINITION_OF_COMMANDS, NULL), 0);
}
END_TEST

static int
read_it(struct saga_definition table, struct saga_error *err)
{
    struct definition definition;

    return definition_read(&definition, &table, DEFINITION_OF_SAGA, err);
}

START_TEST(test_definition_of_a_wrong_shape_is_refused)
{
    static const struct saga_step steps[4] = { C("a") };
    struct saga_definition table = table_of(steps);
    struct saga_error err;

    table.size += 8;
    ck_assert_int_eq(read_it(table, &err), SAGA_EINVAL);
    table = table_of(steps);
    table.step_size = 8;
    ck_assert_int_eq(read_it(table, &err), SAGA_EINVAL);
    table = table_of(steps);
    table.n_steps = 0;
    ck_assert_int_eq(read_it(table, &err), SAGA_EINVAL);
    table.n_steps = SAGA_STEPS_MAX + 1;
    ck_assert_int_eq(read_it(table, &err), SAGA_EINVAL);
    table = table_of(steps);
    table.name = "no spaces";
    ck_assert_int_eq(read_it(table, &err), SAGA_EINVAL);
    table = table_of(steps);
    table.deadline_ms = -1;
    ck_assert_int_eq(read_it(table, &err), SAGA_EINVAL);
    table = table_of(steps);
    table.reply_topic = "a b";
    ck_assert_int_eq(read_it(table, &err), SAGA_EINVAL);
    ck_assert_int_eq(definition_read(&(struct definition){ 0 }, NULL, DEFINITION_OF_SAGA, &err),
                     SAGA_EINVAL);
}
END_TEST

/* Beyond any date that the machine or PostgreSQL can count to. */
START_TEST(test_definition_whose_times_never_end_is_refused)
{
    const struct saga_step steps[] = { { "a", .run = fn, .compensate = fn }, { 0 } };
    const int64_t century_ms = INT64_C(100) * 36525 / 100 * 24 * 3600 * 1000;
    struct saga_definition table = table_of(steps);
    struct definition definition;
    struct saga_error err;

    table.deadline_ms = table.compensation_ms = century_ms;
    ck_assert_int_eq(definition_read(&definition, &table, DEFINITION_OF_SAGA, NULL), 0);
    table.compensation_ms = INT64_MAX;
    ck_assert_int_eq(definition_read(&definition, &table, DEFINITION_OF_SAGA, &err), SAGA_EINVAL);
    table.compensation_ms = 0;
    table.deadline_ms = century_ms + 1;
    ck_assert_int_eq(definition_read(&definition, &table, DEFINITION_OF_SAGA, &err), SAGA_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.message, "deadline_ms"));
}
END_TEST

START_TEST(test_definition_fills_in_defaults)
{
    static const struct saga_step steps[4] = { C("a") };
    struct saga_definition table = table_of(steps);
    struct definition definition;

    ck_assert_int_eq(definition_read(&definition, &table, DEFINITION_OF_SAGA, NULL), 0);
    ck_assert_str_eq(definition.reply_topic, "order.replies");
    ck_assert_int_eq(definition.steps[0].attempts_max, 5);
    ck_assert_int_eq(definition.steps[0].timeout_ms, 30000);
    ck_assert_int_eq(definition.compensation_ms, 3600000);
    ck_assert_int_eq(definition.deadline_ms, 0);
}
END_TEST

/* A program that was compiled when the structs were shorter. */
START_TEST(test_definition_of_an_older_header_is_read)
{
    struct old_step {
        const char *name;
        int32_t kind, reserved;
        const char *command_topic;
        saga_step_fn *run, *compensate;
    };
    static const struct old_step steps[] = { { "a", 0, 0, NULL, fn, fn },
                                             { "b", 1, 0, NULL, fn, NULL } };
    struct saga_definition table = { .size = offsetof(struct saga_definition, reply_topic),
                                     .step_size = sizeof *steps,
                                     .name = "order",
                                     .steps = (const struct saga_step *)steps,
                                     .n_steps = 2,
                                     .deadline_ms = 7 /* what it does not know of */ };
    struct definition definition;

    ck_assert_int_eq(definition_read(&definition, &table, DEFINITION_OF_SAGA, NULL), 0);
    ck_assert_str_eq(definition.steps[1].name, "b");
    ck_assert_int_eq(definition.steps[1].kind, SAGA_PIVOT);
    ck_assert_int_eq(definition.deadline_ms, 0);
}
END_TEST

static const char *
digest_of(const struct saga_step *steps)
{
    struct saga_definition table = table_of(steps);
    struct definition definition;

    ck_assert_int_eq(definition_read(&definition, &table, DEFINITION_OF_SAGA, NULL), 0);
    return text_of("%s", definition.digest);
}

/* trap: S8 */
START_TEST(test_definition_digest_is_of_names_kinds_and_order_s8)
{
    static const struct saga_step base[4] = { C("a"), C("b"), P("c") };
    static const struct saga_step moved[4] = { C("a"), { "b", .command_topic = "t" }, P("c") };
    static const struct saga_step other_topic[4] = { C("a"),
                                                     { "b", .command_topic = "u" },
                                                     P("c") };
    static const struct saga_step slower[4] = { C("a"),
                                                C("b"),
                                                { "c", SAGA_PIVOT, .run = fn, .attempts_max = 9 } };
    static const struct saga_step renamed[4] = { C("a"), C("x"), P("c") };
    static const struct saga_step reordered[4] = { C("b"), C("a"), P("c") };
    static const struct saga_step other_kind[4] = { C("a"), C("b"), R("c") };
    static const struct saga_step longer[4] = { C("a"), C("b"), P("c"), R("d") };

    ck_assert_str_ne(digest_of(moved),
                     digest_of(base)); /* what it has done, nobody here can undo */
    ck_assert_str_eq(digest_of(other_topic), digest_of(moved));
    ck_assert_str_eq(digest_of(slower), digest_of(base));
    ck_assert_str_ne(digest_of(renamed), digest_of(base));
    ck_assert_str_ne(digest_of(reordered), digest_of(base));
    ck_assert_str_ne(digest_of(other_kind), digest_of(base));
    ck_assert_str_ne(digest_of(longer), digest_of(base));
}
END_TEST

/* Made by another implementation, from "a compensatable\nb compensatable\nc pivot\n". */
START_TEST(test_definition_digest_is_the_same_everywhere)
{
    static const struct saga_step base[4] = { C("a"), C("b"), P("c") };

    ck_assert_str_eq(digest_of(base), "232565afd8fb41d717b7cb8a84eafd97");
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "saga/definition",
        .tests = TESTS(
            test_definition_rules_name_the_step_and_the_rule,
            test_definition_of_commands_has_no_order, test_definition_of_a_wrong_shape_is_refused,
            test_definition_whose_times_never_end_is_refused, test_definition_fills_in_defaults,
            test_definition_of_an_older_header_is_read,
            test_definition_digest_is_of_names_kinds_and_order_s8,
            test_definition_digest_is_the_same_everywhere) });
}
