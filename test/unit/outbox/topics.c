/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is remembered of topics, and for how long.
 */
#include "outbox/topics.h"
#include "test/support/run.h"

#include <string.h>

static const struct verdict forbidden = { .scope = VERDICT_TOPIC, .reason = "forbidden" };

START_TEST(test_topics_are_found_again)
{
    static const char *const names[] = { "m", "b", "z", "a", "mm", "M" };
    struct topics topics = { 0 };
    struct topic *at[6];

    for (int i = 0; i < 6; i++)
        at[i] = topics_get(&topics, names[i]);
    for (int i = 0; i < 6; i++) {
        ck_assert_ptr_eq(topics_get(&topics, names[i]), at[i]);
        ck_assert_str_eq(at[i]->name, names[i]);
    }
    ck_assert_uint_eq(topics.n, 6);
    topics_clear(&topics);
}
END_TEST

START_TEST(test_topics_wait_for_an_answer_but_not_for_ever)
{
    struct topics topics = { 0 };
    struct topic *topic = topics_get(&topics, "t");

    ck_assert(topic_is_unknown(topic, 1000));
    topic_asked(topic, 1000);
    ck_assert(topic_is_unknown(topic, 1000 + TOPIC_ANSWER_MS - 1));
    ck_assert(!topic_is_unknown(topic, 1000 + TOPIC_ANSWER_MS));
    ck_assert_int_eq(topic->max_bytes, TOPIC_BYTES_ASSUMED);
    /* A producer that ended early has waited in vain; the next one asks again. */
    topic_interrupted(topic, 1001);
    ck_assert(topic_is_unknown(topic, 5000));
    topic_asked(topic, 5000);
    topic_interrupted(topic, 5000 + TOPIC_ANSWER_MS);
    ck_assert(!topic_is_unknown(topic, 5000 + TOPIC_ANSWER_MS));
    topic_doubt(topic);
    topic_asked(topic, 9000);
    topic_unanswered(topic);
    ck_assert(!topic_is_unknown(topic, 9000));
    ck_assert_int_eq(topic->answered_ms, 0);
    topics_clear(&topics);
}
END_TEST

/* An operator has raised the limit while the answer about the old one was still on its way, or was
 * not yet looked at. */
START_TEST(test_topics_that_are_doubted_are_not_judged_by_an_answer_of_before)
{
    struct topics topics = { 0 };
    struct topic *topic = topics_get(&topics, "t");

    topics_answered(&topics, topic, 2000, 1000);
    topic_asked(topic, 1000);
    topic_pardon(topic);
    ck_assert(topic_is_unknown(topic, 1000 + TOPIC_ANSWER_MS)); /* nobody has asked since */
    topic_asked(topic, 2000);
    ck_assert(!topics_answered(&topics, topic, 2000, 2001));
    ck_assert(topic_is_unknown(topic, 2001));
    ck_assert(topics_answered(&topics, topic, 100000, 2002));
    ck_assert(!topic_is_unknown(topic, 2002));
    ck_assert_int_eq(topic->max_bytes, 100000);
    /* What a producer that has ended was asked, it does not answer. */
    topic_doubt(topic);
    topic_asked(topic, 3000);
    topic_doubt(topic);
    topic_interrupted(topic, 3001);
    topic_asked(topic, 3002);
    ck_assert(topics_answered(&topics, topic, 3000, 3003));
    topics_clear(&topics);
}
END_TEST

START_TEST(test_topics_know_the_smallest_limit)
{
    struct topics topics = { 0 };
    struct topic *a = topics_get(&topics, "a"), *b = topics_get(&topics, "b");

    ck_assert(topics_answered(&topics, a, 5000, 1));
    ck_assert_int_eq(topics.smallest, 5000);
    ck_assert(topics_answered(&topics, b, 2000, 1));
    ck_assert_int_eq(topics.smallest, 2000);
    ck_assert(!topics_answered(&topics, b, 2000, 2));
    /* No answer is no news. */
    topic_doubt(b);
    ck_assert(!topics_answered(&topics, b, 0, 3));
    ck_assert_int_eq(b->max_bytes, 2000);
    ck_assert(topics_answered(&topics, b, 9000, 4));
    ck_assert_int_eq(topics.smallest, 5000);
    topics_clear(&topics);
}
END_TEST

START_TEST(test_topics_that_are_refused_are_tried_less_and_less_often)
{
    struct topics topics = { 0 };
    struct topic *topic = topics_get(&topics, "t");
    int64_t now = 0;

    ck_assert(!topic_is_refused(topic, now));
    for (int i = 0; i < 10; i++) {
        int64_t ms = (int64_t)TOPIC_REFUSED_MS << (i < 4 ? i : 4);

        topic_refuse(topic, &forbidden, now);
        ck_assert(topic_is_refused(topic, now + ms - 1));
        ck_assert(!topic_is_refused(topic, now + ms));
        now += ms;
    }
    topic_refuse(topic, &forbidden, now);
    topic_pardon(topic);
    ck_assert(!topic_is_refused(topic, now));
    ck_assert(topic_is_unknown(topic, now));
    topics_clear(&topics);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox/topics",
        .tests = TESTS(test_topics_are_found_again, test_topics_wait_for_an_answer_but_not_for_ever,
                       test_topics_that_are_doubted_are_not_judged_by_an_answer_of_before,
                       test_topics_know_the_smallest_limit,
                       test_topics_that_are_refused_are_tried_less_and_less_often),
    });
}
