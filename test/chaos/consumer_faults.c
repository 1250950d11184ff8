/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kinds of faults.
 */
#include "test/chaos/consumer_faults.h"

#include "test/chaos/postgres_faults.h"
#include "test/support/db.h"
#include "test/support/pace.h"
#include "test/support/redis.h"
#include "test/support/run.h"

enum { LATE_MS = 100, FLUSH_US = 5000 };

enum target { MEMBER_0, POSTGRES = MEMBERS, REDIS, KAFKA };

/* --- members ------------------------------------------------------------------ */

static void
kill_member(void *arg, int i)
{
    members_kill(((struct consumer_scene *)arg)->members, i);
}

static void
start_member(void *arg, int i)
{
    members_start(((struct consumer_scene *)arg)->members, i);
}

static void
leave(void *arg, int i)
{
    members_leave(((struct consumer_scene *)arg)->members, i);
}

static void
freeze_member(void *arg, int i)
{
    members_freeze(((struct consumer_scene *)arg)->members, i);
}

static void
thaw_member(void *arg, int i)
{
    members_thaw(((struct consumer_scene *)arg)->members, i);
}

static void
cut_member(void *arg, int i)
{
    proxy_cut_now(((struct consumer_scene *)arg)->members->members[i].proxy);
}

static void
shut_member_out(void *arg, int i)
{
    proxy_refuse(((struct consumer_scene *)arg)->members->members[i].proxy, true);
    cut_member(arg, i);
}

static void
let_member_in(void *arg, int i)
{
    proxy_refuse(((struct consumer_scene *)arg)->members->members[i].proxy, false);
}

/* --- PostgreSQL and Kafka -------------------------------------------------------- */

static void
restart_immediate(void *arg, int i)
{
    (void)i;
    restart_postgres_at_once(((struct consumer_scene *)arg)->postgres);
}

static void
crash(void *arg, int i)
{
    (void)i;
    crash_postgres(((struct consumer_scene *)arg)->postgres);
}

static void
terminate(void *arg, int i)
{
    (void)i;
    terminate_sessions(((struct consumer_scene *)arg)->conninfo);
}

static void
freeze_broker(void *arg, int i)
{
    (void)i;
    server_freeze(((struct consumer_scene *)arg)->kafka);
}

static void
thaw_broker(void *arg, int i)
{
    (void)i;
    server_thaw(((struct consumer_scene *)arg)->kafka);
}

static void
restart_broker(void *arg, int i)
{
    (void)i;
    server_stop(((struct consumer_scene *)arg)->kafka);
    server_start(((struct consumer_scene *)arg)->kafka);
}

/* --- Redis ------------------------------------------------------------------------ */

static void
tell_redis(const struct consumer_scene *scene, const char *setting, const char *value)
{
    redisContext *redis = redis_open(scene->redis->address);

    redis_text(redis, "CONFIG SET %s %s", setting, value);
    redisFree(redis);
}

void
expect_marks_expire(const struct consumer_scene *scene)
{
    redisContext *redis = redis_open(scene->redis->address);

    expect_every_key_expires(redis, "*");
    redisFree(redis);
}

static void
kill_redis(void *arg, int i)
{
    struct consumer_scene *scene = arg;

    (void)i;
    expect_marks_expire(scene);
    server_kill(scene->redis);
}

static void
start_redis(void *arg, int i)
{
    (void)i;
    server_start(((struct consumer_scene *)arg)->redis);
}

static void *
run_flusher(void *arg)
{
    struct consumer_scene *scene = arg;
    struct pace pace = pace_begin();
    redisContext *redis = redis_open(scene->redis->address);

    while (atomic_load(&scene->flushing)) {
        freeReplyObject(redisCommand(redis, "FLUSHALL"));
        pace_keep(&pace, FLUSH_US);
    }
    redisFree(redis);
    return NULL;
}

static void
flush_redis(void *arg, int i)
{
    struct consumer_scene *scene = arg;

    (void)i;
    expect_marks_expire(scene);
    atomic_store(&scene->flushing, true);
    ck_assert_int_eq(pthread_create(&scene->flusher, NULL, run_flusher, scene), 0);
}

static void
leave_redis_alone(void *arg, int i)
{
    struct consumer_scene *scene = arg;

    (void)i;
    atomic_store(&scene->flushing, false);
    pthread_join(scene->flusher, NULL);
}

static void
freeze_redis(void *arg, int i)
{
    (void)i;
    server_freeze(((struct consumer_scene *)arg)->redis);
}

static void
thaw_redis(void *arg, int i)
{
    (void)i;
    server_thaw(((struct consumer_scene *)arg)->redis);
}

static void
limit_redis(void *arg, int i)
{
    (void)i;
    tell_redis(arg, "maxmemory-policy", "allkeys-lru");
    tell_redis(arg, "maxmemory", "2mb");
}

static void
fill_redis(void *arg, int i)
{
    (void)i;
    tell_redis(arg, "maxmemory-policy", "noeviction");
    tell_redis(arg, "maxmemory", "1");
}

static void
empty_redis(void *arg, int i)
{
    (void)i;
    tell_redis(arg, "maxmemory", "0");
}

static void
forbid_writes(void *arg, int i)
{
    (void)i;
    tell_redis(arg, "min-replicas-to-write", "1");
}

static void
allow_writes(void *arg, int i)
{
    (void)i;
    tell_redis(arg, "min-replicas-to-write", "0");
}

static void
lose_answer(void *arg, int i)
{
    struct consumer_scene *scene = arg;

    (void)i;
    proxy_swallow(scene->members->redis, between(scene->chance, 1, 20));
}

static void
delay_answer(void *arg, int i)
{
    struct consumer_scene *scene = arg;

    (void)i;
    proxy_delay(scene->members->redis, between(scene->chance, 1, 20),
                between(scene->chance, 1, LATE_MS));
}

/* clang-format off */
static const struct kind kinds[] = {
    { "consumer killed", 18, MEMBER_0, MEMBERS, true, 100, 4000, kill_member, start_member },
    { "consumer stopped past its session", 18, MEMBER_0, MEMBERS, true, POLL_MS + 500, 3 * POLL_MS, freeze_member, thaw_member },
    { "consumer stopped for a moment", 8, MEMBER_0, MEMBERS, true, 10, SESSION_MS, freeze_member, thaw_member },
    { "consumer leaves and joins", 14, MEMBER_0, MEMBERS, true, 1, 3000, leave, start_member },
    { "consumer's connection cut", 8, MEMBER_0, MEMBERS, true, 0, 0, cut_member },
    { "consumer shut out of PostgreSQL", 5, MEMBER_0, MEMBERS, false, 100, 4000, shut_member_out, let_member_in },
    { "all sessions terminated", 5, POSTGRES, 1, true, 0, 0, terminate },
    { "PostgreSQL restarted, immediate", 3, POSTGRES, 1, false, 0, 0, restart_immediate },
    { "PostgreSQL killed", 5, POSTGRES, 1, false, 0, 0, crash },
    { "Redis restarted empty", 6, REDIS, 1, true, 0, 2000, kill_redis, start_redis },
    { "Redis flushed every 5 ms", 6, REDIS, 1, true, 500, 4000, flush_redis, leave_redis_alone },
    { "Redis stopped", 8, REDIS, 1, true, 5, 3000, freeze_redis, thaw_redis },
    { "Redis with 2 MB", 5, REDIS, 1, true, 1000, 5000, limit_redis, empty_redis },
    { "Redis full", 4, REDIS, 1, true, 500, 3000, fill_redis, empty_redis },
    { "Redis refuses to write", 3, REDIS, 1, true, 500, 3000, forbid_writes, allow_writes },
    { "Redis's answer lost", 4, REDIS, 1, true, 0, 0, lose_answer },
    { "Redis's answer late", 4, REDIS, 1, true, 0, 0, delay_answer },
    { "broker stopped for a while", 3, KAFKA, 1, false, 200, 4000, freeze_broker, thaw_broker },
    { "broker restarted", 2, KAFKA, 1, false, 0, 0, restart_broker },
    { 0 },
};
/* clang-format on */

/* --- probes ------------------------------------------------------------------------ */

static void
supervise(void *arg)
{
    members_supervise(((struct consumer_scene *)arg)->members);
}

static bool
probe(void *arg, int ms)
{
    struct consumer_scene *scene = arg;
    struct saga_uuid ids[PARTITIONS];
    const char *list = "";
    char id[37];

    (void)ms;
    sender_probe(scene->sender, ids, PARTITIONS);
    for (int i = 0; i < PARTITIONS; i++) {
        saga_uuid_text(&ids[i], id);
        list = text_of("%s%s'%s'", list, i > 0 ? "," : "", id);
    }
    scene->arrived = text_of("SELECT count(DISTINCT (consumer, message_id)) = %d FROM effect"
                             " WHERE message_id IN (%s)",
                             GROUPS * PARTITIONS, list);
    return true;
}

/* In both groups. */
static bool
probe_arrived(void *arg)
{
    struct consumer_scene *scene = arg;
    PGresult *result;
    bool arrived;

    if (scene->conn == NULL || PQstatus(scene->conn) != CONNECTION_OK) {
        PQfinish(scene->conn);
        scene->conn = db_try_connect(scene->conninfo);
    }
    if (scene->conn == NULL)
        return false;
    result = PQexec(scene->conn, scene->arrived);
    arrived = PQntuples(result) == 1 && PQgetvalue(result, 0, 0)[0] == 't';
    PQclear(result);
    return arrived;
}

struct play
consumer_play(struct consumer_scene *scene)
{
    return (struct play){ .scene = scene,
                          .kinds = kinds,
                          .chance = scene->chance,
                          .log = scene->log,
                          .supervise = supervise,
                          .write_probe = probe,
                          .probe_arrived = probe_arrived };
}
