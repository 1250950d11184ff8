/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process's name, made once.
 */
#include "outbox/instance.h"

#include "base/backoff.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static char name[INSTANCE_BYTES + 1];

static void
make_name(void)
{
    char host[128] = "";

    gethostname(host, sizeof host - 1);
    snprintf(name, sizeof name, "%s/%d/%08" PRIx32, host, (int)getpid(),
             (uint32_t)backoff_random());
}

const char *
instance_name(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, make_name);
    return name;
}
