/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libpq alone: reads every message of the outbox in the order of seq, in pages,
 * and does nothing with them.
 *
 *     read CONNINFO N
 */
#include "bench/bench.h"

#include <libpq-fe.h>

/* A page of as many rows as the relay's. */
static const char page[] =
    "SELECT seq, message_id, topic, key, headers, payload FROM outbox.message"
    " WHERE seq > $1::bigint ORDER BY seq LIMIT 10000";

static int64_t
seq_of_last(const PGresult *result)
{
    const unsigned char *bytes =
        (const unsigned char *)PQgetvalue(result, PQntuples(result) - 1, 0);
    int64_t seq = 0;

    for (int i = 0; i < 8; i++)
        seq = seq * 256 + bytes[i];
    return seq;
}

int
main(int argc, char **argv)
{
    PGconn *conn;
    char above[24] = "0";
    long n = 0;

    if (argc != 3)
        die("usage: read CONNINFO N");
    conn = PQconnectdb(argv[1]);
    PQclear(PQexec(conn, "SET enable_seqscan = off; SET enable_bitmapscan = off"));
    for (;;) {
        const char *const args[] = { above };
        PGresult *result = PQexecParams(conn, page, 1, NULL, args, NULL, NULL, 1);

        if (PQresultStatus(result) != PGRES_TUPLES_OK)
            die("%s", PQerrorMessage(conn));
        if (PQntuples(result) == 0)
            break;
        n += PQntuples(result);
        snprintf(above, sizeof above, "%lld", (long long)seq_of_last(result));
        PQclear(result);
    }
    PQfinish(conn);
    if (n != atol(argv[2]))
        die("%ld messages were there, not %s", n, argv[2]);
    return 0;
}
