/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asks and prints.
 */
#include "test/chaos/judge.h"

#include "test/support/db.h"
#include "test/support/run.h"

#include <stdio.h>

enum { ROWS_SHOWN = 5 };

static int
violations(PGconn *conn, const char *broken, const char *sql)
{
    PGresult *rows = PQexec(conn, sql);
    int n;

    ck_assert_msg(PQresultStatus(rows) == PGRES_TUPLES_OK, "%s%s", PQerrorMessage(conn), sql);
    n = PQntuples(rows);
    if (n > 0)
        printf("  VIOLATED, %d times: %s\n", n, broken);
    for (int row = 0; row < n && row < ROWS_SHOWN; row++) {
        printf("   ");
        for (int column = 0; column < PQnfields(rows); column++)
            printf(" %s=%s", PQfname(rows, column), PQgetvalue(rows, row, column));
        printf("\n");
    }
    PQclear(rows);
    return n;
}

static void
dump(PGconn *conn, const char *table, const char *dir)
{
    FILE *file = fopen(text_of("%s/%s.tsv", dir, table), "w");
    PGresult *result;
    char *row;

    if (file == NULL)
        return;
    PQclear(PQexec(conn, text_of("COPY %s TO STDOUT", table)));
    while (PQgetCopyData(conn, &row, 0) > 0) {
        fputs(row, file);
        PQfreemem(row);
    }
    while ((result = PQgetResult(conn)) != NULL)
        PQclear(result);
    fclose(file);
}

int
judge(PGconn *conn, const struct trial *trial, const char *dir)
{
    int violated = 0;

    for (const struct figure *figure = trial->figures; figure->label != NULL; figure++)
        printf("  %-34s %s\n", figure->label, db_text(conn, "%s", figure->sql));
    for (const struct rule *rule = trial->rules; rule->broken != NULL; rule++)
        violated += violations(conn, rule->broken, rule->sql) > 0;
    for (size_t i = 0; violated > 0 && i < TABLES_MAX && trial->tables[i] != NULL; i++)
        dump(conn, trial->tables[i], dir);
    return violated;
}

void
expect_judge_notices(PGconn *conn, const struct trial *trial, const char *const *faults)
{
    ck_assert_int_eq(judge(conn, trial, "/nonexistent"), 0);
    for (; *faults != NULL; faults++) {
        db_exec(conn, "BEGIN");
        db_exec(conn, "%s", *faults);
        ck_assert_msg(judge(conn, trial, "/nonexistent") > 0, "%s", *faults);
        db_exec(conn, "ROLLBACK");
    }
}
