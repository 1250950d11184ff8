/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of errors that mean "never".
 */
#include "outbox/verdict.h"

#include <librdkafka/rdkafka.h>
#include <stddef.h>

/*
 * Not in here, on purpose: what a broker may say in passing (corrupt message,
 * invalid timestamp: it is made anew with each attempt), what has nothing to do
 * with the message (acks, compression, the right to write idempotently,
 * authentication), and whatever a later version adds. Parking what could have
 * been delivered costs a person's night; trying again costs a line in the log.
 */
static const struct verdict verdicts[] = {
    { RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, VERDICT_MESSAGE, .size = true,
      .reason = "larger than the topic's max.message.bytes" },
    { RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE, VERDICT_MESSAGE, .size = true,
      .reason = "larger than a segment of the topic (segment.bytes)" },
    { RD_KAFKA_RESP_ERR_INVALID_RECORD, VERDICT_MESSAGE,
      .reason = "the broker's check of the record failed (a compacted topic needs a key)" },
    { RD_KAFKA_RESP_ERR_POLICY_VIOLATION, VERDICT_MESSAGE,
      .reason = "against a policy of the broker" },
    /* Somebody may make the topic or give the right a minute later; but until
     * then everything else would wait. */
    { RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC, VERDICT_TOPIC, .absent = true,
      .reason = "the topic does not exist, and the broker does not make it" },
    { RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, VERDICT_TOPIC, .absent = true,
      .reason = "the topic does not exist, and the broker does not make it" },
    { RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION, VERDICT_TOPIC,
      .reason = "no topic of that name can be written to" },
    { RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, VERDICT_TOPIC,
      .reason = "the relay may not write to the topic" },
    { RD_KAFKA_RESP_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT, VERDICT_TOPIC,
      .reason = "the topic's message format knows no headers" },
};
enum { N_VERDICTS = sizeof verdicts / sizeof *verdicts };

const struct verdict *
verdict_of(int error)
{
    for (size_t i = 0; i < N_VERDICTS; i++)
        if (verdicts[i].error == error)
            return &verdicts[i];
    return NULL;
}

const struct verdict *
verdict_too_large(void)
{
    return verdict_of(RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
}
