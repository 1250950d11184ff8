/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The consumer on real PostgreSQL, Kafka and Redis: what is applied, and that
 * it is applied once.
 */
#include "test/support/consumer.h"
#include "test/support/redis.h"
#include "test/support/run.h"
#include "test/support/wait.h"

START_TEST(test_consumer_applies_each_message_of_all_partitions_once)
{
    struct fixture *fixture = given_consumer_fixture(3);
    struct saga_consumer *consumer = GIVEN_CONSUMER(fixture, .redis = redis_address());

    produce_messages(fixture, 0, 50);
    run_until_idle(consumer);
    expect_effects(fixture, 50, 50);
    ck_assert_int_eq(stats_of(consumer).applied, 50);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "idempotency_consumer",
        .tests = TESTS(test_consumer_applies_each_message_of_all_partitions_once),
        .timeout_s = 60,
    });
}
