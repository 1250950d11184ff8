/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a consumer says of topics that keep messages for longer than they are known.
 */
#include "base/log.h"
#include "test/support/consumer.h"
#include "test/support/kafka.h"
#include "test/support/mock.h"
#include "test/support/redis.h"
#include "test/support/run.h"
#include "test/support/wait.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char said[4096];

static void
note(void *user, int32_t level, const char *message, const struct saga_pair *fields)
{
    log_to_stderr(user, level, message, fields);
    if (strncmp(message, "the topic keeps", 15) != 0 &&
        strncmp(message, "Kafka does not tell", 19) != 0)
        return;
    pthread_mutex_lock(&lock);
    strcat(said, level == SAGA_LOG_WARNING ? "warning " : "info ");
    for (; fields->name != NULL; fields++)
        snprintf(said + strlen(said), sizeof said - strlen(said), "%s; ", fields->value);
    snprintf(said + strlen(said), sizeof said - strlen(said), "%s\n", message);
    pthread_mutex_unlock(&lock);
}

static bool
has_said(const char *text)
{
    bool found;

    pthread_mutex_lock(&lock);
    found = strstr(said, text) != NULL;
    pthread_mutex_unlock(&lock);
    return found;
}

static int
lines_said(void)
{
    int n = 0;

    pthread_mutex_lock(&lock);
    for (const char *at = said; (at = strchr(at, '\n')) != NULL; at++)
        n++;
    pthread_mutex_unlock(&lock);
    return n;
}

START_TEST(test_consumer_says_which_topic_outlives_the_inbox_and_what_to_change)
{
    struct fixture *fixture = given_consumer_fixture(2);
    const char *usual = GIVEN_TOPIC(1, "retention.ms=604800000");
    const char *long_kept = GIVEN_TOPIC(1, "retention.ms=3456000000");
    const char *forever = GIVEN_TOPIC(1, "cleanup.policy=compact");
    struct saga_consumer *consumer = GIVEN_CONSUMER(fixture, .log = note);

    ALTER_TOPIC(fixture->topic, "retention.ms=1296000000");
    db_exec(fixture->conn, "SELECT idempotency.keep('foreign', '12 days', 'a test')");
    ck_assert_int_eq(saga_consumer_subscribe(consumer, usual, apply_effect, NULL, NULL), 0);
    ck_assert_int_eq(saga_consumer_subscribe(consumer, long_kept, apply_effect, NULL, NULL), 0);
    ck_assert_int_eq(saga_consumer_subscribe(consumer, forever, apply_effect, NULL, NULL), 0);
    start_running(consumer);
    WAIT_UNTIL(lines_said() == 6, 10000);
    ck_assert(has_said(text_of("%s; 15.0 days; 10.0 days; 5.0 days; SELECT idempotency.keep("
                               "'inbox', '16 days', 'as long as the topics'), or the topic's "
                               "retention.ms; the topic keeps messages for longer than the inbox",
                               fixture->topic)));
    ck_assert(has_said(text_of("%s; 15.0 days; 12.0 days; 3.0 days; SELECT idempotency.keep("
                               "'foreign', '16 days', 'as long as the topics'), or the topic's "
                               "retention.ms; the topic keeps messages for longer than ids",
                               fixture->topic)));
    /* The inbox has no room for so many days. */
    ck_assert(has_said(text_of("%s; 40.0 days; 10.0 days; 30.0 days; the topic's", long_kept)));
    ck_assert(has_said(text_of("%s; 40.0 days; 12.0 days; 28.0 days; SELECT idempotency.keep("
                               "'foreign', '41 days', 'as long as the topics')",
                               long_kept)));
    ck_assert(has_said(text_of("%s; for ever; 10.0 days; for ever; the topic's", forever)));
    ck_assert(has_said(text_of("%s; for ever; 12.0 days; for ever; the topic's", forever)));
    ck_assert(
        has_said("known that are not of version 7: what is read again after that is applied"));
    ck_assert(!has_said(usual));
    db_exec(fixture->conn, "SELECT idempotency.keep('inbox', '16 days', 'as long as the topics'),"
                           " idempotency.keep('foreign', '41 days', 'as long as the topics')");
}
END_TEST

START_TEST(test_consumer_with_redis_alone_says_that_the_window_is_short)
{
    struct fixture *fixture = given_consumer_fixture(1);

    ALTER_TOPIC(fixture->topic, "retention.ms=7200000");
    start_running(GIVEN_CONSUMER(fixture, .log = note, .redis = redis_address(),
                                 .mode = SAGA_MODE_REDIS, .window_ms = 1800000));
    WAIT_UNTIL(has_said(text_of("warning %s; 2.0 h; 30.0 min; 90.0 min; the consumer's window_ms",
                                fixture->topic)),
               10000);
}
END_TEST

/* By default it is always shorter than the topic: no reason for a warning at every start. */
START_TEST(test_consumer_with_redis_alone_and_the_default_window_only_tells)
{
    struct fixture *fixture = given_consumer_fixture(1);

    ALTER_TOPIC(fixture->topic, "retention.ms=604800000");
    start_running(
        GIVEN_CONSUMER(fixture, .log = note, .redis = redis_address(), .mode = SAGA_MODE_REDIS));
    WAIT_UNTIL(has_said(text_of("info %s; 7.0 days; 5.0 min; 7.0 days; the consumer's window_ms",
                                fixture->topic)),
               10000);
}
END_TEST

/* A broker that knows no such question; nobody waits for it. */
START_TEST(test_consumer_that_is_not_told_the_retention_goes_on)
{
    struct mock *broker = given_mock();
    struct fixture fixture = { .conninfo = given_database(),
                               .topic = unique_name("topic"),
                               .group = unique_name("group"),
                               .conn = db_connect(fixture.conninfo) };

    db_exec(fixture.conn, "CREATE TABLE effect (message_id uuid NOT NULL)");
    mock_topic(broker, fixture.topic, 1);
    produce_messages(&fixture, 0, 5);
    start_running(GIVEN_CONSUMER(&fixture, .log = note));
    WAIT_UNTIL(effects_are(&fixture, 5, 5), 10000);
    WAIT_UNTIL(has_said("Kafka does not tell"), 10000);
    PQfinish(fixture.conn);
}
END_TEST

START_TEST(test_example_shows_what_its_consumer_warns_of)
{
    struct process *bank;

    create_topic("bank.commands", 1, (const char *const[]){ "retention.ms=1296000000", NULL });
    bank =
        start_process(ARGS("examples/answer_later", given_database(), "listen", brokers()), NULL);
    WAIT_UNTIL(strstr(process_errors(bank), "warning: the topic keeps messages") != NULL, 10000);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "idempotency_horizon",
        .tests = TESTS(test_consumer_says_which_topic_outlives_the_inbox_and_what_to_change,
                       test_consumer_with_redis_alone_says_that_the_window_is_short,
                       test_consumer_with_redis_alone_and_the_default_window_only_tells,
                       test_consumer_that_is_not_told_the_retention_goes_on,
                       test_example_shows_what_its_consumer_warns_of),
        .timeout_s = 40,
    });
}
