/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What saga_relay_new() refuses, and what it says then.
 */
#include "test/support/run.h"

#include <saga/relay.h>
#include <stddef.h>
#include <string.h>

static void
expect_refused(const struct saga_relay_options *options, const char *says)
{
    struct saga_relay *relay = NULL;
    struct saga_error err;

    ck_assert_int_eq(saga_relay_new(&relay, options, &err), SAGA_EINVAL);
    ck_assert_msg(strstr(err.message, says) != NULL, "says: %s", err.message);
    ck_assert_ptr_null(relay);
}

#define OPTIONS(...) (&(struct saga_relay_options){ SAGA_RELAY_OPTIONS, __VA_ARGS__ })

START_TEST(test_relay_options_are_checked_one_by_one)
{
    expect_refused(NULL, "brokers");
    expect_refused(OPTIONS(.brokers = ""), "brokers");
    expect_refused(OPTIONS(.brokers = "a:x"), "brokers must be HOST:PORT");
    expect_refused(OPTIONS(.brokers = "a:1", .stream = 64), "stream is 64");
    expect_refused(OPTIONS(.brokers = "a:1", .lease_ms = 1), "lease_ms is 1");
    expect_refused(OPTIONS(.brokers = "a:1", .lease_ms = 300001), "300001");
    expect_refused(OPTIONS(.brokers = "a:1", .page_rows = -1), "negative");
    expect_refused(OPTIONS(.brokers = "a:1", .conninfo = "host"), "conninfo");
    expect_refused(OPTIONS(.brokers = "a:1", .conninfo = "nonsense=1"), "conninfo");
    expect_refused(&(struct saga_relay_options){ .brokers = "a:1" }, "initialiser macro");
}
END_TEST

/* trap: O11, O12, O20: what the promises rest on is not for sale. */
START_TEST(test_relay_options_keep_the_properties_that_the_promises_rest_on)
{
    static const char *const names[] = { "acks",
                                         "request.required.acks",
                                         "enable.idempotence",
                                         "message.timeout.ms",
                                         "delivery.timeout.ms",
                                         "partitioner",
                                         "enable.gapless.guarantee",
                                         "transactional.id",
                                         "ACKS" };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const struct saga_pair properties[] = { { names[i], "1" }, { NULL, NULL } };

        expect_refused(OPTIONS(.brokers = "a:1", .kafka = properties), names[i]);
    }
    expect_refused(OPTIONS(.brokers = "a:1", .kafka = SAGA_PAIRS({ "no.such", "1" })), "no.such");
    expect_refused(OPTIONS(.brokers = "a:1", .kafka = SAGA_PAIRS({ "linger.ms", "x" })),
                   "Invalid value");
}
END_TEST

START_TEST(test_relay_options_may_tune_the_producer)
{
    struct saga_relay *relay = NULL;
    struct saga_error err;

    ck_assert_int_eq(saga_relay_new(&relay,
                                    OPTIONS(.brokers = "a:1",
                                            .kafka = SAGA_PAIRS({ "linger.ms", "20" },
                                                                { "compression.type", "lz4" })),
                                    &err),
                     0);
    saga_relay_free(relay);
    saga_relay_free(NULL);
}
END_TEST

/* A program that was compiled against an older header has a shorter struct. */
START_TEST(test_relay_stats_fill_in_no_more_than_their_size)
{
    struct saga_relay_stats stats = { .size = offsetof(struct saga_relay_stats, pairs),
                                      .published = 5,
                                      .pairs = 6 };
    struct saga_relay *relay = NULL;
    struct saga_error err;

    ck_assert_int_eq(saga_relay_new(&relay, OPTIONS(.brokers = "a:1"), &err), 0);
    saga_relay_stats(relay, &stats);
    ck_assert_int_eq(stats.published, 0);
    ck_assert_int_eq(stats.pairs, 6);
    saga_relay_free(relay);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox/relay_options",
        .tests = TESTS(test_relay_options_are_checked_one_by_one,
                       test_relay_options_keep_the_properties_that_the_promises_rest_on,
                       test_relay_options_may_tune_the_producer,
                       test_relay_stats_fill_in_no_more_than_their_size),
    });
}
