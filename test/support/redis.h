/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asking a Redis something in a test.
 *
 * The shared one, redis_address(), is used by other programs at the same time:
 * use keys of your own there. To flush, fill or crash one, take one of your
 * own: GIVEN_SERVER("redis", "maxmemory=2mb", "maxmemory-policy=allkeys-lru").
 */
#ifndef TEST_REDIS_H
#define TEST_REDIS_H

#include <hiredis/hiredis.h>
#include <stdint.h>

const char *redis_address(void);

/* The caller closes it by redisFree(). */
redisContext *redis_open(const char *address);

/* Each fails the test on an error. The text lives until the test ends; NULL for nil. */
const char *redis_text(redisContext *redis, const char *format, ...);
int64_t redis_int(redisContext *redis, const char *format, ...);

/* The test fails, and names the key, if any key that fits the pattern never expires. */
void expect_every_key_expires(redisContext *redis, const char *pattern);

#endif
