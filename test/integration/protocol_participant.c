/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A participant's part in the protocol, by the sequences of test/vectors: each command
 * through inbox, barrier, function and reply in one transaction, as the consumer does it.
 */
#include "test/support/db.h"
#include "test/support/participant.h"
#include "test/support/run.h"
#include "test/support/vectors.h"

#include <stdlib.h>
#include <string.h>

/* --- the function that a vector describes ------------------------------------------------- */

static int
answer_as_told(struct saga_ctx *ctx, void *arg)
{
    const json_t *does = arg;
    int answer = vector_has(does, "waits") ? SAGA_WAIT : SAGA_DONE;
    const char *name;
    json_t *value;

    if (vector_has(does, "refused"))
        return saga_refuse(ctx, vector_text(does, "refused"));
    if (vector_has(does, "later"))
        return saga_retry_after(ctx, 0, vector_text(does, "later"));
    json_object_foreach(json_object_get(does, answer == SAGA_WAIT ? "waits" : "done"), name, value)
    {
        ck_assert_int_eq(saga_set(ctx, name, json_string_value(value)), 0);
    }
    if (answer == SAGA_WAIT)
        ck_assert_ptr_nonnull(saga_token(ctx));
    return answer;
}

/* --- delivering ----------------------------------------------------------------------------- */

enum delivered { COMMITTED, ROLLED_BACK, QUARANTINED };

static enum delivered
deliver_record(PGconn *conn, const struct incoming *record, struct script *script)
{
    int32_t verdict = SAGA_INBOX_NEW;
    struct saga_error err;
    int rc = 0;

    if (record->flaw != NULL)
        return QUARANTINED;
    ck_assert_msg(saga_begin(conn, &err) == 0, "%s", err.message);
    ck_assert_msg(saga_inbox_enter(conn, GROUP, &record->public, &verdict, &err) == 0, "%s",
                  err.message);
    if (verdict == SAGA_INBOX_NEW || verdict == SAGA_INBOX_DUPLICATE)
        rc = saga_command_handle(conn, GROUP, &inventory, &record->public,
                                 verdict == SAGA_INBOX_DUPLICATE, script, &err);
    if (rc == 0 && verdict <= SAGA_INBOX_DUPLICATE) {
        ck_assert_msg(saga_commit(conn, &err) == 0, "%s", err.message);
        return COMMITTED;
    }
    saga_rollback(conn);
    return rc == 0 || rc == SAGA_EINVAL ? QUARANTINED : ROLLED_BACK;
}

static struct incoming
record_of(const json_t *all, const json_t *delivery)
{
    json_t *headers = json_copy(json_object_get(all, "common"));
    const char *key = vector_text(headers, "saga-id");
    struct incoming record;

    json_object_update(headers, json_object_get(delivery, "headers"));
    record = vector_record(headers, (struct saga_bytes){ key, strlen(key) },
                           vector_bytes(vector_has(delivery, "value") ? delivery : all, "value"));
    json_decref(headers);
    return record;
}

/* --- what came of it ------------------------------------------------------------------------- */

static void
expect_reply_record(PGconn *conn, const char *what, const json_t *expected)
{
    const char *seen = db_text(
        conn, "SELECT jsonb_build_object('topic', topic, 'key', key, 'value',"
              "  convert_from(payload, 'UTF8')::jsonb, 'headers', (SELECT"
              "   jsonb_object_agg(substring(l FROM '^(.*?): '), substring(l FROM ': (.*)$'))"
              "   FROM regexp_split_to_table(headers, '\n') l))"
              " FROM outbox.message ORDER BY seq DESC LIMIT 1");
    json_t *reply = json_loads(seen, 0, NULL);

    ck_assert_msg(json_equal(reply, expected), "%s: the reply is %s", what, seen);
    json_decref(reply);
}

/* trap: I17, I18. The same question's value never has other bytes. */
static void
expect_same_bytes(PGconn *conn, const char *what)
{
    const char *differ =
        db_text(conn, "SELECT string_agg(DISTINCT convert_from(payload, 'UTF8'), ' and ')"
                      " FROM outbox.message"
                      " GROUP BY substring(headers FROM '(?n)^saga-action: (.*)$')"
                      " HAVING count(DISTINCT payload) > 1");

    ck_assert_msg(differ == NULL, "%s: two answers to one question, %s", what, differ);
}

/* As if it had been parked then. */
static void
discard_before(PGconn *conn, const struct incoming *record)
{
    char id[37];
    int32_t verdict;

    saga_uuid_text(&record->public.id, id);
    ck_assert_int_eq(saga_begin(conn, NULL), 0);
    ck_assert_int_eq(saga_inbox_enter(conn, GROUP, &record->public, &verdict, NULL), 0);
    ck_assert_int_eq(saga_commit(conn, NULL), 0);
    db_exec(conn,
            "INSERT INTO idempotency.audit (verb, consumer, message_id, reason)"
            " VALUES ('discard', '" GROUP "', '%s', 'no')",
            id);
}

static int64_t
effects(PGconn *conn, const char *action)
{
    return db_int(conn, "SELECT count(*) FROM effect WHERE action = '%s'", action);
}

static void
check_delivery(PGconn *conn, const json_t *all, const json_t *delivery, const char *what)
{
    json_t *does = json_object_get(delivery, "does");
    struct script script = { answer_as_told, does, 0 };
    struct incoming record = record_of(all, delivery);
    int64_t replies = db_int(conn, "SELECT count(*) FROM outbox.message");
    const json_t *reply = json_object_get(delivery, "reply");
    bool replies_now = !json_is_null(reply);
    enum delivered expected =
        vector_has(delivery, "quarantined") ? QUARANTINED
        : replies_now || vector_has(delivery, "waits") || vector_has(delivery, "discarded")
            ? COMMITTED
            : ROLLED_BACK;
    enum delivered seen;

    if (vector_has(delivery, "forget_before"))
        db_exec(conn, "SELECT setval('idempotency.barrier_mark', %d)",
                (int)vector_int(delivery, "forget_before"));
    if (vector_has(delivery, "discarded"))
        discard_before(conn, &record);
    seen = deliver_record(conn, &record, &script);
    ck_assert_msg(seen == expected, "%s: %d, not %d", what, seen, expected);
    ck_assert_msg(script.calls == !json_is_null(does), "%s: %d calls", what, script.calls);
    ck_assert_msg(db_int(conn, "SELECT count(*) FROM outbox.message") == replies + replies_now,
                  "%s: no reply, or too many", what);
    if (replies_now)
        expect_reply_record(conn, what, reply);
}

/* An answer that comes later, in a transaction of its own. */
static void
check_answer(PGconn *conn, const json_t *answer, const char *what)
{
    char *values = json_dumps(json_object_get(answer, "values"), 0);
    const char *token = text_of("%s%s", vector_text(answer, "token"), GROUP);
    const char *args[] = { token, vector_text(answer, "outcome"),
                           json_string_value(json_object_get(answer, "reason")), values };
    const json_t *reply = json_object_get(answer, "reply");
    int64_t replies = db_int(conn, "SELECT count(*) FROM outbox.message");
    PGresult *result = PQexecParams(conn, "SELECT idempotency.reply($1, $2, $3, $4)", 4, NULL, args,
                                    NULL, NULL, 0);
    const char *seen = PQresultErrorField(result, PG_DIAG_SQLSTATE);

    ck_assert_msg(strcmp(seen != NULL ? seen : "-",
                         vector_has(answer, "error") ? vector_text(answer, "error") : "-") == 0,
                  "%s: %s", what, PQresultErrorMessage(result));
    PQclear(result);
    free(values);
    ck_assert_msg(db_int(conn, "SELECT count(*) FROM outbox.message") ==
                      replies + !json_is_null(reply),
                  "%s: no reply, or too many", what);
    if (!json_is_null(reply))
        expect_reply_record(conn, what, reply);
}

START_TEST(test_protocol_i17_i18_i19_i28_sequences_are_answered_as_the_vectors_say)
{
    PGconn *conn;
    json_t *all = vectors_of("participant.json");

    given_inventory(&conn);
    EACH_VECTOR(vector, "participant.json")
    {
        json_t *delivery;
        size_t i;

        db_exec(conn, "DELETE FROM effect; DELETE FROM outbox.message;"
                      "DELETE FROM idempotency.barrier; DELETE FROM idempotency.inbox_foreign;"
                      "SELECT setval('idempotency.barrier_mark', 0)");
        json_array_foreach(json_object_get(vector, "deliveries"), i, delivery)
        {
            const char *what = text_of("%s, delivery %zu", vector_name(vector), i + 1);

            if (vector_has(delivery, "token"))
                check_answer(conn, delivery, what);
            else
                check_delivery(conn, all, delivery, what);
        }
        expect_same_bytes(conn, vector_name(vector));
        for (int undo = 0; undo <= 1; undo++)
            ck_assert_msg(
                effects(conn, undo ? "compensate" : "run") ==
                    vector_int(json_object_get(vector, "effects"), undo ? "compensate" : "run"),
                "%s: effects", vector_name(vector));
    }
}
END_TEST

/* --- values ------------------------------------------------------------------------------------
 */

static int
compare_values(struct saga_ctx *ctx, void *arg)
{
    const json_t *vector = arg;
    const char *name;
    json_t *value;

    json_object_foreach(json_object_get(vector, "values"), name, value)
    {
        const char *seen = saga_get(ctx, name);

        ck_assert_msg(seen != NULL && strcmp(seen, json_string_value(value)) == 0, "%s: %s is '%s'",
                      vector_name(vector), name, seen);
    }
    return SAGA_DONE;
}

START_TEST(test_protocol_values_are_read_as_the_vectors_say)
{
    PGconn *conn;

    given_inventory(&conn);
    EACH_VECTOR(vector, "value.json")
    {
        struct script script = { compare_values, vector, 0 };
        struct saga_record record = a_command(SAGA_1, "scripted", "run", NULL);
        int rc;

        record.payload = vector_bytes(vector, "value");
        db_exec(conn, "DELETE FROM idempotency.barrier");
        rc = deliver(conn, &record, &script);
        ck_assert_msg(rc == (vector_has(vector, "refused") ? SAGA_EINVAL : 0), "%s: %d %s",
                      vector_name(vector), rc, deliver_error.message);
    }
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "protocol/participant",
        .tests = TESTS(test_protocol_i17_i18_i19_i28_sequences_are_answered_as_the_vectors_say,
                       test_protocol_values_are_read_as_the_vectors_say),
    });
}
