/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Models in Promela, checked by test/model/check.
 */
#ifndef TEST_MODEL_H
#define TEST_MODEL_H

#include "test/support/process.h"

/* Arguments as of test/model/check. Each fails the test if it is not so. */
void model_holds(const char *const *args);
/* `notices`: what of the model's text must be in the assertion that fails. */
void model_fails(const char *const *args, const char *notices);

/* Such tests. */
#define MODEL_HOLDS(test, ...)                                                                     \
    START_TEST(test)                                                                               \
    {                                                                                              \
        model_holds(ARGS(__VA_ARGS__));                                                            \
    }                                                                                              \
    END_TEST                                                                                       \
    _Static_assert(1, "takes the semicolon")
#define MODEL_FAILS(test, notices, ...)                                                            \
    START_TEST(test)                                                                               \
    {                                                                                              \
        model_fails(ARGS(__VA_ARGS__), (notices));                                                 \
    }                                                                                              \
    END_TEST                                                                                       \
    _Static_assert(1, "takes the semicolon")

#endif
