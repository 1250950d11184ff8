/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who of a partition's messages may be next, and how far it is finished.
 */
#include "idempotency/hand.h"

#include "test/support/run.h"

#include <string.h>

enum { ITEMS_MAX = 16, NOW = 1000 };

struct table {
    struct hand hand;
    struct hand_item items[ITEMS_MAX];
};

/* One letter for each item: its key, '-' for none; in capitals: it waits. */
static void
fill(struct table *table, const char *letters)
{
    hand_init(&table->hand);
    for (int i = 0; letters[i] != '\0'; i++) {
        char key = (char)(letters[i] | 0x20);

        table->items[i] =
            (struct hand_item){ .offset = i, .has_key = letters[i] != '-', .key = (uint64_t)key };
        hand_take(&table->hand, &table->items[i]);
        if (letters[i] != '-' && letters[i] != key)
            hand_put_back(&table->items[i], NOW + 50);
    }
}

static const struct {
    const char *name, *items, *chosen;
    size_t max;
} choices[] = {
    { "nothing", "", "", 9 },
    { "all, in their order", "aba-c", "01234", 9 },
    { "no more than asked for", "aba-c", "01", 2 },
    { "what waits holds up its key and nobody else", "Aabaab", "25", 9 },
    { "two keys wait", "ABcab-c", "256", 9 },
    { "one that waits in the middle lets earlier ones of its key pass", "aaAaa", "01", 9 },
    { "messages without a key wait for none", "A-a-", "13", 9 },
};

START_TEST(test_hand_chooses_in_order_and_keeps_a_keys_order_i23)
{
    for (size_t i = 0; i < sizeof choices / sizeof choices[0]; i++) {
        struct hand_item *chosen[ITEMS_MAX];
        char text[ITEMS_MAX + 1] = "";
        struct table table;
        size_t n;

        fill(&table, choices[i].items);
        n = hand_choose(&table.hand, NOW, chosen, choices[i].max, NULL);
        for (size_t j = 0; j < n; j++)
            text[j] = (char)('0' + chosen[j]->offset);
        ck_assert_msg(strcmp(text, choices[i].chosen) == 0, "%s: %s", choices[i].name, text);
    }
}
END_TEST

START_TEST(test_hand_gives_what_waited_when_its_time_has_come)
{
    struct hand_item *chosen[ITEMS_MAX];
    struct table table;

    fill(&table, "Aab");
    ck_assert_int_eq(hand_due_ms(&table.hand), NOW + 50);
    ck_assert_int_eq(hand_choose(&table.hand, NOW + 49, chosen, 9, NULL), 1);
    ck_assert_int_eq(hand_choose(&table.hand, NOW + 50, chosen, 9, NULL), 2);
    ck_assert_int_eq(chosen[0]->offset, 0);
    ck_assert_int_eq(chosen[1]->offset, 1);
    ck_assert_int_eq(hand_choose(&table.hand, NOW + 50, chosen, 9, NULL),
                     0); /* at work, all of them */
}
END_TEST

START_TEST(test_hand_moves_only_over_what_is_finished_without_holes)
{
    struct table table;
    struct hand_item *settled;

    fill(&table, "abc");
    table.items[2].offset = 9; /* some were compacted away */
    table.items[1].state = HAND_FINISHED;
    ck_assert_ptr_null(hand_settle(&table.hand));
    ck_assert_int_eq(hand_next_if_finished(&table.hand), 0);
    table.items[0].state = HAND_CHOSEN;
    ck_assert_int_eq(hand_next_if_finished(&table.hand), 2);
    table.items[0].state = HAND_FINISHED;
    settled = hand_settle(&table.hand);
    ck_assert_ptr_eq(settled, &table.items[0]);
    ck_assert_ptr_eq(settled->next, &table.items[1]);
    ck_assert_ptr_null(settled->next->next);
    ck_assert_int_eq(table.hand.next, 2);
    ck_assert_int_eq(table.hand.n, 1);
    table.items[2].state = HAND_FINISHED;
    hand_settle(&table.hand);
    ck_assert_int_eq(table.hand.next, 10);
    ck_assert_ptr_null(table.hand.first);
    ck_assert_int_eq(hand_next_if_finished(&table.hand), 10);
    hand_take(&table.hand, &table.items[0]);
    ck_assert_ptr_eq(table.hand.first, &table.items[0]);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "idempotency/hand",
        .tests = TESTS(test_hand_chooses_in_order_and_keeps_a_keys_order_i23,
                       test_hand_gives_what_waited_when_its_time_has_come,
                       test_hand_moves_only_over_what_is_finished_without_holes),
    });
}
