/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What must be true once every saga has ended. Each invariant is a sentence
 * that tells what is wrong, and the query that finds where.
 *
 * Sums alone would miss a step that was applied twice, because both sides of
 * the sum move; so effects are also counted one by one (trap S16).
 */
#include "check.h"

#include <stdio.h>

enum { ROWS_SHOWN = 8 };

struct invariant {
    bool of_topics;
    const char *broken, *sql;
};

static const struct invariant invariants[] = {
    /* --- what the customers wanted ------------------------------------ */
    { false, "an order that was committed is missing",
      "SELECT order_id FROM outcome WHERE outcome = 'committed'"
      " AND order_id NOT IN (SELECT order_id FROM orders)" },
    { false, "an order exists although its transaction failed",
      "SELECT order_id FROM outcome WHERE outcome = 'failed'"
      " AND order_id IN (SELECT order_id FROM orders)" },
    { false, "an order exists that nobody placed",
      "SELECT order_id FROM orders WHERE order_id NOT IN (SELECT order_id FROM intended)" },
    { false, "an order exists more than once",
      "SELECT order_id, count(*) FROM orders GROUP BY 1 HAVING count(*) > 1" },
    { false, "an order is not what the customer wanted",
      "SELECT o.order_id, i.*, o.* FROM orders o JOIN intended i USING (order_id)"
      " WHERE (o.customer, o.sku, o.quantity, o.cents, o.destination)"
      " <> (i.customer, i.sku, i.quantity, i.cents, i.destination)" },

    /* --- every order has one saga, and it has ended -------------------- */
    { false, "an order has no saga",
      "SELECT order_id FROM orders WHERE order_id NOT IN (SELECT order_id FROM saga)" },
    { false, "a saga has no order",
      "SELECT id, order_id FROM saga WHERE order_id NOT IN (SELECT order_id FROM orders)" },
    { false, "an order has more than one saga",
      "SELECT order_id, count(*) FROM saga GROUP BY 1 HAVING count(*) > 1" },
    { false, "a saga has not ended",
      "SELECT id, order_id, state FROM saga"
      " WHERE state NOT IN ('completed', 'compensated', 'parked')" },
    { false, "a saga is parked without a reason",
      "SELECT id, order_id FROM saga WHERE state = 'parked' AND coalesce(reason, '') = ''" },
    { false, "an order's status is not what its saga ended as",
      "SELECT order_id, status, state FROM orders JOIN saga USING (order_id)"
      " WHERE (state = 'completed') <> (status = 'completed')"
      " OR state = 'compensated' AND status NOT IN ('cancelled', 'placed')" },
    { false, "an order was completed after its customer had withdrawn it",
      "SELECT order_id FROM orders WHERE withdrawn AND status = 'completed'" },

    /* --- each effect once ---------------------------------------------- */
    { false, "a step was done more than once",
      "SELECT order_id, step, done FROM effect WHERE done > 1" },
    { false, "a step was undone more than once",
      "SELECT order_id, step, undone FROM effect WHERE undone > 1" },
    { false, "a step was undone that had not been done",
      "SELECT order_id, step FROM effect WHERE undone > done" },
    { false, "an effect belongs to no order",
      "SELECT service, order_id, step, action FROM journal"
      " WHERE order_id NOT IN (SELECT order_id FROM orders)" },
    { false, "an effect is of no step of that service",
      "SELECT service, order_id, step FROM journal"
      " WHERE (service, step) NOT IN (SELECT service, step FROM plan)" },
    { false, "an effect is not what its order says",
      "SELECT order_id, step, action, what, amount FROM journal JOIN orders USING (order_id)"
      " WHERE (what, amount) <> CASE step WHEN 'reserve' THEN (sku, quantity)"
      " WHEN 'ship' THEN (destination, quantity) ELSE (customer, cents) END" },

    /* --- no order half done --------------------------------------------- */
    { false, "an order is completed, but a step of it is not done",
      "SELECT order_id, p.step FROM saga CROSS JOIN plan p LEFT JOIN effect e"
      " USING (order_id, step) WHERE state = 'completed' AND coalesce(done, 0) <> 1" },
    { false, "an order is completed, but a step of it is undone",
      "SELECT order_id, step FROM saga JOIN effect USING (order_id)"
      " WHERE state = 'completed' AND undone > 0" },
    { false, "an order is compensated, but a step of it stayed done",
      "SELECT order_id, step FROM saga JOIN effect USING (order_id)"
      " WHERE state = 'compensated' AND done <> undone" },
    { false, "a step was done before the one in front of it",
      "SELECT l.order_id, l.step AS earlier, r.step AS later FROM journal l"
      " JOIN plan pl ON pl.step = l.step JOIN journal r ON r.order_id = l.order_id"
      " JOIN plan pr ON pr.step = r.step WHERE l.action = 'run' AND r.action = 'run'"
      " AND pl.position < pr.position AND l.done_at > r.done_at" },
    { false, "a step was done although the one in front of it never was",
      "SELECT e.order_id, p.step AS missing, e.step FROM effect e"
      " JOIN plan p ON p.position = e.position - 1 LEFT JOIN effect f"
      " ON f.order_id = e.order_id AND f.step = p.step"
      " WHERE e.done > 0 AND coalesce(f.done, 0) = 0" },
    { false, "steps were not undone in reverse order",
      "SELECT l.order_id, l.step, r.step FROM journal l JOIN plan pl ON pl.step = l.step"
      " JOIN journal r ON r.order_id = l.order_id JOIN plan pr ON pr.step = r.step"
      " WHERE l.action = 'compensate' AND r.action = 'compensate'"
      " AND pl.position < pr.position AND l.done_at < r.done_at" },
    { false, "a step was done after the saga had turned round",
      "SELECT d.order_id, d.step AS done, u.step AS undone FROM journal d"
      " JOIN journal u USING (order_id)"
      " WHERE d.action = 'run' AND u.action = 'compensate' AND d.done_at > u.done_at" },

    /* --- every cent and every lamp -------------------------------------- */
    { false, "money came into being or vanished",
      "SELECT sum(opening) AS opening, sum(cents) AS now FROM account"
      " HAVING sum(opening) <> sum(cents)" },
    { false, "an account does not agree with the journal",
      "SELECT a.owner, a.opening, a.cents, m.moved FROM account a LEFT JOIN"
      " (SELECT owner, sum(cents) AS moved FROM (SELECT what AS owner,"
      "  CASE action WHEN 'run' THEN -amount ELSE amount END AS cents FROM journal"
      "  WHERE step = 'charge' UNION ALL SELECT 'shop',"
      "  CASE action WHEN 'run' THEN amount ELSE -amount END FROM journal"
      "  WHERE step = 'charge') entry GROUP BY 1) m USING (owner)"
      " WHERE a.opening + coalesce(m.moved, 0) <> a.cents" },
    { false, "the shop did not earn what its completed orders cost",
      "SELECT cents - opening AS earned, cost FROM account, (SELECT coalesce(sum(cents), 0) AS cost"
      "  FROM orders JOIN saga USING (order_id) LEFT JOIN effect e"
      "  ON e.order_id = orders.order_id AND e.step = 'charge'"
      "  WHERE state = 'completed' OR state = 'parked' AND done > undone) sold"
      " WHERE owner = 'shop' AND cents - opening <> cost" },
    { false, "the stock does not agree with the journal",
      "SELECT sku, opening, free, taken FROM stock LEFT JOIN (SELECT what AS sku,"
      " sum(CASE action WHEN 'run' THEN amount ELSE -amount END) AS taken FROM journal"
      " WHERE step = 'reserve' GROUP BY 1) j USING (sku)"
      " WHERE opening - coalesce(taken, 0) <> free" },
    { false, "the stock taken is not what completed orders hold",
      "SELECT taken, sold FROM (SELECT sum(opening - free) AS taken FROM stock) s,"
      " (SELECT coalesce(sum(quantity), 0) AS sold FROM orders JOIN saga USING (order_id)"
      "  LEFT JOIN effect e ON e.order_id = orders.order_id AND e.step = 'reserve'"
      "  WHERE state = 'completed' OR state = 'parked' AND done > undone) o"
      " WHERE taken <> sold" },
    { false, "the parcels booked do not agree with the journal",
      "SELECT destination, booked, parcels FROM route FULL JOIN (SELECT what AS destination,"
      " sum(CASE action WHEN 'run' THEN amount ELSE -amount END) AS parcels FROM journal"
      " WHERE step = 'ship' GROUP BY 1) j USING (destination)"
      " WHERE coalesce(booked, 0) <> coalesce(parcels, 0)" },

    { false, "a parcel was taken in and never answered for",
      "SELECT order_id, token FROM parcel WHERE answer IS NULL" },

    /* --- every message --------------------------------------------------- */
    { true, "a topic no longer holds its first records (a mock broker keeps 5 MiB a partition)",
      "SELECT name, part, low FROM topic WHERE low > 0" },
    { true, "a committed message is not in Kafka",
      "SELECT service, seq, id, topic FROM message m"
      " WHERE NOT EXISTS (SELECT FROM first_record r WHERE r.id = m.id AND r.topic = m.topic)" },
    { true, "a record in Kafka was never committed",
      "SELECT topic, part, pos, id FROM first_record r"
      " WHERE NOT EXISTS (SELECT FROM message m WHERE m.id = r.id AND m.topic = r.topic)" },
    { true, "a record differs from the message that was committed",
      "SELECT r.topic, r.part, r.pos, r.id FROM record r JOIN message m USING (id)"
      " WHERE (r.key, r.payload) IS DISTINCT FROM (m.key, m.payload)" },
    { true, "a message went to two partitions",
      "SELECT topic, id, count(*) FROM first_record GROUP BY 1, 2 HAVING count(*) > 1" },
    { true, "the messages of a key are not in the order of their commit",
      "SELECT * FROM (SELECT m.service, m.topic, m.key, m.seq, r.pos,"
      "  rank() OVER (PARTITION BY m.service, m.topic, m.key ORDER BY m.seq) AS written,"
      "  rank() OVER (PARTITION BY m.service, m.topic, m.key ORDER BY r.pos) AS published"
      "  FROM message m JOIN first_record r ON r.id = m.id AND r.topic = m.topic) o"
      " WHERE written <> published" },
    { false, "a message was never consumed",
      "SELECT m.service, m.topic, m.seq, m.id FROM message m JOIN (VALUES"
      " ('inventory.commands', 'inventory'), ('payment.commands', 'payment'),"
      " ('shipping.commands', 'shipping'), ('order.replies', 'order')) t (topic, reader)"
      " ON m.topic LIKE '%' || t.topic WHERE NOT EXISTS (SELECT FROM inbox i"
      " WHERE i.service = t.reader AND i.id = m.id)" },
    { false, "a message was consumed that was never committed",
      "SELECT service, id FROM inbox i WHERE NOT EXISTS (SELECT FROM message m"
      " WHERE m.id = i.id)" },
};

/* What the end of a run looks like: a label and one text. */
static const struct {
    bool of_topics;
    const char *label, *sql;
} figures[] = {
    { false, "orders", "SELECT count(*) FROM orders" },
    { false, "completed", "SELECT count(*) FROM saga WHERE state = 'completed'" },
    { false, "compensated", "SELECT count(*) FROM saga WHERE state = 'compensated'" },
    { false, "parked", "SELECT count(*) FROM saga WHERE state = 'parked'" },
    { false, "latency p50",
      "SELECT round(1000 * extract(epoch FROM percentile_disc(0.5) WITHIN GROUP"
      " (ORDER BY took))) || ' ms' FROM orders" },
    { false, "latency p99",
      "SELECT round(1000 * extract(epoch FROM percentile_disc(0.99) WITHIN GROUP"
      " (ORDER BY took))) || ' ms' FROM orders" },
    { false, "messages committed", "SELECT count(*) FROM message" },
    { true, "records in Kafka", "SELECT count(*) FROM record" },
    { true, "published again",
      "SELECT (SELECT count(*) FROM record) - count(*) FROM first_record" },
    /* Orders without an end, steps of completed orders, messages on either side of Kafka. */
    { true, "lost",
      "SELECT (SELECT count(*) FROM (SELECT order_id FROM outcome WHERE outcome = 'committed'"
      "   UNION SELECT order_id FROM orders) o WHERE order_id NOT IN"
      "  (SELECT order_id FROM saga WHERE state IN ('completed', 'compensated', 'parked')))"
      " + (SELECT count(*) FROM saga CROSS JOIN plan p LEFT JOIN effect e USING (order_id, step)"
      "  WHERE state = 'completed' AND coalesce(done, 0) = 0)"
      " + (SELECT count(*) FROM message m WHERE NOT EXISTS"
      "  (SELECT FROM first_record r WHERE r.id = m.id AND r.topic = m.topic))"
      " + (SELECT count(*) FROM message m JOIN (SELECT DISTINCT service AS reader FROM plan) p"
      "  ON m.topic LIKE '%' || reader || '.commands' OR m.topic LIKE '%' || reader || '.replies'"
      "  WHERE NOT EXISTS (SELECT FROM inbox i WHERE i.service = reader AND i.id = m.id))" },
    { false, "doubled effects",
      "SELECT coalesce(sum(greatest(done - 1, 0) + greatest(undone - 1, 0)), 0) FROM effect" },
    { false, "money in accounts",
      "SELECT to_char(sum(cents) / 100.0, 'FM999999999999.00') FROM account" },
};

static PGresult *
ask(PGconn *scratch, const char *sql)
{
    PGresult *result = PQexec(scratch, sql);

    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        die("%s%s", PQerrorMessage(scratch), sql);
    return result;
}

static void
print_rows(const PGresult *rows)
{
    int n = PQntuples(rows);

    for (int row = 0; row < n && row < ROWS_SHOWN; row++) {
        printf("   ");
        for (int column = 0; column < PQnfields(rows); column++)
            printf(" %s=%s", PQfname(rows, column), PQgetvalue(rows, row, column));
        printf("\n");
    }
    if (n > ROWS_SHOWN)
        printf("    and %d more\n", n - ROWS_SHOWN);
}

int
check_invariants(PGconn *scratch, bool with_topics, bool print)
{
    int asked = 0, violated = 0;

    for (size_t i = 0; i < sizeof invariants / sizeof *invariants; i++) {
        PGresult *rows;

        if (invariants[i].of_topics && !with_topics)
            continue;
        rows = ask(scratch, invariants[i].sql);
        asked++;
        if (PQntuples(rows) > 0) {
            violated++;
            if (print) {
                printf("  VIOLATED: %s\n", invariants[i].broken);
                print_rows(rows);
            }
        }
        PQclear(rows);
    }
    if (print)
        printf("  %-22s %s: %d of %d invariants hold\n", "fund safety check",
               violated == 0 ? "clean" : "FAILED", asked - violated, asked);
    return violated;
}

void
print_figures(PGconn *scratch, bool with_topics)
{
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) {
        PGresult *answer;

        if (figures[i].of_topics && !with_topics)
            continue;
        answer = ask(scratch, figures[i].sql);
        printf("  %-22s %s\n", figures[i].label, PQgetvalue(answer, 0, 0));
        PQclear(answer);
    }
}
