/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a mark means, and which addresses of Redis are taken.
 */
#include "idempotency/gate.h"
#include "test/support/run.h"

#include <string.h>

#define HASH  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define OTHER "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"

static const struct {
    const char *name, *found;
    enum gate_verdict verdict;
} marks[] = {
    { "nothing, or no answer", NULL, GATE_GO },
    { "done with the same contents is the only reason to skip", "done:" HASH, GATE_SKIP },
    { "done with other contents is for the inbox to judge (I10)", "done:" OTHER, GATE_GO },
    { "another one is at it", "busy:ffffffffffffffff", GATE_BUSY },
    { "our own question, whose answer was lost (I3)", "busy:0123456789abcdef", GATE_GO },
    { "an empty value", "", GATE_GO },
    { "done without a hash", "done:", GATE_GO },
    { "done with half a hash", "done:aaaa", GATE_GO },
    { "done and more", "done:" HASH "a", GATE_GO },
    { "busy without a token", "busy:", GATE_GO },
    { "somebody else's value", "1", GATE_GO },
    { "nonsense of the right length", "bosy:ffffffffffffffff", GATE_GO },
};

START_TEST(test_gate_decide_skips_only_what_is_done_with_the_same_contents_i3_i4)
{
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++) {
        const char *found = marks[i].found;
        enum gate_verdict verdict =
            gate_decide(found, found != NULL ? strlen(found) : 0, "0123456789abcdef", HASH);

        ck_assert_msg(verdict == marks[i].verdict, "%s: %d", marks[i].name, (int)verdict);
    }
}
END_TEST

static const struct {
    const char *text;
    bool remote;
    const char *host; /* NULL: refused */
    int port;
} addresses[] = {
    { "127.0.0.1:6379", false, "127.0.0.1", 6379 },
    { "127.3.2.1:1", false, "127.3.2.1", 1 },
    { "localhost:65535", false, "localhost", 65535 },
    { "[::1]:6379", false, "::1", 6379 },
    { "/run/redis.sock", false, "/run/redis.sock", 0 },
    { "10.0.0.1:6379", false, NULL, 0 },
    { "10.0.0.1:6379", true, "10.0.0.1", 6379 },
    { "redis.example:6379", false, NULL, 0 },
    { "redis.example:6379", true, "redis.example", 6379 },
    { "127.0.0.1.example:6379", false, NULL, 0 },
    { "", false, NULL, 0 },
    { "localhost", false, NULL, 0 },
    { "localhost:", false, NULL, 0 },
    { ":6379", false, NULL, 0 },
    { "localhost:0", false, NULL, 0 },
    { "localhost:65536", false, NULL, 0 },
    { "localhost:63x", false, NULL, 0 },
};

START_TEST(test_gate_parse_takes_only_this_host_unless_told_otherwise)
{
    for (size_t i = 0; i < sizeof addresses / sizeof addresses[0]; i++) {
        struct gate_address address = { "untouched", 7 };
        struct saga_error err;
        int rc = gate_parse(&address, addresses[i].text, addresses[i].remote, &err);

        ck_assert_msg((rc == 0) == (addresses[i].host != NULL), "%s: %d", addresses[i].text, rc);
        ck_assert_str_eq(address.host, rc == 0 ? addresses[i].host : "untouched");
        ck_assert_int_eq(address.port, rc == 0 ? addresses[i].port : 7);
        if (rc != 0)
            ck_assert_int_eq(err.code, SAGA_EINVAL);
    }
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "idempotency/gate_decide",
        .tests = TESTS(test_gate_decide_skips_only_what_is_done_with_the_same_contents_i3_i4,
                       test_gate_parse_takes_only_this_host_unless_told_otherwise),
    });
}
