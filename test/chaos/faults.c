/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Faults one after the other, each with a probe after it, and now and then
 * several at once, without.
 */
#include "test/chaos/faults.h"

#include "test/support/run.h"
#include "test/support/wait.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum {
    RECOVERED_MS = 60000, /* longer than that is a failure */
    OPEN_MAX = 4,
    KINDS_MAX = 32,
    SAMPLES_MAX = 4096
};

struct fault {
    const struct kind *kind;
    int i; /* which one it hurts */
    bool open;
    int64_t due_us; /* when it ends */
};

struct tallied {
    int n, n_samples;
    int64_t samples[SAMPLES_MAX]; /* milliseconds */
};

struct faults {
    const struct play *play;
    struct fault open[OPEN_MAX];
    bool hurt[TARGETS_MAX];
    struct tallied tallied[KINDS_MAX];
    int64_t began_us;
    int together;
};

static size_t
n_kinds(const struct play *play)
{
    size_t n = 0;

    while (play->kinds[n].name != NULL)
        n++;
    return n;
}

struct faults *
new_faults(const struct play *play)
{
    struct faults *faults = calloc(1, sizeof *faults);

    ck_assert(faults != NULL && n_kinds(play) <= KINDS_MAX);
    at_test_end(free, faults);
    faults->play = play;
    faults->began_us = monotonic_us();
    return faults;
}

static void __attribute__((format(printf, 2, 3)))
say(struct faults *faults, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fprintf(faults->play->log, "%9.3f  ", (double)(monotonic_us() - faults->began_us) / 1e6);
    vfprintf(faults->play->log, format, args);
    fputc('\n', faults->play->log);
    fflush(faults->play->log);
    va_end(args);
}

/* --- one ------------------------------------------------------------------------- */

static int
target_of(const struct fault *fault)
{
    return fault->kind->target + (fault->kind->n_targets > 1 ? fault->i : 0);
}

static int
weight_of(const struct faults *faults, const struct kind *kind)
{
    return kind->possible == NULL || kind->possible(faults->play->scene) ? kind->weight : 0;
}

static const struct kind *
draw_kind(struct faults *faults)
{
    const struct kind *kind, *first = faults->play->kinds;
    int sum = 0, at;

    for (kind = first; kind->name != NULL; kind++)
        sum += weight_of(faults, kind);
    at = between(faults->play->chance, 1, sum);
    for (kind = first; kind->name != NULL; kind++) {
        at -= weight_of(faults, kind);
        if (at <= 0)
            return kind;
    }
    return first;
}

static int
draw_one_of(struct faults *faults, const struct kind *kind)
{
    if (kind->whom != NULL)
        return kind->whom(faults->play->scene);
    return kind->n_targets > 1 ? between(faults->play->chance, 0, kind->n_targets - 1) : 0;
}

/* NULL: whom it would hurt is hurt already. */
static struct fault *
begin_fault(struct faults *faults)
{
    struct fault fault = { .kind = draw_kind(faults), .open = true }, *place = faults->open;
    int length;

    fault.i = draw_one_of(faults, fault.kind);
    length = between(faults->play->chance, fault.kind->least_ms, fault.kind->longest_ms);
    while (place->open)
        place++;
    if (faults->hurt[target_of(&fault)])
        return NULL;
    *place = fault;
    faults->hurt[target_of(place)] = true;
    faults->tallied[place->kind - faults->play->kinds].n++;
    say(faults, "%s (%d) for %d ms", place->kind->name, place->i, length);
    place->kind->begin(faults->play->scene, place->i);
    place->due_us = monotonic_us() + (int64_t)length * 1000;
    return place;
}

static void
end_fault(struct faults *faults, struct fault *fault)
{
    if (fault->kind->end != NULL)
        fault->kind->end(faults->play->scene, fault->i);
    faults->hurt[target_of(fault)] = false;
    fault->open = false;
    say(faults, "%s (%d) is over", fault->kind->name, fault->i);
}

static int
end_those_due(struct faults *faults)
{
    int open = 0;

    for (int i = 0; i < OPEN_MAX; i++) {
        if (faults->open[i].open && monotonic_us() >= faults->open[i].due_us)
            end_fault(faults, &faults->open[i]);
        open += faults->open[i].open;
    }
    faults->play->supervise(faults->play->scene);
    return open;
}

/* --- recovery --------------------------------------------------------------------- */

/* Milliseconds from `since_us` until messages committed after it have arrived,
 * with the fault still there if others can do the work. */
static void
probe(struct faults *faults, const struct kind *kind, int64_t since_us)
{
    struct tallied *tallied = &faults->tallied[kind - faults->play->kinds];
    struct deadline deadline = deadline_exactly_in(RECOVERED_MS);
    int64_t ms;

    ck_assert_msg(faults->play->write_probe(faults->play->scene, RECOVERED_MS),
                  "nothing can be written after: %s", kind->name);
    while (!faults->play->probe_arrived(faults->play->scene)) {
        faults->play->supervise(faults->play->scene);
        ck_assert_msg(wait_a_little(&deadline), "no message arrives %d ms after: %s", RECOVERED_MS,
                      kind->name);
    }
    ms = (monotonic_us() - since_us) / 1000;
    say(faults, "recovered after %" PRId64 " ms", ms);
    if (tallied->n_samples < SAMPLES_MAX)
        tallied->samples[tallied->n_samples++] = ms;
}

static void
idle(struct faults *faults, int ms)
{
    struct deadline deadline = deadline_exactly_in(ms);

    do
        end_those_due(faults);
    while (wait_a_little(&deadline));
}

static void
one_fault(struct faults *faults)
{
    int64_t since_us = monotonic_us();
    struct fault *fault = begin_fault(faults);
    const struct kind *kind = fault->kind;

    if (kind->heals_itself)
        probe(faults, kind, since_us);
    while (end_those_due(faults) > 0)
        idle(faults, 10);
    if (!kind->heals_itself)
        probe(faults, kind, monotonic_us());
}

static void
several_faults(struct faults *faults)
{
    int n = between(faults->play->chance, 2, OPEN_MAX);

    faults->together++;
    for (int i = 0; i < n; i++) {
        begin_fault(faults);
        idle(faults, between(faults->play->chance, 0, 400));
    }
    while (end_those_due(faults) > 0)
        idle(faults, 10);
}

void
let_loose(struct faults *faults, int ms)
{
    int64_t until_us = monotonic_us() + (int64_t)ms * 1000;

    while (monotonic_us() < until_us) {
        idle(faults, between(faults->play->chance, 50, 1500));
        if (percent(faults->play->chance, 25))
            several_faults(faults);
        else
            one_fault(faults);
    }
}

/* --- the table ---------------------------------------------------------------------- */

static int
by_size(const void *a, const void *b)
{
    const int64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static void
print_line(const char *name, int n, int64_t *samples, int n_samples)
{
    qsort(samples, (size_t)n_samples, sizeof *samples, by_size);
    printf("  %-34s %5d", name, n);
    if (n_samples > 0)
        printf(" %8" PRId64 " %8" PRId64 " %8" PRId64, samples[n_samples / 2],
               samples[n_samples * 99 / 100], samples[n_samples - 1]);
    printf("\n");
}

void
print_faults(const struct faults *faults)
{
    static int64_t all[KINDS_MAX * SAMPLES_MAX];
    int n = 0, n_all = 0;

    printf("  %-34s %5s %8s %8s %8s\n", "fault", "times", "p50 ms", "p99 ms", "max ms");
    for (size_t i = 0; i < n_kinds(faults->play); i++) {
        struct tallied tallied = faults->tallied[i];

        if (tallied.n == 0)
            continue;
        memcpy(all + n_all, tallied.samples, (size_t)tallied.n_samples * sizeof *all);
        n += tallied.n;
        n_all += tallied.n_samples;
        print_line(faults->play->kinds[i].name, tallied.n, tallied.samples, tallied.n_samples);
    }
    print_line("all", n, all, n_all);
    printf("  (%d times several at once: without a time)\n", faults->together);
}
