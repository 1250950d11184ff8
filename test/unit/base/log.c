/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log events: what reaches the callback, and the line that programs print.
 */
#include "base/log.h"
#include "test/support/run.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void
keep(void *user, int32_t level, const char *message, const struct saga_pair *fields)
{
    char *text = user;

    text += sprintf(text, "%d %s", level, message);
    for (; fields->name != NULL; fields++)
        text += sprintf(text, " %s=%s", fields->name, fields->value);
}

START_TEST(test_log_event_reaches_the_callback_with_its_fields)
{
    char seen[200] = "";
    struct saga_log log = { .write = keep, .user = seen };

    log_event(&log, SAGA_LOG_INFO, "took the stream", LOG_TEXT("stream", "0"), LOG_INT("epoch", -7),
              LOG_TEXT("owner", NULL));
    ck_assert_str_eq(seen, "1 took the stream stream=0 epoch=-7 owner=");
}
END_TEST

START_TEST(test_log_event_below_the_level_is_not_made)
{
    char seen[200] = "";
    struct saga_log log = { .write = keep, .user = seen, .level = SAGA_LOG_WARNING };

    log_event(&log, SAGA_LOG_INFO, "quiet", LOG_INT("n", 1));
    log_event(NULL, SAGA_LOG_ERROR, "nowhere", LOG_INT("n", 1));
    ck_assert_str_eq(seen, "");
}
END_TEST

START_TEST(test_log_line_quotes_what_would_split_it)
{
    static const struct saga_pair fields[] = {
        { "plain", "1" }, { "empty", "" }, { "odd", "say \"a\\b\"\nnext" }, { NULL, NULL }
    };
    char line[400] = "";
    int ends[2], saved = dup(STDERR_FILENO);

    ck_assert_int_eq(pipe(ends), 0);
    dup2(ends[1], STDERR_FILENO);
    log_to_stderr((char[]){ "relay" }, SAGA_LOG_WARNING, "lost it", fields);
    dup2(saved, STDERR_FILENO);
    ck_assert_int_gt(read(ends[0], line, sizeof line - 1), 0);
    ck_assert_msg(strstr(line, "Z level=warning name=relay event=\"lost it\" plain=1 "
                               "odd=\"say \\\"a\\\\b\\\" next\"\n") != NULL,
                  "line: %s", line);
}
END_TEST

/* However long it is, and whatever is in it. */
START_TEST(test_log_line_in_json_is_json)
{
    char big[5000];
    const struct saga_pair fields[] = { { "odd", "say \"a\\b\"\n\x7f\x01" },
                                        { "utf8", "\xc3\xa4" },
                                        { "broken", "\xff!" },
                                        { "empty", "" },
                                        { "big", big },
                                        { NULL, NULL } };
    char line[8000] = "";
    int ends[2], saved = dup(STDERR_FILENO);

    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    ck_assert_int_eq(pipe(ends), 0);
    dup2(ends[1], STDERR_FILENO);
    log_json_to_stderr((char[]){ "relay" }, SAGA_LOG_ERROR, "lost \"it\"", fields);
    dup2(saved, STDERR_FILENO);
    ck_assert_int_gt(read(ends[0], line, sizeof line - 1), 5000);
    ck_assert_msg(strncmp(line, "{\"time\":\"2", 10) == 0, "line: %s", line);
    ck_assert_msg(
        strstr(line, "Z\",\"level\":\"error\",\"name\":\"relay\",\"event\":\"lost \\\"it\\\"\","
                     "\"odd\":\"say \\\"a\\\\b\\\"\\u000a\\u007f\\u0001\",\"utf8\":\"\xc3\xa4\","
                     "\"broken\":\"?!\",\"big\":\"xxx") != NULL,
        "line: %s", line);
    ck_assert_str_eq(line + strlen(line) - 5, "xx\"}\n");
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "base/log",
        .tests = TESTS(test_log_event_reaches_the_callback_with_its_fields,
                       test_log_event_below_the_level_is_not_made,
                       test_log_line_quotes_what_would_split_it, test_log_line_in_json_is_json) });
}
