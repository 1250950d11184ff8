/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hiredis, with failures that say what the server said.
 */
#include "test/support/redis.h"

#include "test/support/run.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

const char *
redis_address(void)
{
    return server_env("SAGA_TEST_REDIS");
}

redisContext *
redis_open(const char *address)
{
    const char *colon = strrchr(address, ':');
    const char *host = text_of("%.*s", (int)(colon - address), address);
    redisContext *redis = redisConnect(host, atoi(colon + 1));

    ck_assert_ptr_nonnull(redis);
    ck_assert_msg(redis->err == 0, "Redis at %s: %s", address, redis->errstr);
    return redis;
}

static redisReply *
ask(redisContext *redis, const char *format, va_list args)
{
    redisReply *reply = redisvCommand(redis, format, args);

    ck_assert_msg(reply != NULL, "%s: %s", format, redis->errstr);
    ck_assert_msg(reply->type != REDIS_REPLY_ERROR, "%s: %s", format, reply->str);
    return reply;
}

const char *
redis_text(redisContext *redis, const char *format, ...)
{
    const char *text = NULL;
    redisReply *reply;
    va_list args;

    va_start(args, format);
    reply = ask(redis, format, args);
    va_end(args);
    if (reply->str != NULL)
        text = text_of("%s", reply->str);
    freeReplyObject(reply);
    return text;
}

int64_t
redis_int(redisContext *redis, const char *format, ...)
{
    redisReply *reply;
    int64_t value;
    va_list args;

    va_start(args, format);
    reply = ask(redis, format, args);
    va_end(args);
    ck_assert_msg(reply->type == REDIS_REPLY_INTEGER, "%s: no integer", format);
    value = reply->integer;
    freeReplyObject(reply);
    return value;
}

void
expect_every_key_expires(redisContext *redis, const char *pattern)
{
    const char *cursor = "0";

    do {
        redisReply *page = redisCommand(redis, "SCAN %s MATCH %s COUNT 1000", cursor, pattern);

        ck_assert_msg(page != NULL && page->type == REDIS_REPLY_ARRAY, "SCAN: %s", redis->errstr);
        cursor = text_of("%s", page->element[0]->str);
        for (size_t i = 0; i < page->element[1]->elements; i++) {
            const char *key = page->element[1]->element[i]->str;
            int64_t ttl_ms = redis_int(redis, "PTTL %s", key);

            /* -2: it has expired meanwhile. */
            ck_assert_msg(ttl_ms >= 0 || ttl_ms == -2, "the key %s never expires", key);
        }
        freeReplyObject(page);
    } while (strcmp(cursor, "0") != 0);
}
