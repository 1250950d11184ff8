/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whom a refusal is blamed on. trap: O26
 */
#include "outbox/judge.h"
#include "test/support/run.h"

#include <librdkafka/rdkafka.h>

enum { NOW = 1000000 };

static struct topics topics;
static struct topic *topic;
static struct judge judge;

static void
setup(void)
{
    topics = (struct topics){ 0 };
    judge = (struct judge){ 0 };
    topic = topics_get(&topics, "t");
    topics_answered(&topics, topic, 2000, NOW);
}

static void
teardown(void)
{
    judge_clear(&judge);
    topics_clear(&topics);
}

static enum judgement
judged(int64_t seq, int64_t bytes)
{
    const struct verdict *verdict;

    return judge_row(&judge, &(struct judge_case){ .topic = topic, .seq = seq, .bytes = bytes },
                     NOW, &verdict);
}

static void
refused(int64_t seq, int error)
{
    judge_refused(&judge, topic, seq, error, NOW);
}

START_TEST(test_judge_o26_sends_by_its_table)
{
    static const struct {
        const char *name;
        int64_t bytes;
        bool behind, compresses;
        int64_t age_ms;
        enum judgement judgement;
    } cases[] = {
        { "within the limit", 2000, false, false, 0, JUDGED_SEND },
        { "too large", 2001, false, false, 0, JUDGED_PARK },
        { "too large by an old answer", 2001, false, false, JUDGE_STALE_MS, JUDGED_ASK },
        { "too large, but it may be compressed", 2001, false, true, 0, JUDGED_ALONE },
        { "small, and its key is parked", 10, true, false, 0, JUDGED_PARK },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct judge_case row = { topic, 1, cases[i].bytes, cases[i].behind };
        const struct verdict *verdict;

        judge.compresses = cases[i].compresses;
        ck_assert_msg(judge_row(&judge, &row, NOW + cases[i].age_ms, &verdict) ==
                          cases[i].judgement,
                      "%s", cases[i].name);
        ck_assert_msg((verdict != NULL) == (i == 1), "%s", cases[i].name);
    }
}
END_TEST

/* The limit may have been raised since it was last heard of: only the broker
 * can say, and everybody else does not wait until somebody answers. */
START_TEST(test_judge_o26_parks_nothing_by_an_old_limit_after_a_question_without_answer)
{
    const struct judge_case row = { topic, 1, 2001, false };
    const int64_t asked = NOW + JUDGE_STALE_MS, later = asked + 5000;
    const struct verdict *verdict;

    topic_asked(topic, asked);
    ck_assert_int_eq(judge_row(&judge, &row, later, &verdict), JUDGED_ASK); /* it may still come */
    topic_unanswered(topic);
    ck_assert_int_eq(judge_row(&judge, &row, later, &verdict), JUDGED_ALONE);
    ck_assert_int_eq(judge_row(&judge, &row, asked + JUDGE_STALE_MS, &verdict), JUDGED_ASK);
    topic_asked(topic, later);
    topics_answered(&topics, topic, 2000, later);
    ck_assert_int_eq(judge_row(&judge, &row, later, &verdict), JUDGED_PARK);
}
END_TEST

/* An operator believes that the limit has been raised; the brokers are slow to say so. */
START_TEST(test_judge_o27_parks_nothing_by_a_limit_of_before_it_was_pardoned)
{
    const struct judge_case row = { topic, 1, 2001, false };
    const struct verdict *verdict;

    topic_pardon(topic);
    topic_asked(topic, NOW);
    ck_assert_int_eq(judge_row(&judge, &row, NOW + TOPIC_ANSWER_MS, &verdict), JUDGED_ASK);
    topics_answered(&topics, topic, 2000, NOW + 1000);
    ck_assert_int_eq(judge_row(&judge, &row, NOW + 1000, &verdict), JUDGED_PARK);
}
END_TEST

START_TEST(test_judge_o26_a_batch_is_suspected_and_who_is_refused_alone_is_parked)
{
    for (int64_t seq = 30; seq > 0; seq -= 3)
        refused(seq, RD_KAFKA_RESP_ERR_INVALID_RECORD);
    for (int64_t seq = 1; seq <= 31; seq++)
        ck_assert_int_eq(judged(seq, 10), seq % 3 == 0 ? JUDGED_ALONE : JUDGED_SEND);
    ck_assert(judge_sends_alone(&judge, topic, 9));
    refused(9, RD_KAFKA_RESP_ERR_INVALID_RECORD);
    ck_assert_int_eq(judged(9, 10), JUDGED_PARK);
    ck_assert_int_eq(judged(12, 10), JUDGED_ALONE);
    judge_close(&judge);
    ck_assert_int_eq(judged(9, 10), JUDGED_SEND);
}
END_TEST

/* The limit was another one than we knew; by the new one nobody else is guilty. */
START_TEST(test_judge_o26_a_new_limit_acquits)
{
    refused(1, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
    refused(2, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
    refused(3, RD_KAFKA_RESP_ERR_INVALID_RECORD);
    ck_assert_int_eq(judged(1, 10), JUDGED_ASK);
    ck_assert(topics_answered(&topics, topic, 1000, NOW));
    judge_acquit(&judge, topic);
    ck_assert_int_eq(judged(1, 10), JUDGED_SEND);
    ck_assert_int_eq(judged(2, 1500), JUDGED_PARK);
    ck_assert_int_eq(judged(3, 10), JUDGED_ALONE);
}
END_TEST

START_TEST(test_judge_o14_a_topic_is_refused_as_a_whole)
{
    refused(1, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    ck_assert_int_eq(judged(1, 10), JUDGED_PARK);
    ck_assert_int_eq(judged(2, 10), JUDGED_PARK);
    topic_pardon(topic);
    topics_answered(&topics, topic, 2000, NOW);
    ck_assert_int_eq(judged(1, 10), JUDGED_SEND);
}
END_TEST

/* One broker that has just started does not know it yet. */
START_TEST(test_judge_does_not_believe_that_a_topic_has_vanished)
{
    topic->delivered = true;
    refused(1, RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC);
    ck_assert(!judge_not_taken(&judge, topic, 1, RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC, NOW));
    ck_assert_int_eq(judged(1, 10), JUDGED_SEND);
    ck_assert_int_eq(judge.findings, 0);
    topic->delivered = false;
    refused(1, RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC);
    ck_assert_int_eq(judged(1, 10), JUDGED_PARK);
}
END_TEST

START_TEST(test_judge_finds_nothing_in_what_may_pass)
{
    refused(1, RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS);
    ck_assert_int_eq(judged(1, 10), JUDGED_SEND);
    ck_assert_int_eq(judge.findings, 0);
}
END_TEST

/* librdkafka has looked at this one message only. */
START_TEST(test_judge_parks_what_is_not_even_taken)
{
    ck_assert(judge_not_taken(&judge, topic, 5, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, NOW));
    ck_assert_int_eq(judged(5, 10), JUDGED_PARK);
    ck_assert_int_eq(judged(6, 10), JUDGED_SEND);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox/judge",
        .tests = TESTS(
            test_judge_o26_sends_by_its_table,
            test_judge_o26_parks_nothing_by_an_old_limit_after_a_question_without_answer,
            test_judge_o27_parks_nothing_by_a_limit_of_before_it_was_pardoned,
            test_judge_o26_a_batch_is_suspected_and_who_is_refused_alone_is_parked,
            test_judge_o26_a_new_limit_acquits, test_judge_o14_a_topic_is_refused_as_a_whole,
            test_judge_does_not_believe_that_a_topic_has_vanished,
            test_judge_finds_nothing_in_what_may_pass, test_judge_parks_what_is_not_even_taken),
        .setup = setup,
        .teardown = teardown,
    });
}
