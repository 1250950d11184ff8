/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A step that nobody can answer at once: a bank transfer that a person approves.
 *
 *     createdb bank && sagactl migrate up --database dbname=bank
 *     answer_later dbname=bank listen localhost:9092       takes commands for step "transfer"
 *     answer_later dbname=bank approve 1                    in another process, days later
 *     answer_later dbname=bank reject 1 'no such account'
 *
 * An outbox-relay beside the database sends the replies. The saga that asks gives
 * this step a timeout_ms of days: by default it turns round after 5 times 30 s.
 */
#include <libpq-fe.h>
#include <saga/consumer.h>
#include <saga/saga.h>
#include <stdio.h>
#include <string.h>

#define TABLE                                                                                      \
    "CREATE TABLE IF NOT EXISTS transfer (id bigint GENERATED ALWAYS AS IDENTITY, cents bigint,"   \
    " token text, state text DEFAULT 'asked')"

/* Only taken in hand: the row and its token stay, and nothing is replied yet. */
static int
transfer(struct saga_ctx *ctx, void *user)
{
    int rc = saga_exec(ctx, NULL, "INSERT INTO transfer (cents, token) VALUES ($1, $2)",
                       SAGA_TEXTS(saga_get(ctx, "cents"), saga_token(ctx)));

    (void)user;
    return rc != 0 ? rc : SAGA_WAIT;
}

/* Called also while nobody has answered. Compensated is compensated: whoever
 * approves after that is told so. */
static int
call_back(struct saga_ctx *ctx, void *user)
{
    (void)user;
    return saga_exec(ctx, NULL,
                     "UPDATE transfer SET state = 'called back' WHERE token LIKE $1 || '/%'",
                     SAGA_TEXTS(saga_id(ctx)));
}

static const struct saga_step steps[] = {
    { .name = "transfer", .run = transfer, .compensate = call_back },
};
static const struct saga_definition bank = { SAGA_DEFINITION("bank", steps) };

static int
failed(const struct saga_error *err)
{
    fprintf(stderr, "%s: %s\n", saga_error_name(err->code), err->message);
    return 1;
}

/* Without it nobody hears of parked messages, of retentions that do not fit, of trouble. */
static void
log_line(void *user, int32_t level, const char *message, const struct saga_pair *fields)
{
    (void)user;
    fprintf(stderr, "%s: %s", level >= SAGA_LOG_WARNING ? "warning" : "info", message);
    for (; fields != NULL && fields->name != NULL; fields++)
        fprintf(stderr, " %s=%s", fields->name, fields->value);
    fputc('\n', stderr);
}

static int
listen_for_commands(const char *database, const char *brokers)
{
    struct saga_consumer *consumer = NULL;
    struct saga_error err;
    int rc;

    rc = saga_consumer_new(&consumer,
                           &(struct saga_consumer_options){
                               SAGA_CONSUMER_OPTIONS, .group = "bank", .brokers = brokers,
                               .conninfo = database, .log = { log_line, NULL, SAGA_LOG_INFO, 0 } },
                           &err);
    if (rc == 0)
        rc = saga_consumer_participate(consumer, "bank.commands", &bank, NULL, &err);
    if (rc == 0)
        rc = saga_consumer_run(consumer, SAGA_CONSUME_UNTIL_STOP, &err);
    saga_consumer_free(consumer);
    return rc == 0 ? 0 : failed(&err);
}

/*
 * What the person says and the reply are one transaction. The reply comes first: it takes the
 * step's lock, which a compensation takes first, too, and call_back() then writes the row. The
 * other way round the two could wait for each other.
 */
static int
answer(PGconn *conn, const char *id, const char *reason)
{
    PGresult *row = PQexecParams(conn, "SELECT token FROM transfer WHERE id = $1", 1, NULL,
                                 (const char *[]){ id }, NULL, NULL, 0);
    struct saga_error err;
    int rc;

    if (PQntuples(row) != 1) {
        fprintf(stderr, "there is no transfer %s\n%s", id, PQerrorMessage(conn));
        PQclear(row);
        return 1;
    }
    rc = saga_begin(conn, &err);
    if (rc == 0)
        rc = saga_reply(conn, PQgetvalue(row, 0, 0), reason != NULL ? SAGA_REFUSED : SAGA_DONE,
                        reason, NULL, &err);
    if (rc == 0) {
        /* If this fails, so does the commit. */
        PQclear(PQexecParams(conn, "UPDATE transfer SET state = $2 WHERE id = $1", 2, NULL,
                             (const char *[]){ id, reason != NULL ? "rejected" : "approved" }, NULL,
                             NULL, 0));
        rc = saga_commit(conn, &err);
    }
    saga_rollback(conn);
    PQclear(row);
    return rc == 0 ? 0 : failed(&err);
}

int
main(int argc, char **argv)
{
    PGconn *conn = PQconnectdb(argc > 3 ? argv[1] : "");
    int rc = 2;

    if (argc > 3 && PQstatus(conn) == CONNECTION_OK)
        PQclear(PQexec(conn, TABLE));
    if (argc > 3 && strcmp(argv[2], "listen") == 0)
        rc = listen_for_commands(argv[1], argv[3]);
    else if (argc > 3 && strcmp(argv[2], "approve") == 0)
        rc = answer(conn, argv[3], NULL);
    else if (argc > 4 && strcmp(argv[2], "reject") == 0)
        rc = answer(conn, argv[3], argv[4]);
    else
        fprintf(stderr, "answer_later CONNINFO listen BROKERS | approve ID | reject ID REASON\n");
    PQfinish(conn);
    return rc;
}
