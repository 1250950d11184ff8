/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sagactl outbox streams: changes into how many streams the outbox is divided.
 * What that means for the relays that run is the SQL function's.
 */
#include "ops/ops.h"
#include "ops/output.h"
#include "ops/sql.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static bool
read_streams(int32_t *streams, const char *word)
{
    char *end;
    long value;

    errno = 0;
    value = strtol(word, &end, 10);
    if (errno != 0 || end == word || *end != '\0' || value < INT32_MIN || value > INT32_MAX) {
        complain("\"%s\" is not a number of streams", word);
        return false;
    }
    *streams = (int32_t)value;
    return true;
}

static void
print_change(const struct pg_rows *rows, int32_t streams, bool dry_run)
{
    int64_t before = pg_int(rows, 0, 0);

    if (before == streams) {
        printf("the number of streams is %d already\n", streams);
        return;
    }
    printf("the outbox %s %d streams instead of %lld\n", dry_run ? "would have" : "has", streams,
           (long long)before);
    printf("%lld messages that Kafka has acknowledged %s published again, besides those on their "
           "way\n",
           (long long)pg_int(rows, 0, 1), dry_run ? "would be" : "are");
    if (dry_run)
        puts("nothing was changed (--dry-run)");
}

int
outbox_streams(struct call *call)
{
    struct pg_rows rows = PG_ROWS_INIT;
    struct saga_error err = { 0 };
    int32_t streams;
    int rc;

    if (!read_streams(&streams, call->words[0]))
        return EXIT_USAGE;
    rc = pg_connect(&call->pg, &err);
    if (rc == 0)
        rc = pg_exec(&call->pg, SQL_LOCK_TIMEOUT, PG_ARGS(PG_TEXT(call->options.lock_timeout)),
                     NULL, &err);
    if (rc == 0)
        rc = pg_exec(&call->pg, SQL_OUTBOX_STREAMS,
                     PG_ARGS(PG_INT4(streams), PG_BOOL(call->options.dry_run)), &rows, &err);
    if (rc == 0 && call->options.json)
        printf("%s\n", pg_text(&rows, 0, 2));
    else if (rc == 0)
        print_change(&rows, streams, call->options.dry_run);
    pg_rows_clear(&rows);
    return rc == 0 ? EXIT_DONE : complain_refusal(&err);
}
