/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When the daemon is alive, ready and well.
 */
#include "outbox/daemon_health.h"

#include "test/support/run.h"

#include <string.h>

enum { S = 1000000 };

/* Seconds ago; two streams, of which the second is as given. */
static const struct {
    const char *name;
    struct {
        int32_t state;
        int alive_s, answered_s, silent_s;
        bool ended;
    } is;
    int wanted;
    bool alive, ready, well;
    const char *says;
} cases[] = {
    { "all is well", { SAGA_RELAY_OWNER, 0, 0, 0, false }, 2, true, true, true, "ok" },
    { "a standby is ready", { SAGA_RELAY_STANDBY, 0, 1, 0, false }, 2, true, true, true, "ok" },
    { "connecting, not for long yet",
      { SAGA_RELAY_CONNECTING, 0, 9, 0, false },
      2,
      true,
      false,
      true,
      "ok" },
    { "the database is away: nobody is helped by a restart, but it is said",
      { SAGA_RELAY_CONNECTING, 0, 11, 0, false },
      2,
      true,
      false,
      false,
      "PostgreSQL has not answered the relay of stream 1 for 11 s" },
    { "a server that is silent within the deadline of a statement",
      { SAGA_RELAY_OWNER, 29, 29, 0, false },
      2,
      true,
      true,
      false,
      "PostgreSQL has not answered" },
    { "it hangs",
      { SAGA_RELAY_OWNER, 91, 91, 0, false },
      2,
      false,
      true,
      false,
      "the relay of stream 1 hangs: no round for 91 s" },
    { "Kafka is silent",
      { SAGA_RELAY_OWNER, 0, 0, 35, false },
      2,
      true,
      true,
      true,
      "ok, but Kafka has acknowledged none of 7 messages of stream 1 for 35 s" },
    { "one has ended",
      { SAGA_RELAY_OWNER, 500, 500, 0, true },
      2,
      true,
      false,
      false,
      "the relay of stream 1 has ended" },
    { "a stream has no relay yet",
      { SAGA_RELAY_OWNER, 0, 0, 0, false },
      3,
      true,
      false,
      true,
      "ok" },
};

START_TEST(test_health_is_judged_by_the_table)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int64_t now_us = INT64_C(1000) * S;
        struct board_stream streams[2] = {
            { .stats = { .state = SAGA_RELAY_OWNER, .alive_us = now_us, .answered_us = now_us } },
            { .number = 1,
              .ended = cases[i].is.ended,
              .stats = { .state = cases[i].is.state,
                         .waiting = 7,
                         .silent_us = cases[i].is.silent_s * INT64_C(1000000),
                         .alive_us = now_us - cases[i].is.alive_s * INT64_C(1000000),
                         .answered_us = now_us - cases[i].is.answered_s * INT64_C(1000000) } },
        };
        const struct board_view view = { .streams = streams,
                                         .n = 2,
                                         .wanted = cases[i].wanted,
                                         .now_us = now_us,
                                         .stall_ms = 90000,
                                         .lease_ms = 5000 };
        char line[256];

        ck_assert_msg(health_alive(&view) == cases[i].alive, "alive: %s", cases[i].name);
        ck_assert_msg(health_ready(&view) == cases[i].ready, "ready: %s", cases[i].name);
        ck_assert_msg(health_well(&view, line, sizeof line) == cases[i].well, "well: %s",
                      cases[i].name);
        ck_assert_msg(strstr(line, cases[i].says) == line, "%s: %s", cases[i].name, line);
    }
}
END_TEST

START_TEST(test_health_without_a_relay_is_bad)
{
    const struct board_view view = { 0 };
    char line[256];

    ck_assert(!health_ready(&view));
    ck_assert(!health_well(&view, line, sizeof line));
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox/daemon_health",
        .tests = TESTS(test_health_is_judged_by_the_table, test_health_without_a_relay_is_bad) });
}
