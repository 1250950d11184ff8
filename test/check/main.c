/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Was every order handled as the customer intended, once, and is every cent and
 * every lamp where it belongs?
 *
 *     check-shop --orders CONNINFO --inventory CONNINFO --payment CONNINFO
 *                --shipping CONNINFO --intents FILE [--brokers LIST] [--wait S]
 *
 * Prints each violated invariant with its rows, and the figures. With --wait it
 * looks again until all is well or that many seconds have passed, because the
 * last messages may still be on their way. Exit code 0: all hold; 1: some are
 * violated; 2: it could not look.
 */
#include "check.h"
#include "test/support/pace.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { LOOK_US = 300000 };

void
die(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fputs("check-shop: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(2);
}

static const struct option options[] = {
    { "orders", required_argument, NULL, SERVICE_ORDER },
    { "inventory", required_argument, NULL, SERVICE_INVENTORY },
    { "payment", required_argument, NULL, SERVICE_PAYMENT },
    { "shipping", required_argument, NULL, SERVICE_SHIPPING },
    { "intents", required_argument, NULL, 'i' },
    { "brokers", required_argument, NULL, 'b' },
    { "wait", required_argument, NULL, 'w' },
    { 0 },
};

static void
parse(int argc, char **argv, struct places *places, int *wait_s)
{
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option >= 0 && option < N_SERVICES)
            places->databases[option] = optarg;
        else if (option == 'i' && places->n_intents < INTENTS_MAX)
            places->intents[places->n_intents++] = optarg;
        else if (option == 'b')
            places->brokers = optarg;
        else if (option == 'w')
            *wait_s = atoi(optarg);
        else
            exit(2);
    }
    for (int i = 0; i < N_SERVICES; i++) {
        if (places->databases[i] == NULL)
            die("--%s is missing: the conninfo of that service's database", options[i].name);
    }
    if (places->n_intents == 0)
        die("--intents is missing: the file that the clients logged their intents to");
}

int
main(int argc, char **argv)
{
    struct places places = { 0 };
    int wait_s = 0, violated;
    PGconn *scratch;
    struct pace pace = pace_begin();
    time_t deadline;

    parse(argc, argv, &places, &wait_s);
    deadline = time(NULL) + wait_s;
    for (;;) {
        scratch = gather(&places);
        violated = check_invariants(scratch, places.brokers != NULL, false);
        if (violated == 0 || time(NULL) >= deadline)
            break;
        PQfinish(scratch);
        pace_keep(&pace, LOOK_US);
    }
    print_figures(scratch, places.brokers != NULL);
    check_invariants(scratch, places.brokers != NULL, true);
    PQfinish(scratch);
    return violated == 0 ? 0 : 1;
}
