/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sizes of records. What a real broker says of them is in
 * test/integration/outbox_sizes.c.
 */
#include "outbox/record_size.h"
#include "test/support/run.h"

#include <stdlib.h>

START_TEST(test_record_size_by_its_table)
{
    static const char zeros[1 << 17];
    static const struct {
        int key, payload, headers; /* -1: none */
        int64_t bytes;
    } cases[] = {
        /* batch 61, length 1, attributes and deltas 3, key, payload, header count 1 */
        { -1, -1, 0, 61 + 1 + 3 + 1 + 1 + 1 },
        { 0, 0, 0, 61 + 1 + 3 + 1 + 1 + 1 },
        { 1, 1, 0, 61 + 1 + 3 + 2 + 2 + 1 },
        { -1, 63, 0, 61 + 2 + 3 + 1 + 1 + 63 + 1 },
        { -1, 64, 0, 61 + 2 + 3 + 1 + 2 + 64 + 1 },
        { -1, 8191, 0, 61 + 3 + 3 + 1 + 2 + 8191 + 1 },
        { -1, 8192, 0, 61 + 3 + 3 + 1 + 3 + 8192 + 1 },
        { 10, 100000, 2, 61 + 3 + 3 + 11 + 3 + 100000 + 1 + 2 * (1 + 4 + 1 + 5) },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rd_kafka_headers_t *headers = rd_kafka_headers_new(4);
        struct saga_bytes key = { cases[i].key < 0 ? NULL : zeros, (size_t)abs(cases[i].key) };
        struct saga_bytes payload = { cases[i].payload < 0 ? NULL : zeros,
                                      (size_t)abs(cases[i].payload) };

        for (int n = 0; n < cases[i].headers; n++)
            rd_kafka_header_add(headers, "name", -1, "value", 5);
        ck_assert_int_eq(record_batch_bytes(key, payload, headers), cases[i].bytes);
        rd_kafka_headers_destroy(headers);
    }
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox/record_size",
        .tests = TESTS(test_record_size_by_its_table),
    });
}
