/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker of the scripted sagas (test/support/steps.h), until SIGTERM.
 *
 *     saga_worker CONNINFO [LEASE_MS [GRACE_MS]]
 */
#include "base/log.h"
#include "test/support/steps.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static struct saga_worker *worker;

static void
stop(int signal)
{
    (void)signal;
    saga_worker_stop(worker);
}

int
main(int argc, char **argv)
{
    const struct saga_worker_options options = {
        SAGA_WORKER_OPTIONS,
        .conninfo = argc > 1 ? argv[1] : NULL,
        .lease_ms = argc > 2 ? atoi(argv[2]) : 0,
        .grace_ms = argc > 3 ? atoi(argv[3]) : 0,
        .poll_ms = 20,
        .log = { .write = log_to_stderr, .level = SAGA_LOG_INFO },
    };
    struct saga_error err;
    int rc = saga_worker_new(&worker, &options, &err);

    if (rc == 0)
        rc = saga_worker_add(worker, &scripted, NULL, &err);
    if (rc == 0) {
        signal(SIGTERM, stop);
        puts("ready");
        fflush(stdout);
        rc = saga_worker_run(worker, SAGA_RUN_UNTIL_STOP, &err);
    }
    if (rc != 0)
        fprintf(stderr, "%s\n", err.message);
    saga_worker_free(worker);
    return rc != 0;
}
