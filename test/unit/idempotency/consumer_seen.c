/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which messages in hand are asked about, many at once. Without a server: nobody
 * answers.
 */
#include "idempotency/consumer_state.h"

#include "test/support/run.h"

/* A few more than one question holds. */
enum { ITEMS = GATE_MANY + 10 };

static struct hand_item *
take(struct partition *partition, enum hand_state state)
{
    static struct taken items[ITEMS];
    int32_t n = partition->hand.n;

    items[n] = (struct taken){ .item.offset = n, .partition = partition };
    hand_take(&partition->hand, &items[n].item);
    items[n].item.state = state;
    return &items[n].item;
}

/* Whatever the first question finds: what is freed behind its finished prefix is not asked about
 * next. */
START_TEST(test_what_is_asked_next_is_not_finished)
{
    static const struct consumer_route route;
    struct partition partition = { .route = &route };
    struct saga_consumer consumer = { .partitions = &partition };
    struct hand_item *next;

    hand_init(&partition.hand);
    for (int i = 0; i < GATE_MANY; i++)
        take(&partition, HAND_READY);
    take(&partition, HAND_FINISHED);
    take(&partition, HAND_FINISHED);
    next = take(&partition, HAND_READY);
    take(&partition, HAND_FINISHED);

    seen_ask_again(&consumer);
    seen_ask(&consumer);
    ck_assert_ptr_eq(partition.unasked, next);
    seen_ask(&consumer);
    ck_assert_ptr_null(partition.unasked);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "idempotency/consumer_seen",
        .tests = TESTS(test_what_is_asked_next_is_not_finished),
    });
}
