/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Models in Promela, checked by test/model/check.
 */
#include "test/support/model.h"

#include "test/support/run.h"

#include <string.h>

enum { CHECK_MS = 240000, HOLDS = 0, FAILS = 1, ARGS_MAX = 8 };

static const char *
check_model(const char *const *args, int answer)
{
    const char *all[ARGS_MAX + 2] = { text_of("%s/test/model/check", source_dir()) };
    struct process *process;

    for (int i = 0; args[i] != NULL; i++) {
        ck_assert_int_lt(i, ARGS_MAX);
        all[i + 1] = args[i];
    }
    process = start_process(all, NULL);
    process_expect(process, answer, CHECK_MS);
    return process_output(process);
}

void
model_holds(const char *const *args)
{
    check_model(args, HOLDS);
}

void
model_fails(const char *const *args, const char *notices)
{
    const char *said = check_model(args, FAILS);

    ck_assert_msg(strstr(said, notices) != NULL, "%s", said);
}
