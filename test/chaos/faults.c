/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Faults one after the other, each with a probe after it, and now and then
 * several at once, without.
 */
#include "test/chaos/faults.h"

#include "test/support/db.h"
#include "test/support/run.h"
#include "test/support/wait.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum {
    PROBES = 8,
    RECOVERED_MS = 60000, /* longer than that is a failure */
    OPEN_MAX = 4,
    STREAMS_MAX = 4,
    SAMPLES_MAX = 4096
};

enum target { RELAY_0, RELAY_1, POSTGRES, KAFKA, STREAMS, N_TARGETS };

struct fault {
    const struct kind *kind;
    int i; /* which relay, or which of the brokers */
    bool open;
    int64_t due_us; /* when it ends */
};

/* `over`: begin() leaves what will do without the hurt one; otherwise messages can only flow after
 * end(). */
struct kind {
    const char *name;
    int weight;
    enum target target; /* RELAY_0: any relay */
    bool heals_itself;
    int least_ms, longest_ms; /* 0: as long as begin() takes */
    void (*begin)(struct scene *scene, int i);
    void (*end)(struct scene *scene, int i);
    bool cluster_only, single_only;
};

/* --- relays ------------------------------------------------------------------ */

static void
kill_relay(struct scene *scene, int i)
{
    relays_kill(scene->relays, i);
}

static void
start_relay_again(struct scene *scene, int i)
{
    relays_start(scene->relays, i);
}

static void
stop_relay_well(struct scene *scene, int i)
{
    relays_stop(scene->relays, i);
}

static void
freeze_relay(struct scene *scene, int i)
{
    relays_freeze(scene->relays, i);
}

static void
thaw_relay(struct scene *scene, int i)
{
    relays_thaw(scene->relays, i);
}

static void
cut_relay(struct scene *scene, int i)
{
    proxy_cut_now(scene->relays->relays[i].proxy);
}

static void
shut_relay_out(struct scene *scene, int i)
{
    proxy_refuse(scene->relays->relays[i].proxy, true);
    proxy_cut_now(scene->relays->relays[i].proxy);
}

static void
let_relay_in(struct scene *scene, int i)
{
    proxy_refuse(scene->relays->relays[i].proxy, false);
}

/* --- PostgreSQL --------------------------------------------------------------- */

static void
restart_fast(struct scene *scene, int i)
{
    (void)i;
    server_stop(scene->postgres);
    server_start(scene->postgres);
}

static void
restart_immediate(struct scene *scene, int i)
{
    (void)i;
    kill(scene->postgres->pid, SIGQUIT);
    server_stop(scene->postgres); /* waits until it is gone */
    server_start(scene->postgres);
}

static void
crash_postgres(struct scene *scene, int i)
{
    (void)i;
    server_kill(scene->postgres);
    server_start(scene->postgres);
}

static void
terminate_sessions(struct scene *scene, int i)
{
    PGconn *conn = db_try_connect(scene->conninfo);

    (void)i;
    if (conn == NULL)
        return;
    PQclear(PQexec(conn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                         " WHERE datname = current_database() AND pid <> pg_backend_pid()"));
    PQfinish(conn);
}

static void
change_streams(struct scene *scene, int i)
{
    PGconn *conn = db_try_connect(scene->conninfo);
    PGresult *result = NULL;

    (void)i;
    if (conn != NULL)
        result = PQexec(
            conn, text_of("SELECT outbox.set_streams(%d)", between(scene->chance, 1, STREAMS_MAX)));
    PQclear(result);
    PQfinish(conn);
}

/* --- Kafka ---------------------------------------------------------------------- */

static void
restart_broker(struct scene *scene, int i)
{
    server_stop(scene->kafka[i]);
    server_start(scene->kafka[i]);
}

static void
crash_broker(struct scene *scene, int i)
{
    server_kill(scene->kafka[i]);
    server_start(scene->kafka[i]);
}

static void
freeze_broker(struct scene *scene, int i)
{
    server_freeze(scene->kafka[i]);
}

static void
thaw_broker(struct scene *scene, int i)
{
    server_thaw(scene->kafka[i]);
}

static void
kill_broker(struct scene *scene, int i)
{
    server_kill(scene->kafka[i]);
}

static void
start_broker(struct scene *scene, int i)
{
    server_start(scene->kafka[i]);
}

/* clang-format off */
static const struct kind kinds[] = {
    { "relay killed", 20, RELAY_0, true, 100, 3000, kill_relay, start_relay_again },
    { "relay stopped past its lease", 20, RELAY_0, true, -1, -1, freeze_relay, thaw_relay },
    { "relay ended and started", 8, RELAY_0, true, 1, 1000, stop_relay_well, start_relay_again },
    { "relay's connections cut", 12, RELAY_0, true, 0, 0, cut_relay, NULL },
    { "relay shut out of PostgreSQL", 8, RELAY_0, true, 100, 4000, shut_relay_out, let_relay_in },
    { "all sessions terminated", 8, POSTGRES, true, 0, 0, terminate_sessions, NULL },
    { "PostgreSQL restarted, fast", 6, POSTGRES, false, 0, 0, restart_fast, NULL },
    { "PostgreSQL restarted, immediate", 8, POSTGRES, false, 0, 0, restart_immediate, NULL },
    { "PostgreSQL killed", 12, POSTGRES, false, 0, 0, crash_postgres, NULL },
    { "number of streams changed", 10, STREAMS, true, 0, 0, change_streams, NULL },
    { "broker restarted", 5, KAFKA, false, 0, 0, restart_broker, NULL, .single_only = true },
    { "broker killed and started", 5, KAFKA, false, 0, 0, crash_broker, NULL, .single_only = true },
    { "broker stopped for a while", 6, KAFKA, false, 200, 4000, freeze_broker, thaw_broker, .single_only = true },
    { "leader killed", 10, KAFKA, true, 1000, 8000, kill_broker, start_broker, .cluster_only = true },
    { "leader stopped for a while", 6, KAFKA, false, 500, 8000, freeze_broker, thaw_broker, .cluster_only = true },
    { "leader restarted", 5, KAFKA, false, 0, 0, restart_broker, NULL, .cluster_only = true },
};
/* clang-format on */
enum { N_KINDS = sizeof kinds / sizeof *kinds };

struct tallied {
    int n, n_samples;
    int64_t samples[SAMPLES_MAX]; /* milliseconds */
};

struct faults {
    struct scene *scene;
    struct fault open[OPEN_MAX];
    bool hurt[N_TARGETS];
    struct tallied tallied[N_KINDS];
    int64_t began_us;
    int together;
};

struct faults *
new_faults(struct scene *scene)
{
    struct faults *faults = calloc(1, sizeof *faults);

    ck_assert_ptr_nonnull(faults);
    at_test_end(free, faults);
    faults->scene = scene;
    faults->began_us = monotonic_us();
    return faults;
}

static void __attribute__((format(printf, 2, 3)))
say(struct faults *faults, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fprintf(faults->scene->log, "%9.3f  ", (double)(monotonic_us() - faults->began_us) / 1e6);
    vfprintf(faults->scene->log, format, args);
    fputc('\n', faults->scene->log);
    fflush(faults->scene->log);
    va_end(args);
}

/* --- one ------------------------------------------------------------------------- */

static enum target
target_of(const struct fault *fault)
{
    return fault->kind->target == RELAY_0 ? (enum target)(RELAY_0 + fault->i) : fault->kind->target;
}

static bool
possible(const struct faults *faults, const struct kind *kind)
{
    bool cluster = faults->scene->n_kafka > 1;

    return !(kind->cluster_only && !cluster) && !(kind->single_only && cluster);
}

static const struct kind *
draw_kind(struct faults *faults)
{
    int sum = 0, at;

    for (int i = 0; i < N_KINDS; i++)
        sum += possible(faults, &kinds[i]) ? kinds[i].weight : 0;
    at = between(faults->scene->chance, 1, sum);
    for (int i = 0; i < N_KINDS; i++) {
        at -= possible(faults, &kinds[i]) ? kinds[i].weight : 0;
        if (at <= 0)
            return &kinds[i];
    }
    return &kinds[0];
}

static int
draw_one_of(struct faults *faults, const struct kind *kind)
{
    int leader;

    if (kind->target == RELAY_0)
        return between(faults->scene->chance, 0, RELAYS - 1);
    if (kind->target != KAFKA || faults->scene->n_kafka == 1)
        return 0;
    leader = arrivals_leader(faults->scene->arrivals);
    return leader > 0 ? leader - 1 : between(faults->scene->chance, 0, faults->scene->n_kafka - 1);
}

static int
draw_length(struct faults *faults, const struct kind *kind)
{
    int lease = faults->scene->lease_ms;

    if (kind->least_ms < 0)
        return between(faults->scene->chance, lease + lease / 5, 3 * lease);
    return kind->longest_ms > 0 ? between(faults->scene->chance, kind->least_ms, kind->longest_ms)
                                : 0;
}

/* NULL: whom it would hurt is hurt already. */
static struct fault *
begin_fault(struct faults *faults)
{
    struct fault fault = { .kind = draw_kind(faults), .open = true }, *place = faults->open;
    int length;

    fault.i = draw_one_of(faults, fault.kind);
    length = draw_length(faults, fault.kind);
    while (place->open)
        place++;
    if (faults->hurt[target_of(&fault)])
        return NULL;
    *place = fault;
    faults->hurt[target_of(place)] = true;
    faults->tallied[place->kind - kinds].n++;
    say(faults, "%s (%d) for %d ms", place->kind->name, place->i, length);
    place->kind->begin(faults->scene, place->i);
    place->due_us = monotonic_us() + (int64_t)length * 1000;
    return place;
}

static void
end_fault(struct faults *faults, struct fault *fault)
{
    if (fault->kind->end != NULL)
        fault->kind->end(faults->scene, fault->i);
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
    relays_supervise(faults->scene->relays);
    return open;
}

/* --- recovery --------------------------------------------------------------------- */

/* Milliseconds from `since_us` until messages committed after it have arrived,
 * with the fault still there if others can do the work. */
static void
probe(struct faults *faults, const struct kind *kind, int64_t since_us)
{
    struct tallied *tallied = &faults->tallied[kind - kinds];
    struct saga_uuid ids[PROBES];
    struct deadline deadline = deadline_exactly_in(RECOVERED_MS);
    int64_t ms;

    ck_assert_msg(write_probe(faults->scene->writing, ids, PROBES, RECOVERED_MS),
                  "PostgreSQL does not come back after: %s", kind->name);
    arrivals_await(faults->scene->arrivals, ids, PROBES);
    while (!arrivals_complete(faults->scene->arrivals)) {
        relays_supervise(faults->scene->relays);
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
    int n = between(faults->scene->chance, 2, OPEN_MAX);

    faults->together++;
    for (int i = 0; i < n; i++) {
        begin_fault(faults);
        idle(faults, between(faults->scene->chance, 0, 400));
    }
    while (end_those_due(faults) > 0)
        idle(faults, 10);
}

void
let_loose(struct faults *faults, int ms)
{
    int64_t until_us = monotonic_us() + (int64_t)ms * 1000;

    while (monotonic_us() < until_us) {
        idle(faults, between(faults->scene->chance, 50, 1500));
        if (percent(faults->scene->chance, 25))
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
    static int64_t all[N_KINDS * SAMPLES_MAX];
    int n = 0, n_all = 0;

    printf("  %-34s %5s %8s %8s %8s\n", "fault", "times", "p50 ms", "p99 ms", "max ms");
    for (int i = 0; i < N_KINDS; i++) {
        struct tallied tallied = faults->tallied[i];

        if (tallied.n == 0)
            continue;
        memcpy(all + n_all, tallied.samples, (size_t)tallied.n_samples * sizeof *all);
        n += tallied.n;
        n_all += tallied.n_samples;
        print_line(kinds[i].name, tallied.n, tallied.samples, tallied.n_samples);
    }
    print_line("all", n, all, n_all);
    printf("  (%d times several at once: without a time)\n", faults->together);
}
