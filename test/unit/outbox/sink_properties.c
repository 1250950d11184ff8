/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the relay makes of a user's properties of librdkafka.
 */
#include "outbox/sink_properties.h"
#include "test/support/run.h"

#include <string.h>

/* The value of `name` when the user has set `properties`. */
static const char *
value_of(const char *name, const struct saga_pair *properties)
{
    static char value[64];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    size_t size = sizeof value;
    struct saga_error err;

    ck_assert_msg(sink_properties_set(conf, "127.0.0.1:1", properties, &err) == 0, "%s",
                  err.message);
    ck_assert_int_eq(rd_kafka_conf_get(conf, name, value, &size), RD_KAFKA_CONF_OK);
    rd_kafka_conf_destroy(conf);
    return value;
}

static const char timeout[] = "socket.timeout.ms";

/* Shorter than that would leave no time for replicas, longer would keep messages
 * from the next leader while the last one hangs. */
START_TEST(test_sink_properties_give_a_broker_that_hangs_ten_seconds)
{
    ck_assert_str_eq(value_of(timeout, NULL), "10000");
    ck_assert_str_eq(value_of("request.timeout.ms", NULL), "8000");
    ck_assert_str_eq(value_of(timeout, SAGA_PAIRS({ timeout, "70000" })), "70000");
}
END_TEST

/* librdkafka takes no longer one than the transaction's. */
START_TEST(test_sink_properties_wait_no_longer_than_a_transaction_may_take)
{
    static const char transaction[] = "transaction.timeout.ms";

    ck_assert_str_eq(value_of(timeout, SAGA_PAIRS({ transaction, "3000" })), "3000");
    ck_assert_str_eq(value_of(timeout, SAGA_PAIRS({ transaction, "60000" })), "10000");
    ck_assert_str_eq(value_of(timeout, SAGA_PAIRS({ timeout, "2000" }, { transaction, "3000" })),
                     "2000");
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox/sink_properties",
        .tests = TESTS(test_sink_properties_give_a_broker_that_hangs_ten_seconds,
                       test_sink_properties_wait_no_longer_than_a_transaction_may_take),
    });
}
