/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The growing buffer, and numbers in network order.
 */
#include "base/bytes.h"
#include "test/support/run.h"

#include <string.h>

START_TEST(test_buffer_keeps_everything_while_it_grows)
{
    struct buffer buffer = { 0 };

    for (uint32_t i = 0; i < 10000; i++)
        buffer_add_u32(&buffer, i);
    ck_assert(!buffer.failed);
    ck_assert_uint_eq(buffer.len, 40000);
    for (uint32_t i = 0; i < 10000; i++)
        ck_assert_uint_eq(get_u32(buffer.data + 4 * i), i);
    buffer_clear(&buffer);
    ck_assert_ptr_null(buffer.data);
}
END_TEST

START_TEST(test_buffer_out_of_memory_is_remembered)
{
    struct buffer buffer = { 0 };

    buffer_add(&buffer, "x", SIZE_MAX / 4 + 1);
    ck_assert(buffer.failed);
    buffer_add(&buffer, "x", 1);
    ck_assert_uint_eq(buffer.len, 0);
    buffer_clear(&buffer);
}
END_TEST

START_TEST(test_numbers_are_in_network_order)
{
    uint8_t bytes[8];

    put_u64(bytes, UINT64_C(0x0102030405060708));
    ck_assert_mem_eq(bytes, "\1\2\3\4\5\6\7\10", 8);
    ck_assert_uint_eq(get_u64(bytes), UINT64_C(0x0102030405060708));
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){ .name = "base/bytes",
                                      .tests = TESTS(test_buffer_keeps_everything_while_it_grows,
                                                     test_buffer_out_of_memory_is_remembered,
                                                     test_numbers_are_in_network_order) });
}
