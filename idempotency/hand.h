/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The messages of one partition that were taken and are not yet behind it: who
 * may be next, and how far the partition is finished. Pure.
 *
 * The order of a key holds: while a message waits to be tried again, the later
 * ones of its key wait with it, and the others go on. A message without a key
 * waits alone.
 *
 * The finished prefix: messages are taken in the order in which they come and may
 * finish in any; gaps (compaction, transactions' markers) are not waited for.
 */
#ifndef IDEMPOTENCY_HAND_H
#define IDEMPOTENCY_HAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { OFFSET_NONE = -1 };

enum hand_state { HAND_READY, HAND_CHOSEN, HAND_FINISHED };

/* First member of what is held; its owner allocates and frees it. */
struct hand_item {
    struct hand_item *next;
    int64_t offset;
    bool has_key;
    uint64_t key;   /* hash: two keys with the same one only wait for each other */
    int64_t due_ms; /* not before; 0: at any time */
    enum hand_state state;
};

/* Zero is a valid empty one, except for `next`: hand_init(). */
struct hand {
    struct hand_item *first, *last;
    int32_t n;    /* items, finished ones included */
    int64_t next; /* the offset behind the finished prefix; OFFSET_NONE: nothing has finished */
};

void hand_init(struct hand *hand);

/* In the order in which they came. A lower offset than before is no mistake: the
 * topic was made anew, or Kafka has lost its end. */
void hand_take(struct hand *hand, struct hand_item *item);

/*
 * Chooses up to `max` items that may be worked on now, in their order and before
 * `end` (NULL: all); returns how many. Each is then put back, or its state becomes
 * HAND_FINISHED.
 */
size_t hand_choose(struct hand *hand, int64_t now_ms, struct hand_item **chosen, size_t max,
                   const struct hand_item *end);

/* `due_ms`: when it may be chosen again; 0: at once. */
void hand_put_back(struct hand_item *item, int64_t due_ms);

/* What `next` will be when all that is chosen has finished; before anything has, it is the first
 * one in hand. OFFSET_NONE: nothing is in hand. */
int64_t hand_next_if_finished(const struct hand *hand);

/* Takes the finished prefix out, and moves `next` behind it. Returns the items,
 * linked, for their owner to free; NULL: none. */
struct hand_item *hand_settle(struct hand *hand);

/* What has finished behind one that has not is to be done once more. */
void hand_reopen(struct hand *hand);

/* Takes all out. */
struct hand_item *hand_empty(struct hand *hand);

/* The earliest moment at which something that waits may be chosen; 0: nothing waits. */
int64_t hand_due_ms(const struct hand *hand);

#endif
