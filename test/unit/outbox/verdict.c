/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which errors mean never, and of whom. trap: O14
 */
#include "outbox/verdict.h"
#include "test/support/run.h"

#include <librdkafka/rdkafka.h>
#include <string.h>

enum { AGAIN = -1 };

START_TEST(test_verdict_o14_by_its_table)
{
    static const struct {
        int error, scope;
    } cases[] = {
        { RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, VERDICT_MESSAGE },
        { RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE, VERDICT_MESSAGE },
        { RD_KAFKA_RESP_ERR_INVALID_RECORD, VERDICT_MESSAGE },
        { RD_KAFKA_RESP_ERR_POLICY_VIOLATION, VERDICT_MESSAGE },
        { RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC, VERDICT_TOPIC },
        { RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, VERDICT_TOPIC },
        { RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION, VERDICT_TOPIC },
        { RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, VERDICT_TOPIC },
        { RD_KAFKA_RESP_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT, VERDICT_TOPIC },
        /* Brokers say these in passing, or of something else. */
        { RD_KAFKA_RESP_ERR_NO_ERROR, AGAIN },
        { RD_KAFKA_RESP_ERR_UNKNOWN, AGAIN },
        { RD_KAFKA_RESP_ERR_INVALID_MSG, AGAIN },
        { RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP, AGAIN },
        { RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED, AGAIN },
        { RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED, AGAIN },
        { RD_KAFKA_RESP_ERR_UNSUPPORTED_COMPRESSION_TYPE, AGAIN },
        { RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, AGAIN },
        { RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR, AGAIN },
        { RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, AGAIN },
        { RD_KAFKA_RESP_ERR__MSG_TIMED_OUT, AGAIN },
        { RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION, AGAIN },
        { RD_KAFKA_RESP_ERR__FATAL, AGAIN },
        { RD_KAFKA_RESP_ERR__PURGE_QUEUE, AGAIN },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct verdict *verdict = verdict_of(cases[i].error);

        ck_assert_msg((verdict != NULL ? (int)verdict->scope : AGAIN) == cases[i].scope, "%s",
                      rd_kafka_err2name((rd_kafka_resp_err_t)cases[i].error));
    }
}
END_TEST

/* A later librdkafka may know errors that we have never heard of. */
START_TEST(test_verdict_of_an_unknown_error_is_none)
{
    int never = 0;

    for (int error = RD_KAFKA_RESP_ERR__BEGIN; error < 1000; error++) {
        const struct verdict *verdict = verdict_of(error);

        never += verdict != NULL;
        ck_assert(verdict == NULL || (verdict->error == error && *verdict->reason != '\0'));
    }
    ck_assert_int_eq(never, 9);
    ck_assert(verdict_too_large()->size);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox/verdict",
        .tests = TESTS(test_verdict_o14_by_its_table, test_verdict_of_an_unknown_error_is_none),
    });
}
