/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules. The order of effects is looked at twice: as they were written, and
 * as their transactions committed, which PostgreSQL keeps the time of.
 */
#include "test/chaos/applied.h"

#include "test/support/db.h"

#define OUT_OF_ORDER(by)                                                                           \
    "SELECT * FROM (SELECT consumer, message_id, key, value::bigint AS n, seq,"                    \
    "   lag(value::bigint) OVER (PARTITION BY consumer, key ORDER BY " by ") AS before"            \
    "   FROM effect) o WHERE before >= n"

static const struct rule rules[] = {
    { "a message has no effect",
      "SELECT name AS consumer, s.* FROM chaos.sent s, chaos.consumer"
      " WHERE NOT EXISTS (SELECT FROM effect e WHERE e.message_id = s.id AND e.consumer = name)" },
    { "a message has two effects",
      "SELECT consumer, message_id, count(*), min(seq), max(seq) FROM effect"
      " GROUP BY consumer, message_id HAVING count(*) > 1" },
    { "an effect is of no message that was sent",
      "SELECT e.* FROM effect e LEFT JOIN chaos.sent s ON s.id = e.message_id"
      " WHERE (s.key, s.n::text) IS DISTINCT FROM (e.key, e.value)"
      "    OR NOT EXISTS (SELECT FROM chaos.consumer WHERE name = e.consumer)" },
    { "a key's effects were written out of order", OUT_OF_ORDER("seq") },
    { "a key's effects were committed out of order",
      OUT_OF_ORDER("pg_xact_commit_timestamp(xid::xid), seq") },
    { "an effect without its row in the inbox",
      "SELECT consumer, message_id FROM effect EXCEPT"
      " SELECT consumer, message_id FROM idempotency.inbox" },
    { "a row in the inbox without its effect",
      "SELECT consumer, message_id FROM idempotency.inbox EXCEPT"
      " SELECT consumer, message_id FROM effect" },
    { "something is in quarantine",
      "SELECT consumer, reason, message_id FROM idempotency.quarantine" },
    { "something is parked", "SELECT consumer, error, message_id FROM idempotency.parked" },
    { "an offset is not that of the partition's end",
      "SELECT name, records, (SELECT sum(next_offset) FROM idempotency.consumer_offset o"
      "  WHERE o.consumer = name) FROM chaos.consumer, chaos.topic"
      " WHERE records IS DISTINCT FROM (SELECT sum(next_offset) FROM idempotency.consumer_offset o"
      "  WHERE o.consumer = name)" },
    { 0 },
};

static const struct figure figures[] = {
    { "messages sent", "SELECT count(*) FROM chaos.sent" },
    { "records in the topic", "SELECT records FROM chaos.topic" },
    { "groups", "SELECT count(*) FROM chaos.consumer" },
    { "effects", "SELECT count(*) FROM effect" },
    { "duplicates among the records", "SELECT records - (SELECT count(*) FROM chaos.sent)"
                                      " FROM chaos.topic" },
    { "transactions", "SELECT count(DISTINCT xid) FROM effect" },
    { 0 },
};

const struct trial applied_trial = {
    .rules = rules,
    .figures = figures,
    .tables = { "chaos.sent", "effect", "idempotency.inbox", "idempotency.consumer_offset" },
};

void
make_effects(PGconn *conn)
{
    db_exec(conn, "CREATE SCHEMA chaos; CREATE TABLE chaos.consumer (name text);"
                  "CREATE TABLE chaos.topic (records bigint);"
                  "CREATE TABLE effect (seq bigint GENERATED ALWAYS AS IDENTITY,"
                  " xid xid8 DEFAULT pg_current_xact_id(), message_id uuid, consumer text,"
                  " key text, value text); CREATE INDEX ON effect (message_id)");
}
