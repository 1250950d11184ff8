/* SPDX-License-Identifier: Apache-2.0 */
/*
 * After an assignment the consumer asks Kafka how long the topics keep their
 * messages, and says if they are known for a shorter time. The answer is not
 * waited for, and who may not ask is not told.
 */
#include "base/clock.h"
#include "idempotency/consumer_state.h"
#include "idempotency/horizon.h"
#include "idempotency/sql.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ANSWER_MS = 3000, AGAIN_MS = 3600000, DAY_MS = 86400000, INBOX_DAYS_MAX = 29 };

/* --- asking ------------------------------------------------------------------------ */

static void
send_question(struct saga_consumer *consumer, rd_kafka_ConfigResource_t **topics, size_t n)
{
    rd_kafka_AdminOptions_t *options =
        rd_kafka_AdminOptions_new(consumer->kafka, RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS);
    char why[64];

    rd_kafka_AdminOptions_set_request_timeout(options, ANSWER_MS, why, sizeof why);
    consumer->configs = rd_kafka_queue_new(consumer->kafka);
    rd_kafka_DescribeConfigs(consumer->kafka, topics, n, options, consumer->configs);
    rd_kafka_AdminOptions_destroy(options);
}

/* Each topic that has come to us; not again with every rebalance. */
static void
ask(struct saga_consumer *consumer)
{
    rd_kafka_ConfigResource_t **topics = calloc(consumer->n_routes, sizeof(void *));
    int64_t now = clock_mono_ms();
    size_t n = 0;

    consumer->horizon_due = false;
    if (topics == NULL)
        return;
    for (const struct partition *at = consumer->partitions; at != NULL; at = at->next) {
        struct consumer_route *route = &consumer->routes[at->route - consumer->routes];

        if (now < route->horizon_ms)
            continue;
        route->horizon_ms = now + AGAIN_MS;
        topics[n++] = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, at->topic);
    }
    if (n > 0)
        send_question(consumer, topics, n);
    rd_kafka_ConfigResource_destroy_array(topics, n);
    free(topics);
}

/* --- the answer ---------------------------------------------------------------------- */

static int
read_horizon(struct saga_consumer *consumer, struct horizon *horizon, struct saga_error *err)
{
    struct pg_rows rows = PG_ROWS_INIT;
    int rc;

    if (consumer->options.mode == SAGA_MODE_REDIS) {
        horizon->window_ms = consumer->options.window_ms;
        return 0;
    }
    rc = pg_exec(&consumer->pg, SQL_HORIZON, PG_NO_ARGS, &rows, err);
    if (rc == 0) {
        horizon->keep_ms = pg_int(&rows, 0, 0);
        horizon->keep_foreign_ms = pg_int(&rows, 0, 1);
    }
    pg_rows_clear(&rows);
    return rc;
}

static int64_t
retention_of(const rd_kafka_ConfigResource_t *topic)
{
    const char *retention = NULL, *policy = NULL;
    size_t n;
    const rd_kafka_ConfigEntry_t **entries = rd_kafka_ConfigResource_configs(topic, &n);

    for (size_t i = 0; i < n; i++) {
        const char *name = rd_kafka_ConfigEntry_name(entries[i]);

        if (strcmp(name, "retention.ms") == 0)
            retention = rd_kafka_ConfigEntry_value(entries[i]);
        else if (strcmp(name, "cleanup.policy") == 0)
            policy = rd_kafka_ConfigEntry_value(entries[i]);
    }
    return horizon_retention_ms(retention, policy);
}

static const char *
length_text(char text[32], int64_t ms)
{
    if (ms < 0)
        return "for ever";
    if (ms < 120000)
        snprintf(text, 32, "%.1f s", (double)ms / 1000);
    else if (ms < 2 * 3600000)
        snprintf(text, 32, "%.1f min", (double)ms / 60000);
    else if (ms < 2 * (int64_t)DAY_MS)
        snprintf(text, 32, "%.1f h", (double)ms / 3600000);
    else
        snprintf(text, 32, "%.1f days", (double)ms / DAY_MS);
    return text;
}

static const char *
remedy(char text[160], const struct horizon_finding *finding, int64_t retention_ms)
{
    int64_t days = retention_ms / DAY_MS + 1;

    if (finding->short_by_ms < 0 || (finding->flaw == HORIZON_INBOX && days > INBOX_DAYS_MAX))
        snprintf(text, 160, "the topic's retention.ms and cleanup.policy");
    else if (finding->flaw == HORIZON_WINDOW)
        snprintf(text, 160, "the consumer's window_ms, or the topic's retention.ms");
    else
        snprintf(text, 160,
                 "SELECT idempotency.keep('%s', '%lld days', 'as long as the topics'), or the "
                 "topic's retention.ms",
                 finding->flaw == HORIZON_INBOX ? "inbox" : "foreign", (long long)days);
    return text;
}

static void
tell(const struct saga_consumer *consumer, const char *topic, int64_t retention_ms,
     const struct horizon_finding *finding)
{
    static const char *const sentences[] = {
        [HORIZON_INBOX] = "the topic keeps messages for longer than the inbox knows them: what is "
                          "read again after that goes to the quarantine",
        [HORIZON_FOREIGN] = "the topic keeps messages for longer than ids are known that are not "
                            "of version 7: what is read again after that is applied again",
        [HORIZON_WINDOW] = "the topic keeps messages for longer than their marks live in Redis: "
                           "what is read again after that is applied again",
    };
    /* Nobody means a window of minutes to last as long as a topic, and that an effect may happen
     * again has been said at the start. Who has asked for more may be mistaken. */
    bool meant = finding->flaw == HORIZON_WINDOW && finding->known_ms <= WINDOW_DEFAULT_MS;
    char kept[32], known[32], missing[32], change[160];

    log_event(&consumer->options.log, meant ? SAGA_LOG_INFO : SAGA_LOG_WARNING,
              sentences[finding->flaw], LOG_TEXT("topic", topic),
              LOG_TEXT("kept", length_text(kept, retention_ms)),
              LOG_TEXT("known", length_text(known, finding->known_ms)),
              LOG_TEXT("short_by", length_text(missing, finding->short_by_ms)),
              LOG_TEXT("change", remedy(change, finding, retention_ms)));
}

/* At the next assignment it is asked again. */
static void
not_told(struct saga_consumer *consumer, const char *topic, const char *why)
{
    for (size_t i = 0; i < consumer->n_routes; i++)
        if (topic == NULL || strcmp(consumer->routes[i].topic, topic) == 0)
            consumer->routes[i].horizon_ms = 0;
    log_event(&consumer->options.log, SAGA_LOG_INFO,
              "Kafka does not tell how long topics keep messages: not compared with how long they "
              "are known",
              LOG_TEXT("topic", topic), LOG_TEXT("said", why));
}

static void
compare(struct saga_consumer *consumer, struct horizon *horizon,
        const rd_kafka_ConfigResource_t *topic)
{
    const char *name = rd_kafka_ConfigResource_name(topic);
    struct horizon_finding findings[HORIZON_FLAWS];
    size_t n;

    if (rd_kafka_ConfigResource_error(topic) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        not_told(consumer, name, rd_kafka_ConfigResource_error_string(topic));
        return;
    }
    horizon->retention_ms = retention_of(topic);
    n = horizon_compare(horizon, findings);
    for (size_t i = 0; i < n; i++)
        tell(consumer, name, horizon->retention_ms, &findings[i]);
}

static void
take_answer(struct saga_consumer *consumer, rd_kafka_event_t *event)
{
    const rd_kafka_ConfigResource_t **topics;
    struct horizon horizon = { .window_ms = 0 };
    struct saga_error err;
    size_t n = 0;

    if (rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        not_told(consumer, NULL, rd_kafka_event_error_string(event));
        return;
    }
    if (read_horizon(consumer, &horizon, &err) != 0) {
        database_failed(consumer, &err);
        return;
    }
    topics =
        rd_kafka_DescribeConfigs_result_resources(rd_kafka_event_DescribeConfigs_result(event), &n);
    for (size_t i = 0; i < n; i++)
        compare(consumer, &horizon, topics[i]);
}

void
horizon_look(struct saga_consumer *consumer)
{
    rd_kafka_event_t *event;

    if (consumer->configs == NULL) {
        if (consumer->horizon_due)
            ask(consumer);
        return;
    }
    event = rd_kafka_queue_poll(consumer->configs, 0);
    if (event == NULL)
        return;
    if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_DESCRIBECONFIGS_RESULT) {
        take_answer(consumer, event);
        horizon_forget(consumer);
    }
    rd_kafka_event_destroy(event);
}

void
horizon_forget(struct saga_consumer *consumer)
{
    if (consumer->configs != NULL)
        rd_kafka_queue_destroy(consumer->configs);
    consumer->configs = NULL;
}
