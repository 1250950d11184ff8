/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An HTTP endpoint that is safe to repeat: POST /payments, with the header
 * Idempotency-Key.
 *
 *     createdb bank && sagactl migrate up --database dbname=bank
 *     http_guard dbname=bank 8080
 *     curl -H 'Idempotency-Key: 4711' -d 'alice 1999' localhost:8080/payments
 *
 * Whoever got no answer sends the same again: the payment is made once, and the
 * answer is the first one. The same key with another payment is refused.
 */
#include <libpq-fe.h>
#include <microhttpd.h>
#include <saga/inbox.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BODY_MAX = 1000 };

struct request {
    char body[BODY_MAX + 1];
    size_t len;
};

struct answer {
    int status;
    char text[200];
};

static struct answer
problem(int status, const char *text)
{
    struct answer answer = { .status = status };

    snprintf(answer.text, sizeof answer.text, "%s\n", text);
    return answer;
}

/* --- the business ---------------------------------------------------------------- */

static struct answer
make_payment(PGconn *tx, const struct request *request)
{
    char account[100], cents[20];
    const char *params[] = { account, cents };
    struct answer answer = problem(400, "the body must be: ACCOUNT CENTS");
    PGresult *result;

    if (sscanf(request->body, "%99s %19[0-9]", account, cents) != 2)
        return answer;
    result = PQexecParams(
        tx, "INSERT INTO payment (account, cents) VALUES ($1, $2::bigint) RETURNING id", 2, NULL,
        params, NULL, NULL, 0);
    if (PQresultStatus(result) == PGRES_TUPLES_OK) {
        answer.status = 201;
        snprintf(answer.text, sizeof answer.text, "payment %s\n", PQgetvalue(result, 0, 0));
    } else {
        answer = problem(500, "the payment could not be written");
    }
    PQclear(result);
    return answer;
}

/* --- the guard around it ------------------------------------------------------------ */

/* What is fresh is carried out and stored in one transaction; an answer leaves
 * this program only when that has committed. */
static int
answer_in_transaction(PGconn *tx, const struct saga_guard *guard, const struct request *request,
                      struct answer *answer, struct saga_error *err)
{
    struct saga_response stored;
    int32_t verdict;
    int rc = saga_guard_enter(tx, guard, &verdict, &stored, err);

    if (rc != 0)
        return rc;
    switch (verdict) {
    case SAGA_GUARD_FRESH:
        *answer = make_payment(tx, request);
        if (answer->status == 500)
            return SAGA_EDB;
        stored = (struct saga_response){ .status = answer->status,
                                         .body = { answer->text, strlen(answer->text) } };
        return saga_guard_answer(tx, guard, &stored, err);
    case SAGA_GUARD_ANSWERED:
        answer->status = stored.status;
        snprintf(answer->text, sizeof answer->text, "%s", (const char *)stored.body.data);
        free((void *)stored.body.data);
        return 0;
    case SAGA_GUARD_OTHER:
        *answer = problem(422, "this key was used for another payment");
        return 0;
    default:
        *answer = problem(409, "this payment is being made; come again");
        return 0;
    }
}

static struct answer
pay(const char *conninfo, const char *key, const struct request *request)
{
    struct saga_guard guard = { .scope = "POST /payments",
                                .key = key,
                                .fingerprint = { request->body, request->len } };
    struct answer answer = problem(503, "try again later");
    PGconn *conn = PQconnectdb(conninfo);
    struct saga_error err;
    int rc = PQstatus(conn) == CONNECTION_OK ? saga_begin(conn, &err) : SAGA_EDB;

    if (rc == 0)
        rc = answer_in_transaction(conn, &guard, request, &answer, &err);
    if (rc == 0)
        rc = saga_commit(conn, &err);
    PQfinish(conn);
    /* Also where it may have been committed: the same request will tell. */
    return rc == 0 ? answer : problem(503, "try again later");
}

/* --- HTTP ------------------------------------------------------------------------------ */

static enum MHD_Result
handle(void *conninfo, struct MHD_Connection *connection, const char *url, const char *method,
       const char *version, const char *data, size_t *data_size, void **context)
{
    struct request *request = *context;
    struct answer answer;
    struct MHD_Response *response;
    enum MHD_Result sent;
    const char *key;

    (void)version;
    if (request == NULL) {
        *context = calloc(1, sizeof *request);
        return *context != NULL ? MHD_YES : MHD_NO;
    }
    if (*data_size > 0) {
        for (size_t i = 0; i < *data_size && request->len < BODY_MAX; i++)
            request->body[request->len++] = data[i];
        *data_size = 0;
        return MHD_YES;
    }
    key = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Idempotency-Key");
    if (strcmp(method, "POST") != 0 || strcmp(url, "/payments") != 0)
        answer = problem(404, "POST /payments is all there is");
    else if (key == NULL || *key == '\0' || strlen(key) > SAGA_GUARD_NAME_MAX)
        answer = problem(400, "a header Idempotency-Key of 1 to 255 bytes is needed");
    else if (request->len == BODY_MAX)
        answer = problem(413, "the body is too long");
    else
        answer = pay(conninfo, key, request);
    response =
        MHD_create_response_from_buffer(strlen(answer.text), answer.text, MHD_RESPMEM_MUST_COPY);
    sent = MHD_queue_response(connection, (unsigned)answer.status, response);
    MHD_destroy_response(response);
    return sent;
}

static void
forget(void *user, struct MHD_Connection *connection, void **context,
       enum MHD_RequestTerminationCode how)
{
    (void)user, (void)connection, (void)how;
    free(*context);
}

int
main(int argc, char **argv)
{
    struct MHD_Daemon *daemon;
    PGconn *conn;

    if (argc != 3) {
        fputs("usage: http_guard CONNINFO PORT\n", stderr);
        return 2;
    }
    conn = PQconnectdb(argv[1]);
    PQclear(PQexec(conn,
                   "CREATE TABLE IF NOT EXISTS payment (id bigint GENERATED ALWAYS AS IDENTITY,"
                   " account text NOT NULL, cents bigint NOT NULL)"));
    if (PQstatus(conn) != CONNECTION_OK) {
        fputs(PQerrorMessage(conn), stderr);
        return 1;
    }
    PQfinish(conn);
    daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION,
                              (uint16_t)atoi(argv[2]), NULL, NULL, handle, argv[1],
                              MHD_OPTION_NOTIFY_COMPLETED, forget, NULL, MHD_OPTION_END);
    if (daemon == NULL) {
        fputs("cannot listen on this port\n", stderr);
        return 1;
    }
    printf("listening on port %d\n", MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT)->port);
    fflush(stdout);
    pause();
    MHD_stop_daemon(daemon);
    return 0;
}
