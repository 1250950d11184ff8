/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When a consumer may run at all.
 */
#include "idempotency/consumer_state.h"

#include "test/support/run.h"

/* A message that there was no memory for is not in hand; the next ones would move the offset past
 * it. */
START_TEST(test_consumer_that_ran_out_of_memory_runs_no_more)
{
    struct saga_consumer consumer = { .n_routes = 1, .subscribed = true, .failed = SAGA_ENOMEM };
    struct saga_error err;

    consumer.stop = 1; /* or it would go on for ever */
    ck_assert_int_eq(saga_consumer_run(&consumer, SAGA_CONSUME_UNTIL_STOP, &err), SAGA_ENOMEM);
    ck_assert_int_eq(err.code, SAGA_ENOMEM);
}
END_TEST

/* Nor does it take what comes behind that message: the partition has no queue here. */
START_TEST(test_consumer_that_ran_out_of_memory_takes_no_more)
{
    struct partition partition = { .settled = true };
    struct saga_consumer consumer = { .partitions = &partition, .failed = SAGA_ENOMEM };

    hand_init(&partition.hand);
    consumer.batch.max = 1;
    kafka_read(&consumer, 1);
    ck_assert_int_eq(partition.hand.n, 0);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "idempotency/consumer_loop",
        .tests = TESTS(test_consumer_that_ran_out_of_memory_runs_no_more,
                       test_consumer_that_ran_out_of_memory_takes_no_more),
    });
}
