/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules, each a query for what violates it; and the topics as a table.
 */
#include "test/chaos/published.h"

#include "test/support/db.h"
#include "test/support/kafka.h"
#include "test/support/run.h"

#include <stdio.h>

static const struct rule rules[] = {
    { "a commit that was acknowledged is not in the ledger",
      "SELECT id FROM chaos.acknowledged a WHERE NOT EXISTS"
      " (SELECT FROM chaos.ledger l WHERE l.id = a.id)" },
    { "a committed message was not published",
      "SELECT * FROM chaos.ledger l WHERE NOT large AND NOT EXISTS"
      " (SELECT FROM chaos.record r WHERE r.id = l.id)" },
    { "a published message was never committed",
      "SELECT * FROM chaos.record r WHERE NOT EXISTS"
      " (SELECT FROM chaos.ledger l WHERE l.id = r.id AND NOT large)" },
    { "a published message differs from the committed one",
      "SELECT l.*, r.topic, r.key, r.payload FROM chaos.record r JOIN chaos.ledger l USING (id)"
      " WHERE (r.topic, r.key, r.payload) IS DISTINCT FROM"
      "       (l.topic, l.key, coalesce(l.key, '') || '/' || l.n)" },
    { "a message went to two partitions",
      "SELECT id, topic FROM chaos.record WHERE key IS NOT NULL GROUP BY id, topic"
      " HAVING count(DISTINCT part) > 1" },
    { "first occurrences of a key are out of order",
      "SELECT * FROM (SELECT l.topic, l.key, l.n, first.pos,"
      "   lag(first.pos) OVER (PARTITION BY l.topic, l.key ORDER BY l.n) AS before"
      "   FROM chaos.ledger l JOIN (SELECT id, min(pos) AS pos FROM chaos.record GROUP BY id)"
      "        first USING (id)"
      "  WHERE l.key IS NOT NULL AND l.delayed_until IS NULL) o WHERE before > pos" },
    { "a delayed message came too early",
      "SELECT l.*, r.at FROM chaos.ledger l JOIN chaos.record r USING (id)"
      " WHERE r.at < l.delayed_until - interval '50 ms'" },
    { "a message is not called published",
      "SELECT id, topic, key, status FROM outbox.local_messages m"
      " WHERE status NOT IN ('published', 'consumed')"
      "   AND NOT EXISTS (SELECT FROM chaos.ledger l WHERE l.id = m.id AND large)" },
    { "something is still parked", "SELECT topic, key, error, request FROM outbox.parked_key" },
    { 0 },
};

static const struct figure figures[] = {
    { "messages committed", "SELECT count(*) FROM chaos.ledger" },
    { "records published", "SELECT count(*) FROM chaos.record" },
    { "published again", "SELECT count(*) - count(DISTINCT id) FROM chaos.record" },
    { "of them still in the outbox", "SELECT count(*) FROM outbox.message" },
    { "too large", "SELECT count(*) FROM chaos.ledger WHERE large" },
    { "delayed", "SELECT count(*) FROM chaos.ledger WHERE delayed_until IS NOT NULL" },
    { "retries asked for", "SELECT count(*) FROM outbox.audit WHERE verb = 'retry'" },
    { "streams in the end", "SELECT count(*) FROM outbox.stream" },
    { "highest epoch", "SELECT max(epoch) FROM outbox.stream" },
    { 0 },
};

const struct trial published_trial = {
    .rules = rules,
    .figures = figures,
    .tables = { "chaos.ledger", "chaos.record", "outbox.message", "outbox.stream" },
};

void
make_records(PGconn *conn)
{
    db_exec(conn, "CREATE TABLE chaos.record (topic text, part int, pos bigint, id uuid, key text,"
                  " payload text, ms bigint,"
                  " at timestamptz GENERATED ALWAYS AS (to_timestamp(ms / 1000.0)) STORED)");
}

static void
copy_topic(PGconn *conn, const char *topic)
{
    struct records records = topic_records(topic);

    for (size_t i = 0; i < records.n; i++) {
        const struct record *record = &records.at[i];
        const char *id = record_header(record, "message-id");
        char row[512];
        int len = snprintf(row, sizeof row, "%s\t%d\t%lld\t%s\t%s\t%s\t%lld\n", topic,
                           (int)record->partition, (long long)record->offset,
                           id != NULL ? id : "\\N", record->key != NULL ? record->key : "\\N",
                           record->value != NULL ? record->value : "\\N",
                           (long long)record->timestamp_ms);

        ck_assert(len < (int)sizeof row && PQputCopyData(conn, row, len) == 1);
    }
}

void
copy_records(PGconn *conn, const char *const *topics, int n)
{
    PGresult *result;

    for (int i = 0; i < n; i++) {
        result =
            PQexec(conn, "COPY chaos.record (topic, part, pos, id, key, payload, ms) FROM STDIN");
        ck_assert_int_eq(PQresultStatus(result), PGRES_COPY_IN);
        PQclear(result);
        copy_topic(conn, topics[i]);
        ck_assert_int_eq(PQputCopyEnd(conn, NULL), 1);
        result = PQgetResult(conn);
        ck_assert_msg(PQresultStatus(result) == PGRES_COMMAND_OK, "%s", PQerrorMessage(conn));
        PQclear(result);
        PQclear(PQgetResult(conn));
    }
    db_exec(conn, "CREATE INDEX ON chaos.record (id)");
    db_exec(conn, "CREATE INDEX ON chaos.ledger (id)");
    db_exec(conn, "ANALYZE chaos.record");
    db_exec(conn, "ANALYZE chaos.ledger");
}
