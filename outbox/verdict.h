/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which of Kafka's errors mean "never": the message, or its whole topic, will
 * be refused however often it is sent. Everything else is tried again for ever.
 *
 * Owns the table and the words that operators read. Whom an error is to be
 * blamed on is the judge's.
 */
#ifndef OUTBOX_VERDICT_H
#define OUTBOX_VERDICT_H

#include <stdbool.h>

enum verdict_scope {
    VERDICT_MESSAGE, /* one message of the refused batch; which, is not told */
    VERDICT_TOPIC    /* every message of the topic */
};

struct verdict {
    int error; /* rd_kafka_resp_err_t */
    enum verdict_scope scope;
    bool size;   /* it depends on max.message.bytes */
    bool absent; /* it says that the topic does not exist */
    const char *reason;
};

/* NULL: it may go better the next time. */
const struct verdict *verdict_of(int error);

/* Of a message that need not be sent to be refused. */
const struct verdict *verdict_too_large(void);

#endif
