/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Running sagactl, and what it said.
 */
#ifndef TEST_SAGACTL_H
#define TEST_SAGACTL_H

#include "test/support/process.h"

struct answer {
    int code;
    const char *out, *err; /* live until the test ends */
};

/* SAGACTL(database, "migrate", "up") */
#define SAGACTL(database, ...) (sagactl(ARGS("sagactl", "--database", (database), __VA_ARGS__)))
struct answer sagactl(const char *const *args);

/* The test fails, and shows the answer, if the code differs or `text` is in
 * neither output. */
#define EXPECT_ANSWER(answer, code, text) expect_answer((answer), (code), (text), __LINE__)
void expect_answer(struct answer answer, int code, const char *text, int line);

#endif
