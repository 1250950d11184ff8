/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread and one idempotent producer, so that Kafka's order is ours.
 */
#include "test/chaos/sender.h"

#include "test/support/kafka.h"
#include "test/support/pace.h"
#include "test/support/run.h"
#include "test/support/wait.h"

#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SENT_MAX = 4000000,
    KEYS = 60,
    PROBED_MAX = 16,
    TICK_MS = 10,
    REPEATED_PERCENT = 15,
    LATEST = 1000,
    ENDED_MS = 60000
};

struct sent {
    struct saga_uuid id;
    int32_t key; /* KEYS and more: a probe, into that partition */
    int32_t n;
};

struct sender {
    rd_kafka_t *producer;
    const char *topic;
    pthread_t thread;
    pthread_mutex_t lock;
    struct chance chance;
    int rate;
    atomic_bool stop;
    struct sent *sent;
    size_t n_sent;
    int32_t numbers[KEYS + PROBED_MAX];
    long repeats, refused;
};

static void
on_report(rd_kafka_t *producer, const rd_kafka_message_t *message, void *opaque)
{
    struct sender *sender = opaque;

    (void)producer;
    sender->refused += message->err != RD_KAFKA_RESP_ERR_NO_ERROR;
}

static void
name_key(int32_t key, char name[16])
{
    snprintf(name, 16, key < KEYS ? "k%d" : "probe%d", key < KEYS ? key : key - KEYS);
}

/* Under the lock, as all that touches `sent`. */
static void
produce_sent(struct sender *sender, const struct sent *sent)
{
    char id[37], key[16], value[16];
    rd_kafka_resp_err_t code;

    saga_uuid_text(&sent->id, id);
    name_key(sent->key, key);
    snprintf(value, sizeof value, "%d", sent->n);
    do {
        code = rd_kafka_producev(
            sender->producer, RD_KAFKA_V_TOPIC(sender->topic),
            RD_KAFKA_V_PARTITION(sent->key < KEYS ? RD_KAFKA_PARTITION_UA : sent->key - KEYS),
            RD_KAFKA_V_KEY(key, strlen(key)), RD_KAFKA_V_VALUE(value, strlen(value)),
            RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_HEADER("message-id", id, -1),
            RD_KAFKA_V_END);
        rd_kafka_poll(sender->producer, code == RD_KAFKA_RESP_ERR__QUEUE_FULL ? 100 : 0);
    } while (code == RD_KAFKA_RESP_ERR__QUEUE_FULL);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
        sender->refused++;
}

static void
send_new(struct sender *sender, int32_t key, struct saga_uuid *id)
{
    struct sent *sent = &sender->sent[sender->n_sent];
    struct saga_error err;

    if (sender->n_sent == SENT_MAX || saga_uuid_make(&sent->id, &err) != 0)
        return;
    sender->n_sent++;
    sent->key = key;
    sent->n = ++sender->numbers[key];
    if (id != NULL)
        *id = sent->id;
    produce_sent(sender, sent);
}

/* Sometimes one that Redis still knows of, sometimes one of long ago. */
static void
send_again(struct sender *sender)
{
    size_t reach = sender->n_sent;

    if (percent(&sender->chance, 70) && reach > LATEST)
        reach = LATEST;
    if (reach == 0)
        return;
    sender->repeats++;
    produce_sent(sender,
                 &sender->sent[sender->n_sent - 1 - draw(&sender->chance) % (uint64_t)reach]);
}

static void *
run_sender(void *arg)
{
    struct sender *sender = arg;
    struct pace pace = pace_begin();

    while (!atomic_load(&sender->stop)) {
        pthread_mutex_lock(&sender->lock);
        for (int i = 0; i < sender->rate * TICK_MS / 1000; i++) {
            send_new(sender, between(&sender->chance, 0, KEYS - 1), NULL);
            if (percent(&sender->chance, REPEATED_PERCENT))
                send_again(sender);
        }
        pthread_mutex_unlock(&sender->lock);
        rd_kafka_poll(sender->producer, 0);
        pace_keep(&pace, TICK_MS * 1000);
    }
    return NULL;
}

static void
end_sender(void *arg)
{
    struct sender *sender = arg;

    if (!atomic_exchange(&sender->stop, true))
        pthread_join(sender->thread, NULL);
    rd_kafka_destroy(sender->producer);
    free(sender->sent);
    free(sender);
}

struct sender *
start_sender(const char *topic, uint64_t seed, int rate)
{
    static const char *const settings[][2] = { { "enable.idempotence", "true" },
                                               { "message.timeout.ms", "0" },
                                               { "reconnect.backoff.max.ms", "500" },
                                               { "log_level", "2" },
                                               { "linger.ms", "5" } };
    struct sender *sender = calloc(1, sizeof *sender);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    char why[256];

    ck_assert_ptr_nonnull(sender);
    sender->sent = calloc(SENT_MAX, sizeof *sender->sent); /* touched as far as it is used */
    ck_assert_ptr_nonnull(sender->sent);
    sender->topic = topic;
    sender->rate = rate;
    sender->chance = chance_of(seed, 1);
    pthread_mutex_init(&sender->lock, NULL);
    rd_kafka_conf_set(conf, "bootstrap.servers", brokers(), why, sizeof why);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        ck_assert_int_eq(rd_kafka_conf_set(conf, settings[i][0], settings[i][1], why, sizeof why),
                         0);
    rd_kafka_conf_set_opaque(conf, sender);
    rd_kafka_conf_set_dr_msg_cb(conf, on_report);
    sender->producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof why);
    ck_assert_msg(sender->producer != NULL, "%s", why);
    at_test_end(end_sender, sender);
    ck_assert_int_eq(pthread_create(&sender->thread, NULL, run_sender, sender), 0);
    return sender;
}

void
sender_probe(struct sender *sender, struct saga_uuid *ids, int n)
{
    ck_assert_int_le(n, PROBED_MAX);
    pthread_mutex_lock(&sender->lock);
    for (int i = 0; i < n; i++)
        send_new(sender, KEYS + i, &ids[i]);
    pthread_mutex_unlock(&sender->lock);
}

void
stop_sender(struct sender *sender)
{
    if (!atomic_exchange(&sender->stop, true))
        pthread_join(sender->thread, NULL);
    ck_assert_int_eq(rd_kafka_flush(sender->producer, ENDED_MS), RD_KAFKA_RESP_ERR_NO_ERROR);
    ck_assert_int_eq(sender->refused, 0);
    ck_assert_uint_lt(sender->n_sent, SENT_MAX);
}

void
copy_sent(const struct sender *sender, PGconn *conn)
{
    char id[37], key[16], row[96];
    PGresult *result = PQexec(conn, "CREATE TABLE chaos.sent (id uuid, key text, n bigint)");

    ck_assert_msg(PQresultStatus(result) == PGRES_COMMAND_OK, "%s", PQerrorMessage(conn));
    PQclear(result);
    result = PQexec(conn, "COPY chaos.sent FROM STDIN");
    ck_assert_int_eq(PQresultStatus(result), PGRES_COPY_IN);
    PQclear(result);
    for (size_t i = 0; i < sender->n_sent; i++) {
        saga_uuid_text(&sender->sent[i].id, id);
        name_key(sender->sent[i].key, key);
        ck_assert_int_eq(
            PQputCopyData(conn, row,
                          snprintf(row, sizeof row, "%s\t%s\t%d\n", id, key, sender->sent[i].n)),
            1);
    }
    ck_assert_int_eq(PQputCopyEnd(conn, NULL), 1);
    while ((result = PQgetResult(conn)) != NULL) {
        ck_assert_msg(PQresultStatus(result) == PGRES_COMMAND_OK, "%s", PQerrorMessage(conn));
        PQclear(result);
    }
}

long
sender_messages(const struct sender *sender)
{
    return (long)sender->n_sent;
}

long
sender_repeats(const struct sender *sender)
{
    return sender->repeats;
}
