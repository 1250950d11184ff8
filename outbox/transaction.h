/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kafka's transactions around the messages of a sink, for topics in which an old
 * message must not come behind a newer one (compacted ones).
 *
 * Owns when a transaction begins and ends, and the rule that its messages count
 * as acknowledged together, once it is committed. Whoever makes the producer of
 * a stream's transactional.id fences the one before; so the stream's owner has
 * to be asked whether he still is that after his own is made, and before its
 * first message: whoever takes the stream later fences him in turn.
 */
#ifndef OUTBOX_TRANSACTION_H
#define OUTBOX_TRANSACTION_H

#include "outbox/window.h"

#include <librdkafka/rdkafka.h>

struct transaction {
    rd_kafka_t *producer; /* NULL: there are no transactions */
    enum {
        TRANSACTION_NEW,     /* the producer before is not fenced yet */
        TRANSACTION_ASKING,  /* do we still own the stream? */
        TRANSACTION_NONE,    /* none is open */
        TRANSACTION_OPEN,    /* takes messages */
        TRANSACTION_COMMITS, /* takes none */
    } state;
    uint64_t first, n; /* positions of its messages in the window */
    int64_t began_ms;
};

/* Whether a message may be handed over now. An error of librdkafka, which the
 * caller destroys: the producer is of no further use. */
rd_kafka_error_t *transaction_enter(struct transaction *transaction, bool *may);

/* The message at `position` was handed over. */
void transaction_add(struct transaction *transaction, uint64_t position);

/* Makes progress for at most about `wait_ms`; 0: others have work to do. Commits
 * when there is nothing else to do, or enough in it. */
rd_kafka_error_t *transaction_serve(struct transaction *transaction, struct window *window,
                                    int wait_ms);

/* Aborts what is open, so that those who read committed messages need not wait;
 * if that takes longer than `wait_ms`, the next producer's fence does it. */
void transaction_close(struct transaction *transaction, int wait_ms);

#endif
