/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading the command line.
 */
#include "outbox/daemon_arguments.h"

#include <libpq-fe.h>
#include <saga/base.h>

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: outbox-relay --database CONNINFO --brokers HOST:PORT[,...]\n"
    "                    [--config FILE] [--metrics [ADDR:]PORT] [--once | --check]\n"
    "\n"
    "Publishes the messages of a database's outbox to Kafka.\n"
    "\n"
    "  --database CONNINFO    PostgreSQL, as for psql; default: the PG* variables.\n"
    "                         A password belongs into --config, PGPASSWORD or ~/.pgpass\n"
    "  --brokers LIST         Kafka\n"
    "  --config FILE          settings; outbox-relay.ini lists them all\n"
    "  --metrics [ADDR:]PORT  answer GET /metrics and GET /healthz there; a port alone\n"
    "                         means 127.0.0.1; default: nowhere\n"
    "  --once                 publish what is there, then exit; with code 1 if nothing can be\n"
    "                         published for a minute (once_ms)\n"
    "  --check                read all settings, say what is wrong with them, and exit;\n"
    "                         connects to nothing\n"
    "  --help, --version\n"
    "\n"
    "Every setting can also be given in the environment: lease_ms of [relay] as\n"
    "OUTBOX_RELAY_LEASE_MS, sasl.password of [kafka] as OUTBOX_RELAY_KAFKA_SASL_PASSWORD,\n"
    "listen of [http] as OUTBOX_RELAY_HTTP_LISTEN, groups of [watch] as\n"
    "OUTBOX_RELAY_WATCH_GROUPS, all of [topics] as "
    "OUTBOX_RELAY_TOPICS=orders=cloudevents,*=plain.\n"
    "The command line wins over the environment, and that over the file. A value\n"
    "file:PATH or credential:NAME (of systemd) is read from there.\n"
    "\n"
    "Signals: HUP reads the settings again; TERM and INT stop in good order, a second one\n"
    "at once.\n"
    "\n"
    "Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 4 refused because of the\n"
    "state (another relay is at work or has taken over; the database is another one).\n";

enum {
    OPT_DATABASE = 1,
    OPT_BROKERS,
    OPT_CONFIG,
    OPT_METRICS,
    OPT_ONCE,
    OPT_CHECK,
    OPT_HELP,
    OPT_VERSION
};
static const struct option long_options[] = {
    { "database", required_argument, NULL, OPT_DATABASE },
    { "brokers", required_argument, NULL, OPT_BROKERS },
    { "config", required_argument, NULL, OPT_CONFIG },
    { "metrics", required_argument, NULL, OPT_METRICS },
    { "once", no_argument, NULL, OPT_ONCE },
    { "check", no_argument, NULL, OPT_CHECK },
    { "help", no_argument, NULL, OPT_HELP },
    { "version", no_argument, NULL, OPT_VERSION },
    { NULL, 0, NULL, 0 },
};

/* What cannot be read may hold a password too. */
static bool
has_password(const char *conninfo)
{
    PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
    bool found = options == NULL;

    for (PQconninfoOption *option = options; option != NULL && option->keyword != NULL; option++)
        if (option->val != NULL && *option->val != '\0' &&
            (strcmp(option->keyword, "password") == 0 ||
             strcmp(option->keyword, "sslpassword") == 0))
            found = true;
    PQconninfoFree(options);
    return found;
}

static bool
keep(char **place, const char *text)
{
    free(*place);
    *place = strdup(text);
    return *place != NULL;
}

static int
read_option(struct arguments *arguments, int option, char *value)
{
    bool kept = true;

    switch (option) {
    case OPT_DATABASE:
        kept = keep(&arguments->database, value);
        if (has_password(value)) {
            arguments->had_password = true;
            memset(value, 'x', strlen(value)); /* ps shows it from here on */
        }
        break;
    case OPT_BROKERS:
        kept = keep(&arguments->brokers, value);
        break;
    case OPT_CONFIG:
        kept = keep(&arguments->config, value);
        break;
    case OPT_METRICS:
        kept = keep(&arguments->metrics, value);
        break;
    case OPT_ONCE:
        arguments->once = true;
        break;
    case OPT_CHECK:
        arguments->check = true;
        break;
    case OPT_HELP:
        fputs(usage, stdout);
        return ARGUMENTS_EXIT;
    case OPT_VERSION:
        printf("outbox-relay %d.%d.%d\n", SAGA_VERSION_MAJOR, SAGA_VERSION_MINOR,
               SAGA_VERSION_PATCH);
        return ARGUMENTS_EXIT;
    default: /* getopt has said what is wrong */
        fputs("outbox-relay: try outbox-relay --help\n", stderr);
        return ARGUMENTS_WRONG;
    }
    return kept ? ARGUMENTS_RUN : ARGUMENTS_WRONG;
}

int
arguments_read(struct arguments *arguments, int argc, char **argv)
{
    int option, rc = ARGUMENTS_RUN;

    *arguments = (struct arguments){ 0 };
    while (rc == ARGUMENTS_RUN && (option = getopt_long(argc, argv, "", long_options, NULL)) != -1)
        rc = read_option(arguments, option, optarg);
    if (rc != ARGUMENTS_RUN || optind == argc)
        return rc;
    fprintf(stderr, "outbox-relay: what is \"%s\"? try outbox-relay --help\n", argv[optind]);
    return ARGUMENTS_WRONG;
}

void
arguments_clear(struct arguments *arguments)
{
    if (arguments->database != NULL)
        explicit_bzero(arguments->database, strlen(arguments->database));
    free(arguments->database);
    free(arguments->brokers);
    free(arguments->config);
    free(arguments->metrics);
    *arguments = (struct arguments){ 0 };
}
