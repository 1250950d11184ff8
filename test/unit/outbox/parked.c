/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The set of parked pairs in memory, and what a failure takes out of it again.
 */
#include "outbox/parked.h"
#include "test/support/run.h"

#include <stdio.h>
#include <string.h>

static struct row_fields
of(const char *topic, const char *key)
{
    return (struct row_fields){ .topic = topic, .key = { key, key != NULL ? strlen(key) : 0 } };
}

static bool
holds(const struct parked *parked, const char *topic, const char *key)
{
    struct row_fields fields = of(topic, key);

    return parked_holds(parked, &fields);
}

static void
add(struct parked *parked, const char *topic, const char *key, int64_t seq, const char *why)
{
    struct row_fields fields = of(topic, key);

    ck_assert(parked_add(parked, &fields, seq, why));
}

START_TEST(test_parked_holds_pairs_of_topic_and_key)
{
    struct parked parked = { 0 };

    ck_assert(!parked_any(&parked));
    add(&parked, "t", "k", 1, "why");
    ck_assert(holds(&parked, "t", "k"));
    ck_assert(!holds(&parked, "t", "K"));
    ck_assert(!holds(&parked, "tk", ""));
    ck_assert(!holds(&parked, "u", "k"));
    ck_assert(!holds(&parked, "t", NULL));
    /* An empty key is a key. */
    add(&parked, "t", "", 2, "why");
    ck_assert(holds(&parked, "t", ""));
    ck_assert(!holds(&parked, "t", NULL));
    parked_clear(&parked);
}
END_TEST

START_TEST(test_parked_without_a_key_holds_nobody_up)
{
    struct parked parked = { 0 };

    add(&parked, "t", NULL, 1, "why");
    ck_assert(!holds(&parked, "t", NULL));
    ck_assert_uint_eq(parked.n_pairs, 0);
    parked_clear(&parked);
}
END_TEST

START_TEST(test_parked_forgets_what_is_not_stored)
{
    struct parked parked = { 0 };

    add(&parked, "t", "a", 1, "why");
    add(&parked, "t", "a", 2, "");
    parked_settle(&parked, 1);
    add(&parked, "t", "b", 3, "why");
    parked_forget_rows(&parked);
    ck_assert(!holds(&parked, "t", "a"));
    ck_assert(!holds(&parked, "t", "b"));
    ck_assert_uint_eq(parked.n, 0);
    ck_assert_uint_eq(parked.settled, 0);
    parked_clear(&parked);
}
END_TEST

START_TEST(test_parked_grows_and_lets_go)
{
    struct parked parked = { 0 };
    char key[16];

    for (int i = 0; i < 5000; i++) {
        snprintf(key, sizeof key, "k%d", i);
        add(&parked, "t", key, i, "why");
    }
    for (int i = 0; i < 5000; i += 2) {
        snprintf(key, sizeof key, "k%d", i);
        parked_release(&parked, "t", (struct saga_bytes){ key, strlen(key) });
    }
    for (int i = 0; i < 5000; i++) {
        snprintf(key, sizeof key, "k%d", i);
        ck_assert_int_eq(holds(&parked, "t", key), i % 2);
    }
    ck_assert_uint_eq(parked.n_pairs, 2500);
    /* What was let go is gone; what never was there, too. */
    parked_release(&parked, "t", (struct saga_bytes){ "k0", 2 });
    ck_assert_uint_eq(parked.n_pairs, 2500);
    for (size_t i = 0; i < parked.n; i++)
        parked.rows[i].opened = NULL;
    parked_clear(&parked);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox/parked",
        .tests = TESTS(test_parked_holds_pairs_of_topic_and_key,
                       test_parked_without_a_key_holds_nobody_up,
                       test_parked_forgets_what_is_not_stored, test_parked_grows_and_lets_go),
    });
}
