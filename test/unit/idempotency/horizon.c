/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is too short beside a topic's retention.
 */
#include "idempotency/horizon.h"
#include "test/support/run.h"

#define DAYS(n) ((n)*INT64_C(86400000))

static const struct {
    const char *name;
    struct horizon horizon; /* retention, window, inbox, foreign */
    size_t n;
    struct horizon_finding findings[HORIZON_FLAWS];
} cases[] = {
    { "as they are delivered", { DAYS(7), 0, DAYS(10), DAYS(10) }, 0, { { 0 } } },
    { "the same length is too short: a message may have waited in the outbox",
      { DAYS(7), 0, DAYS(7), DAYS(10) },
      1,
      { { HORIZON_INBOX, DAYS(7), 0 } } },
    { "the inbox",
      { DAYS(20), 0, DAYS(10), DAYS(21) },
      1,
      { { HORIZON_INBOX, DAYS(10), DAYS(10) } } },
    { "foreign ids",
      { DAYS(20), 0, DAYS(21), DAYS(19) },
      1,
      { { HORIZON_FOREIGN, DAYS(19), DAYS(1) } } },
    { "no length would do",
      { HORIZON_FOREVER, 0, DAYS(29), DAYS(1000) },
      2,
      { { HORIZON_INBOX, DAYS(29), HORIZON_FOREVER },
        { HORIZON_FOREIGN, DAYS(1000), HORIZON_FOREVER } } },
    { "Redis alone: the inbox is not asked",
      { DAYS(7), 300000, 0, 0 },
      1,
      { { HORIZON_WINDOW, 300000, DAYS(7) - 300000 } } },
    { "Redis alone, and a long window", { DAYS(1), DAYS(2), 0, 0 }, 0, { { 0 } } },
    { "Kafka does not say", { 0, 0, DAYS(1), DAYS(1) }, 0, { { 0 } } },
};

START_TEST(test_horizon_shorter_than_the_topics_retention_is_found)
{
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct horizon_finding found[HORIZON_FLAWS];
        size_t n = horizon_compare(&cases[i].horizon, found);

        ck_assert_msg(n == cases[i].n, "%s: %zu findings", cases[i].name, n);
        for (size_t j = 0; j < n; j++)
            ck_assert_msg(found[j].flaw == cases[i].findings[j].flaw &&
                              found[j].known_ms == cases[i].findings[j].known_ms &&
                              found[j].short_by_ms == cases[i].findings[j].short_by_ms,
                          "%s: %d, short by %ld ms", cases[i].name, (int)found[j].flaw,
                          (long)found[j].short_by_ms);
    }
}
END_TEST

static const struct {
    const char *retention, *policy;
    int64_t ms;
} settings[] = {
    { "604800000", "delete", 604800000 },
    { "604800000", "compact,delete", 604800000 },
    { "604800000", "compact", HORIZON_FOREVER },
    { "-1", "delete", HORIZON_FOREVER },
    { "604800000", NULL, 604800000 },
    { NULL, "delete", 0 },
    { "", "delete", 0 },
    { "7 days", "delete", 0 },
};

START_TEST(test_horizon_reads_a_topics_settings)
{
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++)
        ck_assert_int_eq(horizon_retention_ms(settings[i].retention, settings[i].policy),
                         settings[i].ms);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "idempotency/horizon",
        .tests = TESTS(test_horizon_shorter_than_the_topics_retention_is_found,
                       test_horizon_reads_a_topics_settings),
    });
}
