/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A postman instead of relay and Kafka: takes the committed messages of an
 * outbox one by one, as records, so that a test can deliver them late, twice
 * or not at all.
 */
#ifndef TEST_POST_H
#define TEST_POST_H

#include <libpq-fe.h>
#include <saga/inbox.h>
#include <stdbool.h>

struct post {
    PGconn *from;
    int64_t seq; /* taken so far; 0 at the beginning */
};

/* The next message, which lives until the test ends; false: there is none. */
bool post_take(struct post *post, struct saga_record *record);

/* A header of it, or NULL. */
const char *record_text(const struct saga_record *record, const char *name);

#endif
