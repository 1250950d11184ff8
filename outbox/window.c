/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The window of messages that are not yet acknowledged.
 */
#include "outbox/window.h"

#include <stdlib.h>

enum { FIRST_CAPACITY = 1024 };

void
window_clear(struct window *window)
{
    free(window->entries);
    *window = (struct window){ 0 };
}

void
window_reset(struct window *window)
{
    window->first = window->next = 0;
}

static struct window_entry *
entry(const struct window *window, uint64_t position)
{
    return &window->entries[position & (window->capacity - 1)];
}

static bool
grow(struct window *window)
{
    struct window larger = *window;

    larger.capacity = window->capacity > 0 ? window->capacity * 2 : FIRST_CAPACITY;
    larger.entries = malloc(larger.capacity * sizeof *larger.entries);
    if (larger.entries == NULL)
        return false;
    for (uint64_t p = window->first; p != window->next; p++)
        *entry(&larger, p) = *entry(window, p);
    free(window->entries);
    *window = larger;
    return true;
}

bool
window_push(struct window *window, int64_t seq, uint64_t *position)
{
    if (window_open(window) == window->capacity && !grow(window))
        return false;
    *entry(window, window->next) = (struct window_entry){ .seq = seq };
    *position = window->next++;
    return true;
}

bool
window_push_parked(struct window *window, int64_t seq)
{
    uint64_t position;

    if (!window_push(window, seq, &position))
        return false;
    *entry(window, position) = (struct window_entry){ .seq = seq, .acked = true, .parked = true };
    return true;
}

void
window_pop(struct window *window)
{
    window->next--;
}

int64_t
window_seq(const struct window *window, uint64_t position)
{
    return entry(window, position)->seq;
}

void
window_ack(struct window *window, uint64_t position)
{
    entry(window, position)->acked = true;
}

size_t
window_settle(struct window *window, int64_t *seq, size_t *parked)
{
    size_t n = 0;

    *parked = 0;
    for (; window->first != window->next && entry(window, window->first)->acked; n++) {
        *parked += entry(window, window->first)->parked ? 1 : 0;
        *seq = entry(window, window->first++)->seq;
    }
    return n;
}

size_t
window_open(const struct window *window)
{
    return (size_t)(window->next - window->first);
}
