/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading the settings of outbox-relay. The command line wins over the file.
 */
#include "outbox/daemon_settings.h"

#include "base/log.h"

#include <errno.h>
#include <getopt.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char program[] = "outbox-relay";
static const char usage[] =
    "usage: outbox-relay --database CONNINFO --brokers HOST:PORT[,...]\n"
    "                    [--config FILE] [--once]\n"
    "\n"
    "Publishes the messages of a database's outbox to Kafka.\n"
    "\n"
    "  --database CONNINFO  PostgreSQL, as for psql; default: the PG* variables\n"
    "  --brokers LIST       Kafka\n"
    "  --config FILE        [relay] database, brokers, lease_ms, page_rows, page_bytes,\n"
    "                       idle_ms, drain_ms, log (debug, info, warning, error);\n"
    "                       [kafka] properties of librdkafka's producer\n"
    "  --once               publish what is there, then exit\n"
    "\n"
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 4 refused because of the state\n"
    "(another relay is at work or has taken over; the database is another one).\n";

static char *
keep(struct settings *settings, const char *text)
{
    char *copy = settings->n_texts < SETTINGS_TEXTS_MAX ? strdup(text) : NULL;

    if (copy != NULL)
        settings->texts[settings->n_texts++] = copy;
    return copy;
}

static bool
read_number(int32_t *number, const char *text)
{
    char *end;
    long value;

    errno = 0;
    value = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < 1 || value > INT32_MAX)
        return false;
    *number = (int32_t)value;
    return true;
}

static bool
read_level(int32_t *level, const char *text)
{
    static const char *const levels[] = { "debug", "info", "warning", "error" };

    for (int32_t i = 0; i < 4; i++) {
        if (strcmp(levels[i], text) == 0) {
            *level = i;
            return true;
        }
    }
    return false;
}

/* --- the file ---------------------------------------------------------- */

static bool
set_relay(struct settings *settings, const char *name, const char *value)
{
    struct saga_relay_options *options = &settings->options;
    const struct {
        const char *name;
        int32_t *number;
    } numbers[] = {
        { "lease_ms", &options->lease_ms },     { "page_rows", &options->page_rows },
        { "page_bytes", &options->page_bytes }, { "idle_ms", &options->idle_ms },
        { "drain_ms", &options->drain_ms },
    };

    if (strcmp(name, "database") == 0)
        return (options->conninfo = keep(settings, value)) != NULL;
    if (strcmp(name, "brokers") == 0)
        return (options->brokers = keep(settings, value)) != NULL;
    if (strcmp(name, "log") == 0)
        return read_level(&options->log.level, value);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (strcmp(numbers[i].name, name) == 0)
            return read_number(numbers[i].number, value);
    return false;
}

static bool
set_kafka(struct settings *settings, const char *name, const char *value)
{
    struct saga_pair *pair = &settings->kafka[settings->n_kafka];

    if (settings->n_kafka == SETTINGS_KAFKA_MAX)
        return false;
    pair->name = keep(settings, name);
    pair->value = keep(settings, value);
    if (pair->name == NULL || pair->value == NULL) {
        pair->name = NULL;
        return false;
    }
    settings->n_kafka++;
    return true;
}

static int
on_setting(void *user, const char *section, const char *name, const char *value)
{
    struct settings *settings = user;
    bool known = false;

    if (strcmp(section, "relay") == 0)
        known = set_relay(settings, name, value);
    else if (strcmp(section, "kafka") == 0)
        known = set_kafka(settings, name, value);
    if (!known)
        fprintf(stderr, "outbox-relay: [%s] %s = %s: no such setting, or no such value\n", section,
                name, value);
    return known;
}

static bool
read_file(struct settings *settings, const char *path)
{
    int line = ini_parse(path, on_setting, settings);

    if (line < 0)
        fprintf(stderr, "outbox-relay: cannot read %s: %s\n", path, strerror(errno));
    else if (line > 0)
        fprintf(stderr, "outbox-relay: %s, line %d\n", path, line);
    return line == 0;
}

/* --- the command line -------------------------------------------------- */

enum { OPT_DATABASE = 1, OPT_BROKERS, OPT_CONFIG, OPT_ONCE, OPT_METRICS, OPT_HELP, OPT_VERSION };
static const struct option long_options[] = {
    { "database", required_argument, NULL, OPT_DATABASE },
    { "brokers", required_argument, NULL, OPT_BROKERS },
    { "config", required_argument, NULL, OPT_CONFIG },
    { "once", no_argument, NULL, OPT_ONCE },
    { "metrics", required_argument, NULL, OPT_METRICS },
    { "help", no_argument, NULL, OPT_HELP },
    { "version", no_argument, NULL, OPT_VERSION },
    { NULL, 0, NULL, 0 },
};

struct command_line {
    const char *database, *brokers, *config;
};

static int
read_command_line(struct settings *settings, struct command_line *given, int argc, char **argv)
{
    int option;

    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        switch (option) {
        case OPT_DATABASE:
            given->database = optarg;
            break;
        case OPT_BROKERS:
            given->brokers = optarg;
            break;
        case OPT_CONFIG:
            given->config = optarg;
            break;
        case OPT_ONCE:
            settings->once = true;
            break;
        case OPT_METRICS:
            fputs("outbox-relay: --metrics is not in this version\n", stderr);
            return SETTINGS_WRONG;
        case OPT_HELP:
            fputs(usage, stdout);
            return SETTINGS_EXIT;
        case OPT_VERSION:
            printf("outbox-relay %d.%d.%d\n", SAGA_VERSION_MAJOR, SAGA_VERSION_MINOR,
                   SAGA_VERSION_PATCH);
            return SETTINGS_EXIT;
        default:
            fputs(usage, stderr);
            return SETTINGS_WRONG;
        }
    }
    if (optind == argc)
        return SETTINGS_RUN;
    fprintf(stderr, "outbox-relay: what is \"%s\"?\n%s", argv[optind], usage);
    return SETTINGS_WRONG;
}

int
settings_read(struct settings *settings, int argc, char **argv)
{
    struct command_line given = { 0 };
    int rc;

    *settings = (struct settings){ .options = { SAGA_RELAY_OPTIONS } };
    settings->options.log =
        (struct saga_log){ .write = log_to_stderr, .user = program, .level = SAGA_LOG_INFO };
    rc = read_command_line(settings, &given, argc, argv);
    if (rc != SETTINGS_RUN)
        return rc;
    if (given.config != NULL && !read_file(settings, given.config))
        return SETTINGS_WRONG;
    if (given.database != NULL)
        settings->options.conninfo = given.database;
    if (given.brokers != NULL)
        settings->options.brokers = given.brokers;
    if (settings->options.brokers == NULL) {
        fprintf(stderr, "outbox-relay: no brokers; give --brokers HOST:PORT\n%s", usage);
        return SETTINGS_WRONG;
    }
    settings->options.kafka = settings->kafka;
    return SETTINGS_RUN;
}

void
settings_clear(struct settings *settings)
{
    for (int i = 0; i < settings->n_texts; i++)
        free(settings->texts[i]);
    *settings = (struct settings){ 0 };
}
