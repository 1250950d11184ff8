/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who of a partition's messages may be next, and how far it is finished. Pure.
 */
#include "idempotency/hand.h"

void
hand_init(struct hand *hand)
{
    *hand = (struct hand){ .next = OFFSET_NONE };
}

void
hand_take(struct hand *hand, struct hand_item *item)
{
    item->next = NULL;
    item->due_ms = 0;
    item->state = HAND_READY;
    if (hand->last != NULL)
        hand->last->next = item;
    else
        hand->first = item;
    hand->last = item;
    hand->n++;
}

static bool
waits(const struct hand_item *item, int64_t now_ms)
{
    return item->state == HAND_READY && item->due_ms > now_ms;
}

/* An earlier one of its key waits, from `first_waiting` on. */
static bool
is_held_up(const struct hand_item *item, const struct hand_item *first_waiting, int64_t now_ms)
{
    if (!item->has_key)
        return false;
    for (const struct hand_item *at = first_waiting; at != NULL && at != item; at = at->next)
        if (at->has_key && at->key == item->key && waits(at, now_ms))
            return true;
    return false;
}

size_t
hand_choose(struct hand *hand, int64_t now_ms, struct hand_item **chosen, size_t max,
            const struct hand_item *end)
{
    const struct hand_item *first_waiting = NULL;
    size_t n = 0;

    for (struct hand_item *at = hand->first; at != end && n < max; at = at->next) {
        if (waits(at, now_ms)) {
            if (first_waiting == NULL)
                first_waiting = at;
        } else if (at->state == HAND_READY && !is_held_up(at, first_waiting, now_ms)) {
            at->state = HAND_CHOSEN;
            chosen[n++] = at;
        }
    }
    return n;
}

void
hand_put_back(struct hand_item *item, int64_t due_ms)
{
    item->state = HAND_READY;
    item->due_ms = due_ms;
}

int64_t
hand_next_if_finished(const struct hand *hand)
{
    int64_t next = hand->next;

    if (next == OFFSET_NONE && hand->first != NULL)
        next = hand->first->offset;
    for (const struct hand_item *at = hand->first; at != NULL && at->state != HAND_READY;
         at = at->next)
        next = at->offset + 1;
    return next;
}

struct hand_item *
hand_settle(struct hand *hand)
{
    struct hand_item *settled = hand->first, *end = NULL;

    for (struct hand_item *at = hand->first; at != NULL && at->state == HAND_FINISHED;
         at = at->next) {
        end = at;
        hand->next = at->offset + 1;
        hand->n--;
    }
    if (end == NULL)
        return NULL;
    hand->first = end->next;
    if (hand->first == NULL)
        hand->last = NULL;
    end->next = NULL;
    return settled;
}

void
hand_reopen(struct hand *hand)
{
    for (struct hand_item *at = hand->first; at != NULL; at = at->next)
        if (at->state == HAND_FINISHED)
            hand_put_back(at, 0);
}

struct hand_item *
hand_empty(struct hand *hand)
{
    struct hand_item *all = hand->first;

    hand_init(hand);
    return all;
}

int64_t
hand_due_ms(const struct hand *hand)
{
    int64_t due = 0;

    for (const struct hand_item *at = hand->first; at != NULL; at = at->next)
        if (at->state == HAND_READY && at->due_ms > 0 && (due == 0 || at->due_ms < due))
            due = at->due_ms;
    return due;
}
