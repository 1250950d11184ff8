/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading commands and replies: what is well-formed, and what each fault is
 * called. The examples are those of docs/protocol.md.
 */
#include "saga/wire.h"
#include "test/support/run.h"

#include <string.h>

static struct saga_error err;

#define SAGA_ID                                                                                    \
    {                                                                                              \
        "saga-id", "019a5b2e-7c00-7a10-8000-0000000000aa"                                          \
    }
#define TRACE                                                                                      \
    {                                                                                              \
        "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"                   \
    }
#define REPLY_TO                                                                                   \
    {                                                                                              \
        "saga-reply-to", "order.replies"                                                           \
    }

static int
read_command(struct wire_command *command, const struct saga_pair *headers)
{
    const struct saga_record record = { .headers = headers };

    return wire_read_command(command, &record, &err);
}

static int
read_reply(struct wire_reply *reply, const struct saga_pair *headers)
{
    const struct saga_record record = { .headers = headers };

    return wire_read_reply(reply, &record, &err);
}

START_TEST(test_wire_command_is_read)
{
    struct wire_command command;

    ck_assert_int_eq(
        read_command(&command, SAGA_PAIRS(SAGA_ID, { "saga-definition", "order" },
                                          { "saga-step", "reserve" }, { "saga-action", "run" },
                                          { "saga-attempt", "3" }, REPLY_TO, TRACE)),
        0);
    ck_assert_uint_eq(command.saga_id.bytes[0], 0x01);
    ck_assert_uint_eq(command.saga_id.bytes[15], 0xAA);
    ck_assert_str_eq(command.definition, "order");
    ck_assert_str_eq(command.step, "reserve");
    ck_assert_int_eq(command.action, BARRIER_RUN);
    ck_assert_int_eq(command.attempt, 3);
    ck_assert_str_eq(command.reply_to, "order.replies");
    ck_assert_int_eq(strncmp(command.traceparent, "00-0af7", 7), 0);
}
END_TEST

START_TEST(test_wire_command_needs_no_attempt_and_no_trace)
{
    struct wire_command command;

    ck_assert_int_eq(read_command(&command, SAGA_PAIRS(SAGA_ID, { "saga-definition", "order" },
                                                       { "saga-step", "reserve" },
                                                       { "saga-action", "compensate" }, REPLY_TO,
                                                       { "x-unknown", "kept by nobody" })),
                     0);
    ck_assert_int_eq(command.action, BARRIER_COMPENSATE);
    ck_assert_int_eq(command.attempt, 1);
    ck_assert_ptr_null(command.traceparent);
}
END_TEST

START_TEST(test_wire_attempt_is_a_number_whatever_comes)
{
    static const struct {
        const char *text;
        int32_t attempt;
    } attempts[] = {
        { "2", 2 }, { "0", 1 }, { "-5", 1 }, { "many", 1 }, { "99999999999999999999", INT32_MAX },
    };

    for (size_t i = 0; i < sizeof attempts / sizeof *attempts; i++) {
        struct wire_command command;

        ck_assert_int_eq(
            read_command(&command, SAGA_PAIRS(SAGA_ID, { "saga-definition", "order" },
                                              { "saga-step", "reserve" }, { "saga-action", "run" },
                                              REPLY_TO, { "saga-attempt", attempts[i].text })),
            0);
        ck_assert_int_eq(command.attempt, attempts[i].attempt);
    }
}
END_TEST

START_TEST(test_wire_repeated_header_counts_the_last)
{
    struct wire_command command;

    ck_assert_int_eq(
        read_command(&command,
                     SAGA_PAIRS(SAGA_ID, { "saga-definition", "order" }, { "saga-step", "old" },
                                { "saga-action", "run" }, REPLY_TO, { "saga-step", "new" })),
        0);
    ck_assert_str_eq(command.step, "new");
}
END_TEST

START_TEST(test_wire_malformed_command_names_the_header)
{
    static const struct saga_pair all[] = { SAGA_ID,
                                            { "saga-definition", "order" },
                                            { "saga-step", "reserve" },
                                            { "saga-action", "run" },
                                            REPLY_TO,
                                            { NULL, NULL } };
    static const char *const wrong[][2] = {
        { "saga-id", NULL },
        { "saga-id", "42" },
        { "saga-definition", "" },
        { "saga-step", NULL },
        { "saga-step", "" },
        { "saga-action", NULL },
        { "saga-action", "do" },
        { "saga-action", "running" },
        { "saga-reply-to", "" },
        { "saga-reply-to", ".." },
        { "saga-reply-to", "a topic" },
    };

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct wire_command command = { .attempt = 42 };
        struct saga_pair headers[sizeof all / sizeof *all];

        memcpy(headers, all, sizeof all);
        for (struct saga_pair *p = headers; p->name != NULL; p++)
            if (strcmp(p->name, wrong[i][0]) == 0)
                p->value = wrong[i][1];
        ck_assert_int_eq(read_command(&command, headers), SAGA_EINVAL);
        ck_assert_msg(strstr(err.message, wrong[i][0]) != NULL, "%s", err.message);
        ck_assert_int_eq(command.attempt, 42);
    }
    ck_assert_int_eq(read_command(&(struct wire_command){ 0 }, NULL), SAGA_EINVAL);
}
END_TEST

START_TEST(test_wire_reply_is_read)
{
    struct wire_reply reply;

    ck_assert_int_eq(
        read_reply(&reply, SAGA_PAIRS(SAGA_ID, { "saga-step", "charge" }, { "saga-action", "run" },
                                      { "saga-outcome", "refused" },
                                      { "saga-reason", "card declined" }, TRACE)),
        0);
    ck_assert_str_eq(reply.step, "charge");
    ck_assert_int_eq(reply.action, BARRIER_RUN);
    ck_assert(reply.refused);
    ck_assert_str_eq(reply.reason, "card declined");
}
END_TEST

START_TEST(test_wire_reply_of_a_compensation_is_never_refused)
{
    struct wire_reply reply;

    ck_assert_int_eq(read_reply(&reply, SAGA_PAIRS(SAGA_ID, { "saga-step", "charge" },
                                                   { "saga-action", "compensate" },
                                                   { "saga-outcome", "refused" })),
                     SAGA_EINVAL);
    ck_assert_int_eq(
        read_reply(&reply, SAGA_PAIRS(SAGA_ID, { "saga-step", "charge" }, { "saga-action", "run" },
                                      { "saga-outcome", "retry" })),
        SAGA_EINVAL);
    ck_assert_int_eq(
        read_reply(&reply, SAGA_PAIRS(SAGA_ID, { "saga-step", "charge" }, { "saga-action", "run" },
                                      { "saga-outcome", "refused" })),
        0);
    ck_assert_ptr_nonnull(reply.reason);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "saga/wire",
        .tests = TESTS(test_wire_command_is_read, test_wire_command_needs_no_attempt_and_no_trace,
                       test_wire_attempt_is_a_number_whatever_comes,
                       test_wire_repeated_header_counts_the_last,
                       test_wire_malformed_command_names_the_header, test_wire_reply_is_read,
                       test_wire_reply_of_a_compensation_is_never_refused) });
}
