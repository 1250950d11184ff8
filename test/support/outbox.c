/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An outbox under test.
 */
#include "test/support/outbox.h"

#include "test/support/run.h"
#include "test/support/wait.h"

#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- writing ----------------------------------------------------------- */

void
enqueue(PGconn *conn, const char *topic, const char *key, const char *value)
{
    db_exec(conn, "SELECT outbox.enqueue('%s', convert_to('%s', 'UTF8'), nullif('%s', ''))", topic,
            value, key != NULL ? key : "");
}

void
enqueue_many(PGconn *conn, const char *topic, const char *prefix, int n)
{
    db_exec(conn,
            "INSERT INTO outbox.message (message_id, topic, key, payload)"
            " SELECT gen_random_uuid(), '%s', 'k' || g %% 10, convert_to('%s' || g, 'UTF8')"
            "   FROM generate_series(1, %d) g",
            topic, prefix, n);
}

PGconn *
open_transaction(const char *conninfo)
{
    PGconn *conn = given_session(conninfo);

    db_exec(conn, "BEGIN");
    db_exec(conn, "SELECT pg_current_xact_id()");
    return conn;
}

/* --- relays ------------------------------------------------------------ */

struct relay_thread {
    struct saga_relay *relay;
    pthread_t thread;
    bool joined;
    atomic_bool ended;
    int answer;
    struct saga_error err;
};

static void
show_log(void *user, int32_t level, const char *message, const struct saga_pair *fields)
{
    (void)user;
    (void)level;
    fprintf(stderr, "relay: %s", message);
    for (; fields->name != NULL; fields++)
        fprintf(stderr, " %s=%s", fields->name, fields->value);
    fputc('\n', stderr);
}

static struct saga_relay *
make_relay(const struct saga_relay_options *options)
{
    struct saga_relay_options filled = *options;
    struct saga_relay *relay;
    struct saga_error err;

    if (filled.brokers == NULL)
        filled.brokers = brokers();
    if (filled.log.write == NULL)
        filled.log = (struct saga_log){ .write = show_log, .level = SAGA_LOG_INFO };
    ck_assert_msg(saga_relay_new(&relay, &filled, &err) == 0, "%s", err.message);
    return relay;
}

static void *
run_relay(void *arg)
{
    struct relay_thread *relay = arg;

    relay->answer = saga_relay_run(relay->relay, SAGA_RELAY_UNTIL_STOP, &relay->err);
    if (relay->answer != 0)
        fprintf(stderr, "relay: %s\n", relay->err.message);
    relay->ended = true;
    return NULL;
}

static void
end_relay(void *arg)
{
    struct relay_thread *relay = arg;

    stop_relay(relay);
    saga_relay_free(relay->relay);
    free(relay);
}

struct relay_thread *
start_relay(const struct saga_relay_options *options)
{
    struct relay_thread *relay = calloc(1, sizeof *relay);

    ck_assert_ptr_nonnull(relay);
    relay->relay = make_relay(options);
    ck_assert_int_eq(pthread_create(&relay->thread, NULL, run_relay, relay), 0);
    at_test_end(end_relay, relay);
    return relay;
}

int
stop_relay(struct relay_thread *relay)
{
    if (!relay->joined) {
        saga_relay_stop(relay->relay);
        pthread_join(relay->thread, NULL);
        relay->joined = true;
    }
    return relay->answer;
}

bool
relay_ended(const struct relay_thread *relay)
{
    return relay->ended;
}

int
relay_answer(const struct relay_thread *relay)
{
    ck_assert(relay->ended);
    return relay->answer;
}

struct saga_relay_stats
relay_stats(const struct relay_thread *relay)
{
    struct saga_relay_stats stats = { SAGA_RELAY_STATS };

    saga_relay_stats(relay->relay, &stats);
    return stats;
}

int
publish_once_with(const struct saga_relay_options *options, struct saga_error *err)
{
    struct saga_relay *relay = make_relay(options);
    int rc = saga_relay_run(relay, SAGA_RELAY_ONCE, err);

    saga_relay_free(relay);
    return rc;
}

void
publish_once(const char *conninfo)
{
    struct saga_error err;

    ck_assert_msg(publish_once_with(RELAY(.conninfo = conninfo), &err) == 0, "%s", err.message);
}

struct process *
start_relay_program(const char *conninfo, const char *relay, const char *kafka,
                    const char *const *more)
{
    const char *path = text_of("%s/test-output/%s.ini", build_dir(), unique_name("relay"));
    const char *args[16] = { "outbox-relay", "--database", conninfo, "--brokers",
                             brokers(),      "--config",   path };
    size_t n = 7;
    FILE *file;

    run_process(ARGS("mkdir", "-p", text_of("%s/test-output", build_dir())));
    file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
    fprintf(file, "[relay]\n%s\n[kafka]\n%s\n", relay != NULL ? relay : "",
            kafka != NULL ? kafka : "");
    fclose(file);
    for (; more != NULL && *more != NULL && n < 15; more++)
        args[n++] = *more;
    return start_process(args, NULL);
}

/* --- what arrived ------------------------------------------------------ */

const char *
published(const char *topic)
{
    struct records records = topic_records(topic);
    size_t size = 1;
    char *text;

    for (size_t i = 0; i < records.n; i++)
        size += records.at[i].value_bytes + 8;
    text = malloc(size);
    ck_assert_ptr_nonnull(text);
    at_test_end(free, text);
    *text = '\0';
    for (size_t i = 0, len = 0; i < records.n; i++)
        len += (size_t)sprintf(text + len, "%s%s", i > 0 ? " " : "",
                               records.at[i].value != NULL ? records.at[i].value : "(null)");
    return text;
}

int
published_count(const char *topic)
{
    return (int)topic_records(topic).n;
}

void
expect_published(const char *topic, const char *values)
{
    ck_assert_str_eq(published(topic), values);
}

void
await_published(const char *topic, const char *values, int ms)
{
    struct deadline deadline = deadline_in(ms);
    const char *now;

    while (strcmp(now = published(topic), values) != 0)
        if (!wait_a_little(&deadline))
            ck_abort_msg("after %d ms %s holds '%s', not '%s'", ms, topic, now, values);
}

const char *
published_first(const char *topic)
{
    char *rest = strdup(published(topic)), *word, *at;
    char *text = calloc(1, strlen(rest) + 3);

    ck_assert(rest != NULL && text != NULL);
    at_test_end(free, text);
    strcpy(text, " ");
    for (word = strtok_r(rest, " ", &at); word != NULL; word = strtok_r(NULL, " ", &at)) {
        if (strstr(text, text_of(" %s ", word)) == NULL) {
            strcat(text, word);
            strcat(text, " ");
        }
    }
    free(rest);
    text[strlen(text) - 1] = '\0';
    return text + 1;
}

int64_t
pending(PGconn *conn)
{
    return db_int(conn, "SELECT count(*) FROM outbox.local_messages WHERE status = 'pending'");
}
