/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Running sagactl, and what it said.
 */
#include "test/support/sagactl.h"

#include <check.h>
#include <string.h>

enum { LONGEST_MS = 30000 };

struct answer
sagactl(const char *const *args)
{
    struct process *process = start_process(args, NULL);
    int code = process_wait(process, LONGEST_MS);

    return (struct answer){ code, process_output(process), process_errors(process) };
}

void
expect_answer(struct answer answer, int code, const char *text, int line)
{
    ck_assert_msg(answer.code == code, "line %d: exit code %d, not %d\n%s%s", line, answer.code,
                  code, answer.out, answer.err);
    ck_assert_msg(strstr(answer.out, text) != NULL || strstr(answer.err, text) != NULL,
                  "line %d: \"%s\" is not in\n%s%s", line, text, answer.out, answer.err);
}
