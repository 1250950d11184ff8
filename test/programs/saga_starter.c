/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Orders, one after the other: a row in test.orders and a saga, in one
 * transaction. Until it is killed.
 *
 *     saga_starter CONNINFO
 */
#include "test/support/steps.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <unistd.h>

int
main(int argc, char **argv)
{
    PGconn *conn = PQconnectdb(argc > 1 ? argv[1] : "");
    struct saga_error err;
    char number[64], insert[128];

    PQclear(PQexec(conn, "SET application_name = 'saga_starter'"));
    for (int i = 0;; i++) {
        snprintf(number, sizeof number, "%d-%d", (int)getpid(), i);
        snprintf(insert, sizeof insert, "INSERT INTO test.orders VALUES ('%s')", number);
        if (saga_begin(conn, &err) != 0)
            break;
        PQclear(PQexec(conn, insert));
        if (saga_start(conn, &scripted, number, NULL, NULL, &err) != 0 ||
            saga_commit(conn, &err) != 0)
            break;
    }
    fprintf(stderr, "%s\n", err.message);
    return 1;
}
