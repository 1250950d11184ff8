/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gate against a real Redis, behind a proxy that loses and delays, and
 * against one that talks nonsense.
 */
#include "base/clock.h"
#include "idempotency/gate.h"
#include "test/support/proxy.h"
#include "test/support/redis.h"
#include "test/support/run.h"
#include "test/support/server.h"
#include "test/support/wait.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char hash[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
static const char other_hash[] = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

static void
free_gate(void *gate)
{
    gate_free(gate);
}

static struct gate *
given_gate(const char *address, int32_t lease_ms, int32_t window_ms)
{
    const struct gate_options options = { .without = "without",
                                          .address = address,
                                          .timeout_ms = 200,
                                          .lease_ms = lease_ms,
                                          .window_ms = window_ms };
    struct gate *gate = NULL;
    struct saga_error err;

    ck_assert_msg(gate_new(&gate, &options, &err) == 0, "%s", err.message);
    at_test_end(free_gate, gate);
    return gate;
}

/* One mark, with a lease, as a consumer without an inbox asks. */
static enum gate_verdict
enter(struct gate *gate, const char *mark, const char *its_hash)
{
    struct gate_question question = { .hash = its_hash };

    gate_enter(gate, mark, &question);
    return question.verdict;
}

static void
done(struct gate *gate, const char *mark, const char *its_hash)
{
    const struct gate_question question = { .hash = its_hash };

    gate_done(gate, mark, &question, 1);
    gate_settle(gate);
}

static redisContext *
given_redis(void)
{
    return redis_open(redis_address());
}

static enum gate_lease
prolong(struct gate *gate, const char *mark)
{
    const struct gate_question question = { .hash = hash };

    return gate_prolong(gate, mark, &question);
}

START_TEST(test_gate_tells_new_busy_and_done_apart_i4)
{
    const char *mark = unique_name("mark");
    struct gate *one = given_gate(redis_address(), 30000, 30000);
    struct gate *two = given_gate(redis_address(), 30000, 30000);

    ck_assert_int_eq(enter(one, mark, hash), GATE_GO);
    ck_assert_int_eq(enter(two, mark, hash), GATE_BUSY);
    ck_assert_int_eq(enter(one, mark, hash), GATE_GO); /* its own */
    done(one, mark, hash);
    ck_assert_int_eq(enter(two, mark, hash), GATE_SKIP);
    ck_assert_int_eq(enter(one, mark, hash), GATE_SKIP);
    ck_assert_int_eq(enter(two, mark, other_hash), GATE_GO);
}
END_TEST

/* trap: I4, I6 */
START_TEST(test_gate_busy_ends_with_the_lease_and_done_with_the_window_i4_i6)
{
    const char *mark = unique_name("mark");
    struct gate *one = given_gate(redis_address(), 400, 60000);
    struct gate *two = given_gate(redis_address(), 400, 60000);
    redisContext *redis = given_redis();

    ck_assert_int_eq(enter(one, mark, hash), GATE_GO);
    ck_assert_int_le(redis_int(redis, "PTTL %s", mark), 400);
    expect_every_key_expires(redis, mark);
    WAIT_UNTIL(enter(two, mark, hash) == GATE_GO, 2000); /* `one` has died */
    done(two, mark, hash);
    ck_assert_int_gt(redis_int(redis, "PTTL %s", mark), 30000);
    expect_every_key_expires(redis, mark);
    redisFree(redis);
}
END_TEST

/* trap: I5 */
START_TEST(test_gate_of_one_who_slept_past_its_lease_leaves_the_successors_mark_i5)
{
    const char *mark = unique_name("mark"), *successors;
    struct gate *slow = given_gate(redis_address(), 200, 60000);
    struct gate *successor = given_gate(redis_address(), 60000, 60000);
    redisContext *redis = given_redis();

    ck_assert_int_eq(enter(slow, mark, hash), GATE_GO);
    WAIT_UNTIL(enter(successor, mark, hash) == GATE_GO, 2000);
    successors = redis_text(redis, "GET %s", mark);
    ck_assert_int_eq(enter(slow, mark, hash), GATE_BUSY);
    ck_assert_str_eq(redis_text(redis, "GET %s", mark), successors);
    redisFree(redis);
}
END_TEST

/* Asks, demands the answer "go on", and tells how many answers Redis has given. */
static int
answers_after_going_on(struct gate *gate, const char *mark, struct proxy *proxy)
{
    ck_assert_int_eq(enter(gate, mark, hash), GATE_GO);
    return proxy_answers(proxy);
}

/* trap: I3: whichever answer is lost, the next question goes on: at once by
 * our own token, never waiting for ourselves. */
/* trap: I5 */
START_TEST(test_gate_prolongs_a_lease_only_while_it_is_its_own_i5)
{
    const char *mark = unique_name("mark");
    struct gate *one = given_gate(redis_address(), 400, 30000);
    struct gate *two = given_gate(redis_address(), 30000, 30000);

    ck_assert_int_eq(prolong(one, mark), GATE_LEASE_LOST); /* and none is made */
    ck_assert_int_eq(enter(one, mark, hash), GATE_GO);
    STAYS_TRUE(prolong(one, mark) == GATE_LEASE_OURS && enter(two, mark, hash) == GATE_BUSY, 1000);
    WAIT_UNTIL(enter(two, mark, hash) == GATE_GO, 5000);
    ck_assert_int_eq(prolong(one, mark), GATE_LEASE_LOST);
    ck_assert_int_eq(enter(one, mark, hash), GATE_BUSY);
    done(two, mark, hash);
    ck_assert_int_eq(prolong(two, mark), GATE_LEASE_LOST);
    ck_assert_int_eq(enter(one, mark, hash), GATE_SKIP);
}
END_TEST

START_TEST(test_gate_does_not_know_of_a_lease_what_redis_does_not_say_i8)
{
    struct server *server = GIVEN_SERVER("redis");
    struct gate *gate = given_gate(server->address, 30000, 30000);

    ck_assert_int_eq(enter(gate, "mark", hash), GATE_GO);
    server_freeze(server);
    ck_assert_int_eq(prolong(gate, "mark"), GATE_LEASE_UNKNOWN);
    server_thaw(server);
    WAIT_UNTIL(prolong(gate, "mark") == GATE_LEASE_OURS, 20000);
}
END_TEST

START_TEST(test_gate_that_meets_its_own_mark_goes_on_i3)
{
    for (int nth = 1; nth <= 4; nth++) {
        struct proxy *proxy = given_proxy(redis_address());
        struct gate *gate = given_gate(proxy_address(proxy), 30000, 30000);

        proxy_swallow(proxy, nth);
        for (int i = 0; i < 4; i++) {
            const char *mark = unique_name("mark");
            int seen = proxy_answers(proxy);

            ck_assert_int_eq(enter(gate, mark, hash), GATE_GO);
            /* Until it has really asked again, and not only gone on without. */
            WAIT_UNTIL(answers_after_going_on(gate, mark, proxy) > seen + 1, 3000);
        }
    }
}
END_TEST

/* trap: I24 */
START_TEST(test_gate_never_takes_a_late_answer_for_the_next_questions_i24)
{
    const char *mark = unique_name("done");
    struct gate *writer = given_gate(redis_address(), 30000, 30000);
    struct proxy *proxy = given_proxy(redis_address());
    struct gate *gate = given_gate(proxy_address(proxy), 30000, 30000);

    done(writer, mark, hash);
    proxy_delay(proxy, 1, 500);
    ck_assert_int_eq(enter(gate, mark, hash), GATE_GO); /* too late to be believed */
    WAIT_UNTIL(answers_after_going_on(gate, unique_name("new"), proxy) > 4, 5000);
    ck_assert_int_eq(enter(gate, mark, hash), GATE_SKIP);
}
END_TEST

START_TEST(test_gate_without_redis_costs_nothing_and_notices_its_return_i8)
{
    struct server *server = GIVEN_SERVER("redis");
    struct gate *gate = given_gate(server->address, 30000, 30000);
    int64_t from;

    done(gate, "mark", hash);
    ck_assert_int_eq(enter(gate, "mark", hash), GATE_SKIP);
    server_kill(server);
    ck_assert_int_eq(enter(gate, "mark", hash), GATE_GO);
    from = monotonic_us();
    for (int i = 0; i < 10000; i++)
        ck_assert_int_eq(enter(gate, "mark", hash), GATE_GO);
    ck_assert_int_lt(monotonic_us() - from, 1000000);
    server_start(server);
    WAIT_UNTIL((done(gate, "mark", hash), enter(gate, "mark", hash) == GATE_SKIP), 20000);
}
END_TEST

START_TEST(test_gate_does_not_wait_for_a_redis_that_stands_still_i8)
{
    struct server *server = GIVEN_SERVER("redis");
    struct gate *gate = given_gate(server->address, 30000, 30000);
    int64_t from;

    done(gate, "mark", hash);
    server_freeze(server);
    from = monotonic_us();
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(enter(gate, "mark", hash), GATE_GO);
    ck_assert_int_lt(monotonic_us() - from, 500000);
    server_thaw(server);
    WAIT_UNTIL(enter(gate, "mark", hash) == GATE_SKIP, 20000);
}
END_TEST

/* --- a server that answers what it likes ------------------------------------ */

struct fake {
    int fd;
    const char *const *answers; /* one for each thing read, over all connections */
    char heard[4096];
};

static void *
serve(void *arg)
{
    struct fake *fake = arg;
    char bytes[1024];

    for (const char *const *answer = fake->answers; *answer != NULL;) {
        int fd = accept(fake->fd, NULL, NULL);
        ssize_t n;

        while (fd >= 0 && *answer != NULL && (n = recv(fd, bytes, sizeof bytes - 1, 0)) > 0) {
            bytes[n] = '\0';
            strncat(fake->heard, bytes, sizeof fake->heard - strlen(fake->heard) - 1);
            n = send(fd, *answer, strlen(*answer), MSG_NOSIGNAL);
            answer++;
        }
        close(fd);
    }
    return NULL;
}

static const char *
start_fake(struct fake *fake, pthread_t *thread)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof address;

    fake->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(fake->fd, (struct sockaddr *)&address, len), 0);
    ck_assert_int_eq(listen(fake->fd, 5), 0);
    getsockname(fake->fd, (struct sockaddr *)&address, &len);
    pthread_create(thread, NULL, serve, fake);
    return text_of("127.0.0.1:%d", ntohs(address.sin_port));
}

static void
expect_nothing_of(const char *nonsense)
{
    const char *answers[] = { nonsense, NULL };
    struct gate_question questions[2] = { { .suffix = "1", .hash = hash },
                                          { .suffix = "2", .hash = hash } };
    struct fake fake = { .answers = answers };
    pthread_t thread;
    struct gate *gate = given_gate(start_fake(&fake, &thread), 30000, 30000);
    int64_t from = monotonic_us();

    gate_ask(gate, "mark", questions, 2);
    gate_hear(gate, questions, 2);
    for (int i = 0; i < 2; i++)
        ck_assert_msg(questions[i].verdict == GATE_GO && !questions[i].leased, "%s", nonsense);
    ck_assert_msg(monotonic_us() - from < 200000, "%s", nonsense);
    pthread_join(thread, NULL);
    close(fake.fd);
}

START_TEST(test_gate_goes_on_after_every_kind_of_nonsense_i8)
{
    static const char *const nonsense[] = {
        "garbage\r\n",
        "*1000000000\r\n",
        "*1\r\n$69\r\n",
        "*1\r\n$-1\r\n",
        "*2\r\n:1\r\n:2\r\n",
        "*2\r\n*1\r\n$-1\r\n$-1\r\n",
        "*2\r\n$-1\r\n-ERR no\r\n",
        "*2\r\n$-1\r\n$-1\r\n+OK\r\n",
        "$2000000000\r\nxx",
        "$-7\r\n",
        ":1\r\n",
        "+OK\r\n+OK\r\n",
        "-LOADING Redis is loading the dataset in memory\r\n",
        "-OOM command not allowed when used memory > 'maxmemory'.\r\n",
        "-READONLY You can't write against a read only replica.\r\n",
        "$5\r\nbusy:\r\n",
        "$3\r\n",
        "\r\n",
        "+OK\r\n",
    };

    for (size_t i = 0; i < sizeof nonsense / sizeof nonsense[0]; i++) {
        const char *answers[] = { nonsense[i], NULL };
        struct fake fake = { .answers = answers };
        pthread_t thread;
        struct gate *gate = given_gate(start_fake(&fake, &thread), 30000, 30000);
        int64_t from = monotonic_us();

        ck_assert_msg(enter(gate, "mark", hash) == GATE_GO, "%s", nonsense[i]);
        ck_assert_msg(monotonic_us() - from < 200000, "%s", nonsense[i]);
        pthread_join(thread, NULL);
        close(fake.fd);
        expect_nothing_of(nonsense[i]);
    }
}
END_TEST

static char done_mark[100];

/* An answer of the right kind for two marks: the first is done, the second not there. */
START_TEST(test_gate_asks_for_many_marks_at_once)
{
    const char *answers[] = { done_mark, NULL };
    struct gate_question questions[2] = { { .suffix = "1", .hash = hash },
                                          { .suffix = "2", .hash = hash } };
    struct fake fake = { .answers = answers };
    pthread_t thread;
    struct gate *gate = given_gate(start_fake(&fake, &thread), 30000, 30000);

    snprintf(done_mark, sizeof done_mark, "*2\r\n$69\r\ndone:%s\r\n$-1\r\n", hash);
    gate_ask(gate, "mark", questions, 2);
    gate_hear(gate, questions, 2);
    pthread_join(thread, NULL);
    close(fake.fd);
    ck_assert_str_eq(fake.heard, "*3\r\n$4\r\nMGET\r\n$5\r\nmark1\r\n$5\r\nmark2\r\n");
    ck_assert_int_eq(gate_circuit(gate), GATE_CLOSED);
    ck_assert_int_eq(questions[0].verdict, GATE_SKIP);
    ck_assert_int_eq(questions[1].verdict, GATE_GO);
    ck_assert(questions[1].absent);
}
END_TEST

START_TEST(test_gate_asks_an_older_redis_in_two_commands)
{
    static const char *const answers[] = { "-ERR syntax error\r\n", "*1\r\n$-1\r\n", "+OK\r\n",
                                           "*1\r\n$21\r\nbusy:ffffffffffffffff\r\n", NULL };
    struct fake fake = { .answers = answers };
    pthread_t thread;
    struct gate *gate = given_gate(start_fake(&fake, &thread), 1234, 30000);

    ck_assert_int_eq(enter(gate, "mark", hash), GATE_GO);
    ck_assert_int_eq(enter(gate, "mark", hash), GATE_BUSY);
    pthread_join(thread, NULL);
    close(fake.fd);
    ck_assert_ptr_nonnull(strstr(fake.heard, "$2\r\nNX\r\n$2\r\nPX\r\n$4\r\n1234\r\n"));
}
END_TEST

/* --- what is logged -------------------------------------------------------------- */

static int64_t ahead_ms;
static char logged[8][40]; /* "unlogged_outages" of a warning, or "again" */
static int n_logged;

static int64_t
clock_ahead(void)
{
    return monotonic_us() / 1000 + ahead_ms;
}

static void
note_log(void *user, int32_t level, const char *message, const struct saga_pair *fields)
{
    const char *what = strrchr(message, ' ') + 1;

    (void)user;
    for (; level == SAGA_LOG_WARNING && fields->name != NULL; fields++)
        if (strcmp(fields->name, "unlogged_outages") == 0)
            what = fields->value;
    ck_assert_int_lt(n_logged, 8);
    snprintf(logged[n_logged++], sizeof logged[0], "%s", what);
}

/* The circuit's delay after one failure passes at once. */
static void
come_back(struct gate *gate, struct proxy *proxy, const char *mark)
{
    proxy_refuse(proxy, false);
    ahead_ms += 300;
    enter(gate, mark, hash);
    ck_assert_int_eq(gate_circuit(gate), GATE_CLOSED);
}

static void
go_away(struct gate *gate, struct proxy *proxy, const char *mark)
{
    proxy_refuse(proxy, true);
    proxy_cut_now(proxy);
    WAIT_UNTIL((enter(gate, mark, hash), gate_circuit(gate) != GATE_CLOSED), 3000);
}

START_TEST(test_gate_logs_a_redis_that_comes_and_goes_once_in_ten_seconds)
{
    struct saga_log log = { .write = note_log, .level = SAGA_LOG_INFO };
    struct proxy *proxy = given_proxy(redis_address());
    const char *mark = unique_name("mark");
    const struct gate_options options = { .address = proxy_address(proxy),
                                          .timeout_ms = 200,
                                          .lease_ms = 30000,
                                          .window_ms = 30000,
                                          .without = "Redis is of no use",
                                          .log = &log };
    struct gate *gate = NULL;

    ck_assert_int_eq(gate_new(&gate, &options, NULL), 0);
    at_test_end(free_gate, gate);
    clock_replace(NULL, clock_ahead);
    enter(gate, mark, hash);
    for (int i = 0; i < 5; i++) {
        go_away(gate, proxy, mark);
        come_back(gate, proxy, mark);
    }
    ck_assert_int_eq(n_logged, 2);
    ck_assert_str_eq(logged[0], "0");
    ck_assert_str_eq(logged[1], "again");

    ahead_ms += 10000;
    go_away(gate, proxy, mark);
    ck_assert_int_eq(n_logged, 3);
    ck_assert_str_eq(logged[2], "4");
    come_back(gate, proxy, mark);
    ck_assert_str_eq(logged[3], "again");

    /* Nobody has heard of this one; but it lasts, and then they do. */
    go_away(gate, proxy, mark);
    ck_assert_int_eq(n_logged, 4);
    ahead_ms += 11000;
    enter(gate, mark, hash);
    ck_assert_int_eq(n_logged, 5);
    ck_assert_str_eq(logged[4], "0");
    ahead_ms += 30000;
    enter(gate, mark, hash);
    ck_assert_int_eq(n_logged, 5);
    ahead_ms += 31000;
    enter(gate, mark, hash);
    ck_assert_int_eq(n_logged, 6);
    clock_replace(NULL, NULL);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "idempotency_gate",
        .tests = TESTS(test_gate_tells_new_busy_and_done_apart_i4,
                       test_gate_busy_ends_with_the_lease_and_done_with_the_window_i4_i6,
                       test_gate_of_one_who_slept_past_its_lease_leaves_the_successors_mark_i5,
                       test_gate_prolongs_a_lease_only_while_it_is_its_own_i5,
                       test_gate_does_not_know_of_a_lease_what_redis_does_not_say_i8,
                       test_gate_that_meets_its_own_mark_goes_on_i3,
                       test_gate_never_takes_a_late_answer_for_the_next_questions_i24,
                       test_gate_without_redis_costs_nothing_and_notices_its_return_i8,
                       test_gate_does_not_wait_for_a_redis_that_stands_still_i8,
                       test_gate_goes_on_after_every_kind_of_nonsense_i8,
                       test_gate_asks_for_many_marks_at_once,
                       test_gate_asks_an_older_redis_in_two_commands,
                       test_gate_logs_a_redis_that_comes_and_goes_once_in_ten_seconds),
        .timeout_s = 40,
    });
}
