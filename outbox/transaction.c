/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Beginning and ending transactions.
 */
#include "outbox/transaction.h"

#include "base/clock.h"
#include "base/crash.h"

enum { MESSAGES_MAX = 20000, LONGEST_MS = 100, SLICE_MS = 10 };

rd_kafka_error_t *
transaction_enter(struct transaction *transaction, bool *may)
{
    rd_kafka_error_t *error = NULL;

    if (transaction->producer != NULL && transaction->state == TRANSACTION_NONE) {
        error = rd_kafka_begin_transaction(transaction->producer);
        if (error == NULL) {
            transaction->state = TRANSACTION_OPEN;
            transaction->n = 0;
            transaction->began_ms = clock_mono_ms();
        }
    }
    *may = transaction->producer == NULL ||
           (transaction->state == TRANSACTION_OPEN && transaction->n < MESSAGES_MAX);
    return error;
}

void
transaction_add(struct transaction *transaction, uint64_t position)
{
    if (transaction->n == 0)
        transaction->first = position;
    transaction->n = position + 1 - transaction->first;
}

/* NULL for what only needs more time. */
static rd_kafka_error_t *
unless_late(rd_kafka_error_t *error)
{
    if (error == NULL || !rd_kafka_error_is_retriable(error))
        return error;
    rd_kafka_error_destroy(error);
    return NULL;
}

static rd_kafka_error_t *
fence(struct transaction *transaction, int wait_ms)
{
    rd_kafka_error_t *error = rd_kafka_init_transactions(transaction->producer, wait_ms);

    if (error == NULL)
        transaction->state = TRANSACTION_ASKING;
    return unless_late(error);
}

static rd_kafka_error_t *
commit(struct transaction *transaction, struct window *window, int wait_ms)
{
    rd_kafka_error_t *error;

    transaction->state = TRANSACTION_COMMITS;
    CRASH_POINT("transaction.before_commit");
    error = rd_kafka_commit_transaction(transaction->producer, wait_ms);
    if (error != NULL)
        return unless_late(error);
    CRASH_POINT("transaction.after_commit");
    for (uint64_t i = 0; i < transaction->n; i++)
        window_ack(window, transaction->first + i);
    transaction->state = TRANSACTION_NONE;
    transaction->n = 0;
    return NULL;
}

rd_kafka_error_t *
transaction_serve(struct transaction *transaction, struct window *window, int wait_ms)
{
    int slice_ms = wait_ms > SLICE_MS ? wait_ms : SLICE_MS;

    if (transaction->producer == NULL)
        return NULL;
    switch (transaction->state) {
    case TRANSACTION_NEW:
        return fence(transaction, slice_ms);
    case TRANSACTION_OPEN:
        if (wait_ms == 0 && transaction->n < MESSAGES_MAX &&
            clock_mono_ms() - transaction->began_ms < LONGEST_MS)
            return NULL;
        return commit(transaction, window, slice_ms);
    case TRANSACTION_COMMITS:
        return commit(transaction, window, slice_ms);
    case TRANSACTION_ASKING:
    case TRANSACTION_NONE:
        break;
    }
    return NULL;
}

void
transaction_close(struct transaction *transaction, int wait_ms)
{
    rd_kafka_error_t *error;

    if (transaction->producer == NULL ||
        (transaction->state != TRANSACTION_OPEN && transaction->state != TRANSACTION_COMMITS))
        return;
    error = rd_kafka_abort_transaction(transaction->producer, wait_ms);
    if (error != NULL)
        rd_kafka_error_destroy(error);
}
