/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Consumers join, leave, are killed and stopped, and PostgreSQL, Redis and Kafka
 * are hurt, as a seed says, while messages come at a steady rate, some of them
 * again; in the end each message has had its effect once in each group, and each
 * key's effects are in order.
 *
 *     make chaos-consumers DURATION=600 SEED=42
 *
 * Without DURATION it is the short form of `make test`, always with the same seed.
 */
/* long */
#include "test/chaos/applied.h"
#include "test/chaos/asked.h"
#include "test/chaos/consumer_faults.h"
#include "test/support/db.h"
#include "test/support/kafka.h"
#include "test/support/run.h"
#include "test/support/wait.h"

#include <inttypes.h>

enum { SHORT_S = 12, SHORT_SEED = 5, READY_MS = 60000, SETTLE_MS = 90000, RATE = 100 };

static void
open_scene(struct consumer_scene *scene, uint64_t seed)
{
    const char *topic;
    PGconn *conn;

    scene->kafka = GIVEN_SERVER("kafka", text_of("group.min.session.timeout.ms=%d", SESSION_MS));
    use_brokers(scene->kafka->address);
    scene->redis = GIVEN_SERVER("redis");
    /* Whoever commits as the server would have it loses his commits when that crashes. */
    scene->postgres = GIVEN_SERVER("pg", "track_commit_timestamp=on", "synchronous_commit=off",
                                   "wal_writer_delay=2s");
    scene->conninfo = given_database_in(scene->postgres);
    topic = GIVEN_TOPIC(PARTITIONS);
    conn = db_connect(scene->conninfo);
    make_effects(conn);
    scene->members =
        given_members(scene->postgres->address, db_text(conn, "SELECT current_database()"),
                      scene->redis->address, topic, scene->chance);
    for (int i = 0; i < GROUPS; i++)
        db_exec(conn, "INSERT INTO chaos.consumer VALUES ('%s')", scene->members->groups[i]);
    db_exec(conn, "CHECKPOINT"); /* the groups survive a crash */
    PQfinish(conn);
    scene->sender = start_sender(topic, seed, RATE);
}

/* Every message has an effect, and the offsets have followed; or the judge tells what has not. */
static void
settle(struct consumer_scene *scene, PGconn *conn)
{
    int64_t records = sender_messages(scene->sender) + sender_repeats(scene->sender);
    struct deadline deadline = deadline_in(SETTLE_MS);

    while (db_int(conn, "SELECT coalesce(sum(next_offset), 0)::bigint"
                        " FROM idempotency.consumer_offset") < GROUPS * records &&
           wait_a_little(&deadline))
        members_supervise(scene->members);
    db_exec(conn, "INSERT INTO chaos.topic VALUES (%" PRId64 ")", records);
    for (int i = 0; i < MEMBERS; i++)
        members_leave(scene->members, i);
    expect_marks_expire(scene);
}

START_TEST(test_consumers_survive_chaos)
{
    struct asked asked = asked_for(SHORT_S, SHORT_SEED);
    struct chance chance = chance_of(asked.seed, 0);
    struct consumer_scene scene = { .chance = &chance, .log = asked.log };
    struct play play;
    struct faults *faults;
    PGconn *conn;
    int violated;

    open_scene(&scene, asked.seed);
    play = consumer_play(&scene);
    faults = new_faults(&play);
    ck_assert(play.write_probe(&scene, READY_MS));
    WAIT_UNTIL(play.probe_arrived(&scene), READY_MS);

    let_loose(faults, asked.duration_s * 1000);

    stop_sender(scene.sender);
    conn = db_connect(scene.conninfo);
    settle(&scene, conn);
    print_faults(faults);
    printf("  %-34s %lld applied; suppressed: %lld by mark, %lld by inbox\n",
           "those who ended in order say", scene.members->applied, scene.members->by_mark,
           scene.members->by_inbox);
    copy_sent(scene.sender, conn);
    violated = judge(conn, &applied_trial, asked.dir);
    ck_assert_msg(violated == 0, "seed %" PRIu64 ": %d rules are violated; see %s", asked.seed,
                  violated, asked.dir);
    PQfinish(scene.conn);
    PQfinish(conn);
    fclose(asked.log);
}
END_TEST

/* Two messages of one key in two groups, and what may be wrong about them. */
START_TEST(test_judge_notices_each_fault)
{
    static const char *const faults[] = {
        "DELETE FROM effect WHERE seq = 1",
        "INSERT INTO effect (message_id, consumer, key, value)"
        " SELECT message_id, consumer, key, value FROM effect WHERE seq = 4",
        "DELETE FROM chaos.sent WHERE n = 1",
        "UPDATE effect SET value = '3' WHERE value = '2'",
        "UPDATE effect SET key = 'k2'",
        "UPDATE effect SET value = CASE value WHEN '1' THEN '2' ELSE '1' END;"
        " UPDATE chaos.sent SET n = 3 - n",
        "UPDATE effect SET xid = (SELECT max(xid) FROM effect) WHERE value = '1';"
        " UPDATE effect SET xid = (SELECT min(xid) FROM chaos.old) WHERE value = '2'",
        "DELETE FROM idempotency.inbox",
        "UPDATE idempotency.consumer_offset SET next_offset = 1",
        "INSERT INTO idempotency.quarantine (consumer, reason, topic, partition, \"offset\", hash,"
        " headers) VALUES ('a', 'r', 't', 0, 0, '', '{}')",
        NULL,
    };
    PGconn *conn = db_connect(given_database_in(GIVEN_SERVER("pg", "track_commit_timestamp=on")));

    make_effects(conn);
    db_exec(conn, "INSERT INTO chaos.consumer VALUES ('a'), ('b')");
    db_exec(conn, "CREATE TABLE chaos.old AS SELECT pg_current_xact_id() AS xid");
    db_exec(conn, "CREATE TABLE chaos.sent AS SELECT outbox.uuid_v7() AS id, 'k1' AS key, n"
                  " FROM generate_series(1, 2) n");
    for (int n = 1; n <= 2; n++)
        db_exec(conn,
                "INSERT INTO effect (message_id, consumer, key, value)"
                " SELECT id, name, key, n FROM chaos.sent, chaos.consumer WHERE n = %d",
                n);
    db_exec(conn, "SELECT idempotency.receive(name, ARRAY[id], ARRAY['\\x00'::bytea],"
                  " ARRAY['t'], ARRAY[0], ARRAY[n::bigint]) FROM chaos.sent, chaos.consumer");
    db_exec(conn,
            "INSERT INTO chaos.topic VALUES (2);"
            "INSERT INTO idempotency.consumer_offset (consumer, topic, partition, next_offset)"
            " SELECT name, 't', 0, 2 FROM chaos.consumer");
    expect_judge_notices(conn, &applied_trial, faults);
    PQfinish(conn);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "chaos/consumer",
        .tests = TESTS(test_judge_notices_each_fault, test_consumers_survive_chaos),
        .timeout_s = 2 * asked_duration_s(SHORT_S) + 300,
    });
}
