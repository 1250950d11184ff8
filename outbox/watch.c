/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Committed offsets of watched groups.
 */
#include "outbox/watch.h"

#include "base/clock.h"
#include "base/error.h"
#include "outbox/sink_properties.h"
#include "outbox/watch_sql.h"

#include <stdlib.h>
#include <string.h>

enum {
    ASK_MS = 1000,     /* between two rounds of questions */
    ANSWER_MS = 10000, /* longest wait for an answer */
    PURGE_MS = 60000,  /* between two looks for ranges that tell of nothing */
    COMPLAIN_MS = 60000
};

struct group {
    const char *name;
    rd_kafka_topic_partition_list_t *committed; /* the last answer, sorted; NULL: none yet */
};

struct watch {
    const struct sink_options *options;
    rd_kafka_t *client; /* NULL: not made yet */
    rd_kafka_queue_t *answers;
    struct group *groups;
    size_t n, waiting; /* groups, and how many of them have not answered yet */
    bool changed;      /* some answer differs from what is stored */
    int64_t ask_ms, purge_ms, complained_ms;
    const struct saga_log *log;
};

/* --- opening and closing ----------------------------------------------- */

static void
on_log(const rd_kafka_t *client, int level, const char *facility, const char *line)
{
    struct watch *watch = rd_kafka_opaque(client);

    (void)level;
    log_event(watch->log, SAGA_LOG_DEBUG, "librdkafka", LOG_TEXT("facility", facility),
              LOG_TEXT("line", line));
}

/*
 * A consumer with a group, although it never joins: when the answer is that
 * another broker coordinates the watched group by now, librdkafka 2.0.2 (and
 * later ones, by what their users report) tells the client's own group without
 * looking whether there is one, and a producer crashes.
 */
static int
open_client(struct watch *watch, const struct sink_options *options, struct saga_error *err)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char why[192];
    int rc = sink_properties_set(conf, options->brokers, options->properties, err);

    if (rc != 0) {
        rd_kafka_conf_destroy(conf);
        return rc;
    }
    rd_kafka_conf_set(conf, "group.id", "outbox-relay-watch", NULL, 0);
    /* It remembers for so long who coordinates a group, also when that is wrong. */
    rd_kafka_conf_set(conf, "metadata.max.age.ms", "30000", NULL, 0);
    rd_kafka_conf_set_opaque(conf, watch);
    rd_kafka_conf_set_log_cb(conf, on_log);
    watch->client = rd_kafka_new(RD_KAFKA_CONSUMER, conf, why, sizeof why);
    if (watch->client == NULL) {
        rd_kafka_conf_destroy(conf);
        return error_set(err, SAGA_EINVAL, "librdkafka: %s", why);
    }
    rd_kafka_set_log_queue(watch->client, NULL);
    watch->answers = rd_kafka_queue_new(watch->client);
    return 0;
}

int
watch_open(struct watch **watch, const struct sink_options *options, const char *const *groups,
           struct saga_error *err)
{
    struct watch *made = calloc(1, sizeof *made);

    if (made == NULL)
        return error_set(err, SAGA_ENOMEM, "out of memory");
    while (groups[made->n] != NULL)
        made->n++;
    made->groups = calloc(made->n, sizeof *made->groups);
    if (made->groups == NULL) {
        watch_close(made);
        return error_set(err, SAGA_ENOMEM, "out of memory");
    }
    for (size_t i = 0; i < made->n; i++)
        made->groups[i].name = groups[i];
    made->options = options;
    made->log = options->log;
    made->changed = true; /* the table may hold groups that are not watched any more */
    *watch = made;
    return 0;
}

void
watch_close(struct watch *watch)
{
    if (watch == NULL)
        return;
    if (watch->answers != NULL)
        rd_kafka_queue_destroy(watch->answers);
    if (watch->client != NULL)
        rd_kafka_destroy_flags(watch->client, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    for (size_t i = 0; watch->groups != NULL && i < watch->n; i++)
        if (watch->groups[i].committed != NULL)
            rd_kafka_topic_partition_list_destroy(watch->groups[i].committed);
    free(watch->groups);
    free(watch);
}

/* --- asking ------------------------------------------------------------ */

static void
ask(struct watch *watch)
{
    rd_kafka_AdminOptions_t *options =
        rd_kafka_AdminOptions_new(watch->client, RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS);

    rd_kafka_AdminOptions_set_request_timeout(options, ANSWER_MS, NULL, 0);
    for (size_t i = 0; i < watch->n; i++) {
        /* No list of partitions: all of which the group has committed anything. */
        rd_kafka_ListConsumerGroupOffsets_t *question =
            rd_kafka_ListConsumerGroupOffsets_new(watch->groups[i].name, NULL);

        rd_kafka_AdminOptions_set_opaque(options, &watch->groups[i]);
        rd_kafka_ListConsumerGroupOffsets(watch->client, &question, 1, options, watch->answers);
        rd_kafka_ListConsumerGroupOffsets_destroy(question);
    }
    rd_kafka_AdminOptions_destroy(options);
    watch->waiting = watch->n;
}

static void
complain(struct watch *watch, const char *group, const char *error)
{
    int64_t now = clock_mono_ms();

    if (watch->complained_ms != 0 && now - watch->complained_ms < COMPLAIN_MS)
        return;
    watch->complained_ms = now;
    log_event(watch->log, SAGA_LOG_WARNING,
              "cannot see how far a watched group has committed; trying again",
              LOG_TEXT("group", group), LOG_TEXT("error", error));
}

/* Both are sorted. */
static bool
same(const rd_kafka_topic_partition_list_t *a, const rd_kafka_topic_partition_list_t *b)
{
    if (a == NULL || a->cnt != b->cnt)
        return false;
    for (int i = 0; i < a->cnt; i++)
        if (a->elems[i].partition != b->elems[i].partition ||
            a->elems[i].offset != b->elems[i].offset ||
            strcmp(a->elems[i].topic, b->elems[i].topic) != 0)
            return false;
    return true;
}

static void
take_committed(struct watch *watch, struct group *group,
               const rd_kafka_topic_partition_list_t *committed)
{
    rd_kafka_topic_partition_list_t *copy = rd_kafka_topic_partition_list_copy(committed);

    rd_kafka_topic_partition_list_sort(copy, NULL, NULL);
    if (same(group->committed, copy)) {
        rd_kafka_topic_partition_list_destroy(copy);
        return;
    }
    if (group->committed != NULL)
        rd_kafka_topic_partition_list_destroy(group->committed);
    group->committed = copy;
    watch->changed = true;
}

static void
take_answer(struct watch *watch, rd_kafka_event_t *event)
{
    struct group *group = rd_kafka_event_opaque(event);
    const rd_kafka_ListConsumerGroupOffsets_result_t *result =
        rd_kafka_event_ListConsumerGroupOffsets_result(event);
    const rd_kafka_group_result_t **groups;
    const rd_kafka_error_t *error;
    size_t n;

    if (result == NULL)
        return;
    watch->waiting--;
    if (rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        complain(watch, group->name, rd_kafka_event_error_string(event));
        return;
    }
    groups = rd_kafka_ListConsumerGroupOffsets_result_groups(result, &n);
    error = n == 1 ? rd_kafka_group_result_error(groups[0]) : NULL;
    if (error != NULL)
        complain(watch, group->name, rd_kafka_error_string(error));
    else if (n == 1)
        take_committed(watch, group, rd_kafka_group_result_partitions(groups[0]));
}

/* --- storing ----------------------------------------------------------- */

struct columns {
    struct pg_array groups, topics, partitions, offsets, answered, all;
};

static void
fill(struct columns *columns, const struct watch *watch)
{
    pg_array_init(&columns->groups, PG_OID_TEXT_ARRAY);
    pg_array_init(&columns->topics, PG_OID_TEXT_ARRAY);
    pg_array_init(&columns->partitions, PG_OID_INT4_ARRAY);
    pg_array_init(&columns->offsets, PG_OID_INT8_ARRAY);
    pg_array_init(&columns->answered, PG_OID_TEXT_ARRAY);
    pg_array_init(&columns->all, PG_OID_TEXT_ARRAY);
    for (size_t i = 0; i < watch->n; i++) {
        const struct group *group = &watch->groups[i];

        pg_array_add_text(&columns->all, group->name);
        if (group->committed == NULL)
            continue;
        pg_array_add_text(&columns->answered, group->name);
        for (int p = 0; p < group->committed->cnt; p++) {
            const rd_kafka_topic_partition_t *at = &group->committed->elems[p];

            if (at->offset < 0 || at->err != RD_KAFKA_RESP_ERR_NO_ERROR)
                continue;
            pg_array_add_text(&columns->groups, group->name);
            pg_array_add_text(&columns->topics, at->topic);
            pg_array_add_int4(&columns->partitions, at->partition);
            pg_array_add_int8(&columns->offsets, at->offset);
        }
    }
}

static int
exec_unless_locked(struct pg *pg, const char *sql, const struct pg_arg *args, int n_args,
                   bool *done, struct saga_error *err)
{
    const struct pg_statement both[] = {
        { .sql = SQL_WATCH_PATIENCE },
        { .sql = sql, .args = args, .n_args = n_args },
    };
    int rc = pg_batch(pg, both, 2, err);

    *done = rc == 0;
    if (rc == 0 || strcmp(err->sqlstate, "55P03") != 0) /* lock_not_available */
        return rc;
    error_clear(err);
    return 0;
}

static int
store(struct watch *watch, struct pg *pg, struct saga_error *err)
{
    struct columns columns;
    bool done;
    int rc;

    fill(&columns, watch);
    rc = exec_unless_locked(pg, SQL_WATCHED_STORE,
                            PG_ARGS(PG_ARRAY(&columns.groups), PG_ARRAY(&columns.topics),
                                    PG_ARRAY(&columns.partitions), PG_ARRAY(&columns.offsets),
                                    PG_ARRAY(&columns.answered), PG_ARRAY(&columns.all)),
                            &done, err);
    pg_array_clear(&columns.groups);
    pg_array_clear(&columns.topics);
    pg_array_clear(&columns.partitions);
    pg_array_clear(&columns.offsets);
    pg_array_clear(&columns.answered);
    pg_array_clear(&columns.all);
    watch->changed = !done; /* again with the next answers */
    return rc;
}

/* Whether there is a client. Where librdkafka makes none of properties that were
 * checked, it may do so soon. */
static bool
has_client(struct watch *watch, int64_t now)
{
    struct saga_error err;

    if (watch->client != NULL || now < watch->ask_ms)
        return watch->client != NULL;
    if (open_client(watch, watch->options, &err) == 0)
        return true;
    complain(watch, watch->groups[0].name, err.message);
    watch->ask_ms = now + ASK_MS;
    return false;
}

int
watch_step(struct watch *watch, struct pg *pg, struct saga_error *err)
{
    int64_t now = clock_mono_ms();
    rd_kafka_event_t *event;
    bool done;
    int rc = 0;

    if (!has_client(watch, now))
        return 0;
    rd_kafka_poll(watch->client, 0);
    while (watch->waiting > 0 && (event = rd_kafka_queue_poll(watch->answers, 0)) != NULL) {
        take_answer(watch, event);
        rd_kafka_event_destroy(event);
        if (watch->waiting == 0 && watch->changed)
            rc = store(watch, pg, err);
    }
    if (rc == 0 && watch->waiting == 0 && now >= watch->ask_ms) {
        ask(watch);
        watch->ask_ms = now + ASK_MS;
    }
    if (rc == 0 && now >= watch->purge_ms) {
        rc = exec_unless_locked(pg, SQL_RANGES_PURGE, PG_NO_ARGS, &done, err);
        watch->purge_ms = now + PURGE_MS;
    }
    return rc;
}

int
watch_nobody(struct pg *pg, int32_t stream, bool *done, struct saga_error *err)
{
    int rc = exec_unless_locked(pg, SQL_RANGES_FORGET, PG_ARGS(PG_INT4(stream)), done, err);

    if (rc == 0 && *done && stream == 0)
        rc = exec_unless_locked(pg, SQL_WATCHED_FORGET, PG_NO_ARGS, done, err);
    return rc;
}
