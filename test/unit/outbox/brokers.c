/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which lists of brokers are usable.
 */
#include "outbox/brokers.h"

#include "test/support/run.h"

#include <stddef.h>

START_TEST(test_brokers_are_hosts_with_ports)
{
    static const struct {
        const char *list;
        bool valid;
    } vectors[] = {
        { "kafka:9092", true },
        { "kafka", true },
        { "a-1.example.org:1,b_2:65535", true },
        { " a:1 , b:2 ,", true },
        { "127.0.0.1:9092", true },
        { "[::1]:9092,[fe80::1]", true },
        { "SASL_SSL://kafka:9093", true },
        { "plaintext://kafka", true },
        { "m\xc3\xbcller:9092", true },
        { "", false },
        { " , ", false },
        { "kafka:", false },
        { "kafka:x", false },
        { "kafka:0", false },
        { "kafka:65536", false },
        { "kafka:99999999999999999999", false },
        { "kafka:9092x", false },
        { ":9092", false },
        { "a:1;b:2", false },
        { "a:1 b:2", false },
        { "http://kafka:9092", false },
        { "kafka/9092", false },
        { "::1:9092", false },
        { "[::1:9092", false },
        { "\"kafka:9092\"", false },
    };

    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++)
        ck_assert_msg(brokers_valid(vectors[i].list) == vectors[i].valid, "%s", vectors[i].list);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox/brokers",
        .tests = TESTS(test_brokers_are_hosts_with_ports),
    });
}
