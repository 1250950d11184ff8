/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Relays, PostgreSQL and Kafka are hurt as a seed says, while services write;
 * in the end everything committed is published, nothing else is, and each key
 * is in order.
 *
 *     make chaos DURATION=600 SEED=42
 *
 * Without DURATION it is the short form of `make test`. A long one has a
 * cluster of three brokers instead of a single one.
 */
/* long */
#include "test/chaos/asked.h"
#include "test/chaos/judge.h"
#include "test/chaos/published.h"
#include "test/chaos/relay_faults.h"
#include "test/support/db.h"
#include "test/support/kafka.h"
#include "test/support/run.h"
#include "test/support/wait.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SHORT_S = 12, LONG_S = 60, SETTLE_MS = 90000, PARTITIONS = 3 };

static void
open_scene(struct relay_scene *scene, struct writers_choice *writing)
{
    const char *address;

    scene->postgres = GIVEN_SERVER("pg", "wal_writer_delay=2s", "checkpoint_timeout=30s");
    scene->n_kafka = asked_duration_s(SHORT_S) >= LONG_S ? NODES_MAX : 1;
    given_kafka_cluster(scene->kafka, scene->n_kafka);
    address = scene->kafka[0]->address;
    for (int i = 1; i < scene->n_kafka; i++)
        address = text_of("%s,%s", address, scene->kafka[i]->address);
    use_brokers(address);
    for (int i = 0; i < TOPICS; i++)
        writing->topics[i] = GIVEN_TOPIC(PARTITIONS, text_of("max.message.bytes=%d", TOPIC_BYTES),
                                         "message.timestamp.type=LogAppendTime");
    writing->conninfo = scene->conninfo = given_database_in(scene->postgres);
    scene->arrivals = start_arrivals(writing->topics[0], PARTITIONS);
}

/* Everything that is committed has been published, or the judge tells what has not. */
static void
settle(PGconn *conn)
{
    struct deadline deadline = deadline_in(SETTLE_MS);

    while (db_int(conn,
                  "SELECT (SELECT count(*) FROM outbox.local_messages WHERE status = 'pending')"
                  " + (SELECT count(*) FROM outbox.delayed)"
                  " + (SELECT count(*) FROM outbox.parked)") > 0) {
        tidy_up(conn);
        db_exec(conn, "SELECT outbox.deliver_due(1000)");
        if (!wait_a_little(&deadline))
            return;
    }
}

static void
report(const struct writers *writers, const struct relay_scene *scene, const struct faults *faults)
{
    struct writers_sum sum = writers_sum(writers);

    print_faults(faults);
    printf("  %-34s %" PRId64 "\n", "transactions committed", sum.committed);
    printf("  %-34s %" PRId64 "\n", "rolled back", sum.rolled_back);
    printf("  %-34s %" PRId64 "\n", "COMMIT without an answer", sum.unknown);
    printf("  %-34s %d\n", "relays overtaken", scene->relays->restarts);
    printf("  %-34s %d\n", "relays with another clock", scene->relays->skewed);
}

START_TEST(test_relay_survives_chaos)
{
    struct asked asked = asked_for(SHORT_S, ANY_SEED);
    struct chance chance = chance_of(asked.seed, 0);
    struct writers_choice writing = {
        .dir = asked.dir, .seed = asked.seed, .n = 6, .pause_ms = 30, .delays = "300 ms"
    };
    struct relay_scene scene = { .chance = &chance, .writing = &writing, .log = asked.log };
    struct play play;
    struct writers *writers;
    struct faults *faults;
    PGconn *conn;
    int violated;

    open_scene(&scene, &writing);
    conn = db_connect(scene.conninfo);
    make_ledger(conn);
    scene.relays = given_relays(scene.postgres->address, db_text(conn, "SELECT current_database()"),
                                LEASE_MS, &chance);
    PQfinish(conn);
    writers = start_writers(&writing);
    play = relay_play(&scene);
    faults = new_faults(&play);

    let_loose(faults, asked.duration_s * 1000);

    stop_writers(writers);
    conn = db_connect(scene.conninfo);
    settle(conn);
    relays_supervise(scene.relays);
    report(writers, &scene, faults);
    copy_acknowledged(writers, conn);
    make_records(conn);
    copy_records(conn, writing.topics, TOPICS);
    violated = judge(conn, &published_trial, asked.dir);
    ck_assert_msg(violated == 0, "seed %" PRIu64 ": %d rules are violated; see %s", asked.seed,
                  violated, asked.dir);
    fclose(asked.log);
    PQfinish(conn);
}
END_TEST

/* Two messages of one key, each published twice, and what may be wrong about them. */
START_TEST(test_judge_notices_each_fault)
{
    static const char *const faults[] = {
        "DELETE FROM chaos.record WHERE payload = 'k1/2'",
        "DELETE FROM chaos.ledger WHERE n = 2",
        "UPDATE chaos.ledger SET large = true WHERE n = 2",
        "UPDATE chaos.record SET payload = 'k1/3' WHERE payload = 'k1/2'",
        "UPDATE chaos.record SET part = pos",
        "UPDATE chaos.record SET pos = -pos",
        "UPDATE chaos.ledger SET delayed_until = now()",
        "INSERT INTO chaos.acknowledged VALUES (gen_random_uuid())",
        "INSERT INTO outbox.parked_key (topic, key, error) VALUES ('t', 'k1', '')",
        "SELECT outbox.enqueue('t', 'k1/3', 'k1')",
        NULL,
    };
    PGconn *conn = db_connect(given_database_in(GIVEN_SERVER("pg")));

    make_ledger(conn);
    make_records(conn);
    db_exec(conn, "CREATE TABLE chaos.acknowledged (id uuid)");
    db_exec(conn, "INSERT INTO chaos.ledger (id, topic, key, n, large)"
                  " SELECT gen_random_uuid(), 't', 'k1', n, false FROM generate_series(1, 2) n");
    db_exec(conn, "INSERT INTO chaos.record (topic, part, pos, id, key, payload, ms)"
                  " SELECT topic, 0, 2 * again + n, id, key, key || '/' || n, 0"
                  "   FROM chaos.ledger, generate_series(0, 1) again");
    expect_judge_notices(conn, &published_trial, faults);
    PQfinish(conn);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "chaos/relay",
        .tests = TESTS(test_judge_notices_each_fault, test_relay_survives_chaos),
        .timeout_s = 2 * asked_duration_s(SHORT_S) + 300,
    });
}
