/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The environment, and a directory for each seed.
 */
#include "test/chaos/asked.h"

#include "test/support/process.h"
#include "test/support/run.h"
#include "test/support/wait.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

int
asked_duration_s(int otherwise_s)
{
    const char *text = getenv("CHAOS_DURATION");

    return text != NULL && *text != '\0' ? atoi(text) : otherwise_s;
}

static uint64_t
asked_seed(uint64_t otherwise)
{
    const char *text = getenv("CHAOS_SEED");

    if (text != NULL && *text != '\0')
        return strtoull(text, NULL, 10);
    return otherwise != ANY_SEED && getenv("CHAOS_DURATION") == NULL
               ? otherwise
               : (uint64_t)(monotonic_us() ^ getpid()) % 1000000;
}

struct asked
asked_for(int otherwise_s, uint64_t otherwise_seed)
{
    struct asked asked = { .seed = asked_seed(otherwise_seed),
                           .duration_s = asked_duration_s(otherwise_s) };

    asked.dir = text_of("%s/../chaos/%" PRIu64, build_dir(), asked.seed);
    printf("  seed %" PRIu64 ", %d s; what happens is noted in build/chaos/%" PRIu64 "\n",
           asked.seed, asked.duration_s, asked.seed);
    run_process(ARGS("mkdir", "-p", asked.dir));
    asked.log = fopen(text_of("%s/faults", asked.dir), "w");
    ck_assert_ptr_nonnull(asked.log);
    return asked;
}
