/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kinds of faults.
 */
#include "test/chaos/relay_faults.h"

#include "test/chaos/postgres_faults.h"
#include "test/support/db.h"
#include "test/support/run.h"

enum { PROBES = 8, STREAMS_MAX = 4 };

enum target { RELAY_0, RELAY_1, POSTGRES, KAFKA, STREAMS };

/* --- relays ------------------------------------------------------------------ */

static void
kill_relay(void *arg, int i)
{
    struct relay_scene *scene = arg;

    relays_kill(scene->relays, i);
}

static void
start_relay_again(void *arg, int i)
{
    struct relay_scene *scene = arg;

    relays_start(scene->relays, i);
}

static void
stop_relay_well(void *arg, int i)
{
    struct relay_scene *scene = arg;

    relays_stop(scene->relays, i);
}

static void
freeze_relay(void *arg, int i)
{
    struct relay_scene *scene = arg;

    relays_freeze(scene->relays, i);
}

static void
thaw_relay(void *arg, int i)
{
    struct relay_scene *scene = arg;

    relays_thaw(scene->relays, i);
}

static void
cut_relay(void *arg, int i)
{
    struct relay_scene *scene = arg;

    proxy_cut_now(scene->relays->relays[i].proxy);
}

static void
shut_relay_out(void *arg, int i)
{
    struct relay_scene *scene = arg;

    proxy_refuse(scene->relays->relays[i].proxy, true);
    proxy_cut_now(scene->relays->relays[i].proxy);
}

static void
let_relay_in(void *arg, int i)
{
    struct relay_scene *scene = arg;

    proxy_refuse(scene->relays->relays[i].proxy, false);
}

/* --- PostgreSQL --------------------------------------------------------------- */

static void
restart_fast(void *arg, int i)
{
    struct relay_scene *scene = arg;

    (void)i;
    server_stop(scene->postgres);
    server_start(scene->postgres);
}

static void
restart_immediate(void *arg, int i)
{
    struct relay_scene *scene = arg;

    (void)i;
    restart_postgres_at_once(scene->postgres);
}

static void
crash(void *arg, int i)
{
    struct relay_scene *scene = arg;

    (void)i;
    crash_postgres(scene->postgres);
}

static void
terminate(void *arg, int i)
{
    struct relay_scene *scene = arg;

    (void)i;
    terminate_sessions(scene->conninfo);
}

static void
change_streams(void *arg, int i)
{
    struct relay_scene *scene = arg;

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
restart_broker(void *arg, int i)
{
    struct relay_scene *scene = arg;

    server_stop(scene->kafka[i]);
    server_start(scene->kafka[i]);
}

static void
crash_broker(void *arg, int i)
{
    struct relay_scene *scene = arg;

    server_kill(scene->kafka[i]);
    server_start(scene->kafka[i]);
}

static void
freeze_broker(void *arg, int i)
{
    struct relay_scene *scene = arg;

    server_freeze(scene->kafka[i]);
}

static void
thaw_broker(void *arg, int i)
{
    struct relay_scene *scene = arg;

    server_thaw(scene->kafka[i]);
}

static void
kill_broker(void *arg, int i)
{
    struct relay_scene *scene = arg;

    server_kill(scene->kafka[i]);
}

static void
start_broker(void *arg, int i)
{
    struct relay_scene *scene = arg;

    server_start(scene->kafka[i]);
}

/* --- whether, and whom ------------------------------------------------------------ */

static bool
is_cluster(const void *arg)
{
    const struct relay_scene *scene = arg;

    return scene->n_kafka > 1;
}

static bool
is_single(const void *arg)
{
    return !is_cluster(arg);
}

static int
find_leader(void *arg)
{
    struct relay_scene *scene = arg;
    int leader = arrivals_leader(scene->arrivals);

    return leader > 0 ? leader - 1 : between(scene->chance, 0, scene->n_kafka - 1);
}

/* clang-format off */
static const struct kind kinds[] = {
    { "relay killed", 20, RELAY_0, RELAYS, true, 100, 3000, kill_relay, start_relay_again },
    { "relay stopped past its lease", 20, RELAY_0, RELAYS, true, LEASE_MS * 6 / 5, 3 * LEASE_MS, freeze_relay, thaw_relay },
    { "relay ended and started", 8, RELAY_0, RELAYS, true, 1, 1000, stop_relay_well, start_relay_again },
    { "relay's connections cut", 12, RELAY_0, RELAYS, true, 0, 0, cut_relay },
    { "relay shut out of PostgreSQL", 8, RELAY_0, RELAYS, true, 100, 4000, shut_relay_out, let_relay_in },
    { "all sessions terminated", 8, POSTGRES, 1, true, 0, 0, terminate },
    { "PostgreSQL restarted, fast", 6, POSTGRES, 1, false, 0, 0, restart_fast },
    { "PostgreSQL restarted, immediate", 8, POSTGRES, 1, false, 0, 0, restart_immediate },
    { "PostgreSQL killed", 12, POSTGRES, 1, false, 0, 0, crash },
    { "number of streams changed", 10, STREAMS, 1, true, 0, 0, change_streams },
    { "broker restarted", 5, KAFKA, 1, false, 0, 0, restart_broker, .possible = is_single },
    { "broker killed and started", 5, KAFKA, 1, false, 0, 0, crash_broker, .possible = is_single },
    { "broker stopped for a while", 6, KAFKA, 1, false, 200, 4000, freeze_broker, thaw_broker, .possible = is_single },
    { "leader killed", 10, KAFKA, 1, true, 1000, 8000, kill_broker, start_broker, is_cluster, find_leader },
    { "leader stopped for a while", 6, KAFKA, 1, false, 500, 8000, freeze_broker, thaw_broker, is_cluster, find_leader },
    { "leader restarted", 5, KAFKA, 1, false, 0, 0, restart_broker, NULL, is_cluster, find_leader },
    { 0 },
};
/* clang-format on */

/* --- probes ------------------------------------------------------------------------ */

static void
supervise(void *arg)
{
    struct relay_scene *scene = arg;

    relays_supervise(scene->relays);
}

static bool
probe(void *arg, int ms)
{
    struct relay_scene *scene = arg;
    struct saga_uuid ids[PROBES];

    if (!write_probe(scene->writing, ids, PROBES, ms))
        return false;
    arrivals_await(scene->arrivals, ids, PROBES);
    return true;
}

static bool
probe_arrived(void *arg)
{
    struct relay_scene *scene = arg;

    return arrivals_complete(scene->arrivals);
}

struct play
relay_play(struct relay_scene *scene)
{
    return (struct play){ .scene = scene,
                          .kinds = kinds,
                          .chance = scene->chance,
                          .log = scene->log,
                          .supervise = supervise,
                          .write_probe = probe,
                          .probe_arrived = probe_arrived };
}
