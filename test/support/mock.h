/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A broker that fails to order: librdkafka's mock cluster in this process. Good
 * for what a client has to bear, and no proof of what Kafka does.
 */
#ifndef TEST_MOCK_H
#define TEST_MOCK_H

#include <stdbool.h>

struct mock;
/* One broker of librdkafka's mock cluster in this process; use_brokers() is
 * called with its address. */
struct mock *given_mock(void);
void mock_topic(struct mock *mock, const char *topic, int partitions);
/* What is said of the topic when somebody asks for it; 0: that it is there. */
void mock_topic_error(struct mock *mock, const char *topic, int error);
/* The next `n` produce requests are answered with `error` (and not written). */
void mock_produce_errors(struct mock *mock, int n, int error);
/* The same for requests to end a transaction. */
void mock_commit_errors(struct mock *mock, int n, int error);
/* Milliseconds from a request to its answer. */
void mock_delay(struct mock *mock, int ms);
void mock_down(struct mock *mock, bool down);

/* Who joins a group next waits so long for its share of the partitions. */
void mock_share_late(struct mock *mock, int ms);

#endif
