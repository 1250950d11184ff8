/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Crash points: kills the process at the one that SAGA_CRASH names.
 */
#include "base/crash.h"

#ifdef SAGA_CRASH_POINTS

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void
crash_here(const char *name)
{
    static atomic_long hits;
    const char *wish = getenv("SAGA_CRASH");
    size_t len = strlen(name);

    if (wish == NULL || strncmp(wish, name, len) != 0 || (wish[len] != ':' && wish[len] != '\0'))
        return;
    if (atomic_fetch_add(&hits, 1) + 1 == (wish[len] == ':' ? atol(wish + len + 1) : 1))
        kill(getpid(), SIGKILL);
}

#else
typedef int crash_points_are_compiled_out;
#endif
