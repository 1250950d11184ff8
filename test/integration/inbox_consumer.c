/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A consumer at the horizon of its inbox: it has old days forgotten, and applies
 * nothing that may have been applied then.
 */
#include "test/support/consumer.h"
#include "test/support/run.h"
#include "test/support/wait.h"

/* trap: I13, I29 */
START_TEST(test_consumer_quarantines_what_is_beyond_the_horizon_i13_i29)
{
    struct fixture *fixture = given_consumer_fixture(1);

    produce_one(fixture->topic, "01890a5d-ac96-774b-8000-000000000001", "k", "old");
    produce_one(fixture->topic, "ffffffff-ffff-7fff-bfff-ffffffffffff", "k", "future");
    produce_one(fixture->topic, id_of(1), "k", "now");
    run_until_idle(GIVEN_CONSUMER(fixture));
    expect_effects(fixture, 1, 1);
    ck_assert_str_eq(db_text(fixture->conn,
                             "SELECT string_agg(convert_from(payload, 'UTF8'), ' ' ORDER BY id)"
                             " FROM idempotency.quarantine WHERE state = 'held'"),
                     "old future");
}
END_TEST

START_TEST(test_consumer_has_old_days_forgotten)
{
    struct fixture *fixture = given_consumer_fixture(1);

    db_exec(
        fixture->conn,
        "INSERT INTO idempotency.inbox (consumer, message_id, hash, topic, partition, \"offset\","
        " slot) SELECT 'c', id, 'x', 't', 0, 0, idempotency.day_of(uuid_send(id)) %% 32 FROM"
        " (SELECT overlay(overlay('00000000-0000-7000-8000-000000000001' PLACING left(x, 8) FROM"
        " 1 FOR 8) PLACING substr(x, 9) FROM 10 FOR 4)::uuid AS id FROM lpad(to_hex(((extract("
        "epoch FROM now()) - 20 * 86400) * 1000)::bigint), 12, '0') x) i");
    /* Its default isolation level may be any. */
    db_exec(fixture->conn, "DO $$ BEGIN EXECUTE format('ALTER DATABASE %%I SET"
                           " default_transaction_isolation = serializable', current_database());"
                           " END $$");
    start_running(GIVEN_CONSUMER(fixture));
    WAIT_UNTIL(db_int(fixture->conn, "SELECT count(*) FROM idempotency.inbox") == 0, 20000);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "inbox_consumer",
        .tests = TESTS(test_consumer_quarantines_what_is_beyond_the_horizon_i13_i29,
                       test_consumer_has_old_days_forgotten),
    });
}
