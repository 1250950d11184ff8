/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon under test.
 */
#include "test/support/daemon.h"

#include "test/support/run.h"
#include "test/support/wait.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

const char *
output_file(const char *what)
{
    mkdir(text_of("%s/test-output", build_dir()), 0755);
    return text_of("%s/test-output/%s", build_dir(), unique_name(what));
}

void
write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
}

struct process *
start_daemon(const char *ini, const char *const *environment)
{
    return start_process(ARGS("outbox-relay", "--config", ini, "--metrics", "0"), environment);
}

bool
has_logged(const struct process *process, const char *text)
{
    return strstr(process_errors(process), text) != NULL;
}

int
daemon_port(const struct process *daemon)
{
    const char *found;

    WAIT_UNTIL(has_logged(daemon, "answering /metrics"), 10000);
    found = strstr(process_errors(daemon), "answering /metrics");
    found = strstr(found, "127.0.0.1:");
    ck_assert_ptr_nonnull(found);
    return atoi(found + strlen("127.0.0.1:"));
}
