/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The window moves only over a prefix without holes. trap: O10
 */
#include "outbox/window.h"
#include "test/support/run.h"

START_TEST(test_window_o10_settles_only_a_prefix_without_holes)
{
    struct window window = { 0 };
    uint64_t at[4];
    size_t parked;
    int64_t seq = -1;

    for (int i = 0; i < 4; i++)
        ck_assert(window_push(&window, 10 * (i + 1), &at[i]));
    ck_assert_uint_eq(window_settle(&window, &seq, &parked), 0);
    window_ack(&window, at[1]);
    window_ack(&window, at[3]);
    ck_assert_uint_eq(window_settle(&window, &seq, &parked), 0);
    ck_assert_int_eq(seq, -1);
    window_ack(&window, at[0]);
    ck_assert_uint_eq(window_settle(&window, &seq, &parked), 2);
    ck_assert_int_eq(seq, 20);
    ck_assert_uint_eq(window_open(&window), 2);
    window_ack(&window, at[2]);
    ck_assert_uint_eq(window_settle(&window, &seq, &parked), 2);
    ck_assert_int_eq(seq, 40);
    ck_assert_uint_eq(window_open(&window), 0);
    window_clear(&window);
}
END_TEST

START_TEST(test_window_keeps_its_order_while_it_grows_and_wraps)
{
    struct window window = { 0 };
    uint64_t position, oldest = 0;
    size_t parked;
    int64_t seq = 0, settled = 0;

    for (int64_t i = 1; i <= 100000; i++) {
        ck_assert(window_push(&window, i, &position));
        /* Acknowledged two at a time, now and then, so that it grows and wraps. */
        if (i % 3 == 0)
            for (int n = 0; n < 2; n++)
                window_ack(&window, oldest++);
        settled += (int64_t)window_settle(&window, &seq, &parked);
        ck_assert_int_eq(seq, settled);
    }
    while (oldest <= position)
        window_ack(&window, oldest++);
    window_settle(&window, &seq, &parked);
    ck_assert_int_eq(seq, 100000);
    window_clear(&window);
}
END_TEST

START_TEST(test_window_forgets_what_was_taken_back)
{
    struct window window = { 0 };
    uint64_t first, second;
    size_t parked;
    int64_t seq = 0;

    ck_assert(window_push(&window, 1, &first));
    ck_assert(window_push(&window, 2, &second));
    window_pop(&window);
    window_ack(&window, first);
    ck_assert_uint_eq(window_settle(&window, &seq, &parked), 1);
    ck_assert_int_eq(seq, 1);
    ck_assert(window_push(&window, 2, &second));
    ck_assert_uint_eq(window_settle(&window, &seq, &parked), 0);
    window_reset(&window);
    ck_assert_uint_eq(window_open(&window), 0);
    window_clear(&window);
}
END_TEST

/* What is parked waits for what is before it, and for nobody's acknowledgement. */
START_TEST(test_window_o10_settles_what_is_parked_in_its_turn)
{
    struct window window = { 0 };
    uint64_t first, third;
    size_t parked;
    int64_t seq = 0;

    ck_assert(window_push(&window, 1, &first));
    ck_assert(window_push_parked(&window, 2));
    ck_assert(window_push(&window, 3, &third));
    ck_assert(window_push_parked(&window, 4));
    ck_assert_uint_eq(window_settle(&window, &seq, &parked), 0);
    ck_assert_uint_eq(parked, 0);
    window_ack(&window, first);
    ck_assert_uint_eq(window_settle(&window, &seq, &parked), 2);
    ck_assert_uint_eq(parked, 1);
    ck_assert_int_eq(seq, 2);
    window_ack(&window, third);
    ck_assert_uint_eq(window_settle(&window, &seq, &parked), 2);
    ck_assert_uint_eq(parked, 1);
    ck_assert_int_eq(seq, 4);
    window_clear(&window);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox/window",
        .tests = TESTS(test_window_o10_settles_only_a_prefix_without_holes,
                       test_window_keeps_its_order_while_it_grows_and_wraps,
                       test_window_forgets_what_was_taken_back,
                       test_window_o10_settles_what_is_parked_in_its_turn),
    });
}
