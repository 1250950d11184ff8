/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What it takes to ask Redis about each message, and nothing else: id and SHA-256 of a
 * thousand messages, one MGET, and while Redis answers the next thousand. No inbox, no
 * transaction, no order of keys, no fence, no bound of memory; what has no mark gets one.
 * Or not even that: id and SHA-256 of each.
 *
 *     ask BROKERS TOPIC GROUP N HOST:PORT|-
 *
 * Prints messages, seconds and CPU seconds, from the first message to the last.
 */
#include "bench/bench.h"

#include <hiredis/hiredis.h>
#include <openssl/evp.h>

enum { MANY = 1000, POLL_MS = 100, NAME_LEN = 128, MARK_LEN = 70 };

struct asked {
    rd_kafka_message_t *message;
    char name[NAME_LEN], mark[MARK_LEN];
};

struct round {
    struct asked asked[MANY];
    const char *argv[MANY + 1];
    int n;
};

static int64_t began;
static double cpu_before;
static EVP_MD_CTX *digest;

static void
set_mark(struct asked *asked)
{
    static const char digits[] = "0123456789abcdef";
    unsigned char hash[32];

    EVP_DigestInit_ex(digest, NULL, NULL);
    EVP_DigestUpdate(digest, asked->message->key, asked->message->key_len);
    EVP_DigestUpdate(digest, asked->message->payload, asked->message->len);
    EVP_DigestFinal_ex(digest, hash, NULL);
    memcpy(asked->mark, "done:", 5);
    for (int i = 0; i < 32; i++) {
        asked->mark[5 + 2 * i] = digits[hash[i] >> 4];
        asked->mark[6 + 2 * i] = digits[hash[i] & 15];
    }
}

/* As long as the library's: the prefix has which database and which group it is. */
static void
set_name(struct asked *asked, const char *prefix)
{
    rd_kafka_headers_t *headers;
    const void *id = NULL;
    size_t len;

    if (rd_kafka_message_headers(asked->message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR ||
        rd_kafka_header_get_last(headers, "message-id", &id, &len) != RD_KAFKA_RESP_ERR_NO_ERROR)
        die("a message without an id");
    snprintf(asked->name, sizeof asked->name, "%.64s%.36s", prefix, (const char *)id);
}

static void
read_round(rd_kafka_t *consumer, struct round *round, const char *prefix, long max)
{
    rd_kafka_message_t *message;

    round->n = 0;
    while (round->n < MANY && round->n < max) {
        message = rd_kafka_consumer_poll(consumer, round->n > 0 ? 0 : POLL_MS);
        if (message == NULL && round->n > 0)
            return;
        if (message == NULL || message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
            if (message != NULL)
                rd_kafka_message_destroy(message);
            continue;
        }
        if (began == 0) {
            began = now_ns();
            cpu_before = cpu_seconds();
        }
        round->asked[round->n].message = message;
        set_mark(&round->asked[round->n]);
        set_name(&round->asked[round->n], prefix);
        round->n++;
    }
}

static void
ask(redisContext *redis, struct round *round)
{
    int done = 0;

    round->argv[0] = "MGET";
    for (int i = 0; i < round->n; i++)
        round->argv[i + 1] = round->asked[i].name;
    redisAppendCommandArgv(redis, round->n + 1, round->argv, NULL);
    while (!done)
        if (redisBufferWrite(redis, &done) != REDIS_OK)
            die("Redis: %s", redis->errstr);
}

/* What is not known gets its mark. */
static void
hear(redisContext *redis, const struct round *round)
{
    redisReply *reply;
    int known = 0;

    if (redisGetReply(redis, (void **)&reply) != REDIS_OK || reply->elements != (size_t)round->n)
        die("Redis: %s", redis->errstr);
    for (int i = 0; i < round->n; i++)
        known += reply->element[i]->type == REDIS_REPLY_STRING &&
                 strcmp(reply->element[i]->str, round->asked[i].mark) == 0;
    freeReplyObject(reply);
    for (int i = 0; known < round->n && i < round->n; i++)
        freeReplyObject(
            redisCommand(redis, "SET %s %s PX 300000", round->asked[i].name, round->asked[i].mark));
}

static void
finish(struct round *round)
{
    const rd_kafka_message_t *last = round->asked[round->n - 1].message;

    if (rd_kafka_offset_store(last->rkt, last->partition, last->offset) !=
        RD_KAFKA_RESP_ERR_NO_ERROR)
        die("offset not stored");
    for (int i = 0; i < round->n; i++)
        rd_kafka_message_destroy(round->asked[i].message);
}

static redisContext *
opened(char *address)
{
    char *port = strrchr(address, ':');
    redisContext *redis;

    if (strcmp(address, "-") == 0)
        return NULL;
    if (port == NULL)
        die("%s is not HOST:PORT", address);
    *port++ = '\0';
    redis = redisConnect(address, atoi(port));
    if (redis == NULL || redis->err != 0)
        die("no Redis there");
    return redis;
}

int
main(int argc, char **argv)
{
    static struct round rounds[2];
    char prefix[NAME_LEN];
    rd_kafka_t *consumer;
    redisContext *redis;
    long n, taken = 0;

    if (argc != 6)
        die("usage: see the source");
    n = atol(argv[4]);
    redis = opened(argv[5]);
    digest = EVP_MD_CTX_new();
    if (EVP_DigestInit_ex(digest, EVP_sha256(), NULL) != 1)
        die("no SHA-256");
    snprintf(prefix, sizeof prefix, "mark:7380000000000000000:1:%.30s:", argv[3]);
    consumer = subscribed(argv[1], argv[2], argv[3], "10000000");
    for (int turn = 0; taken < n || rounds[!turn].n > 0; turn = !turn) {
        struct round *now = &rounds[turn], *before = &rounds[!turn];

        read_round(consumer, now, prefix, n - taken);
        taken += now->n;
        if (before->n > 0 && redis != NULL)
            hear(redis, before);
        if (before->n > 0)
            finish(before);
        if (now->n > 0 && redis != NULL)
            ask(redis, now);
    }
    printf("%ld %.3f %.3f\n", n, (double)(now_ns() - began) / 1e9, cpu_seconds() - cpu_before);
    rd_kafka_consumer_close(consumer);
    rd_kafka_destroy(consumer);
    redisFree(redis);
    EVP_MD_CTX_free(digest);
    return 0;
}
