/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sagactl: what operators do. Reads the command line, finds the verb, and
 * turns its outcome into an exit code.
 */
#include "ops/ops.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char usage_text[] =
    "usage: sagactl [OPTIONS] COMMAND\n"
    "\n"
    "  migrate up             applies the migrations that the database lacks\n"
    "  migrate down [N|all]   undoes the last N (1): drops tables with what is in them\n"
    "  migrate status         which are applied\n"
    "\n"
    "  --database CONNINFO    else PGHOST, PGPORT, PGDATABASE, PGUSER and so on\n"
    "  --json                 for programs\n"
    "  --migrations DIR       migrate: files in DIR instead of the built-in ones\n"
    "  --lock-timeout TIME    migrate: longest wait for a table's lock (5s)\n"
    "  --help, --version\n"
    "\n"
    "exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 refused because of the state\n";

static const struct verb {
    const char *group, *name;
    int (*run)(struct call *call);
    int32_t timeout_ms; /* for each statement; 0: as long as it takes */
} verbs[] = {
    { "migrate", "up", migrate_up, 0 },
    { "migrate", "down", migrate_down, 0 },
    { "migrate", "status", migrate_status, 30000 },
};

void
complain(const char *format, ...)
{
    va_list args;

    fputs("sagactl: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

int
complain_error(const struct saga_error *err)
{
    complain("%s", err->message);
    switch (err->code) {
    case SAGA_EINVAL:
        return EXIT_USAGE;
    case SAGA_ENOTFOUND:
        return EXIT_NOT_FOUND;
    case SAGA_ESTATE:
        return EXIT_REFUSED;
    default:
        return EXIT_FAILED;
    }
}

/* 0, or an exit code + 1: an answer was given already. */
static int
read_options(struct options *options, int argc, char **argv)
{
    static const struct option known[] = {
        { "database", required_argument, NULL, 'd' },
        { "json", no_argument, NULL, 'j' },
        { "migrations", required_argument, NULL, 'm' },
        { "lock-timeout", required_argument, NULL, 't' },
        { "help", no_argument, NULL, 'h' },
        { "version", no_argument, NULL, 'v' },
        { NULL, 0, NULL, 0 },
    };
    int option;

    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (option) {
        case 'd':
            options->database = optarg;
            break;
        case 'j':
            options->json = true;
            break;
        case 'm':
            options->migrations = optarg;
            break;
        case 't':
            options->lock_timeout = optarg;
            break;
        case 'h':
            fputs(usage_text, stdout);
            return EXIT_DONE + 1;
        case 'v':
            printf("sagactl %d.%d.%d\n", SAGA_VERSION_MAJOR, SAGA_VERSION_MINOR,
                   SAGA_VERSION_PATCH);
            return EXIT_DONE + 1;
        default: /* getopt has said what is wrong */
            complain("see sagactl --help");
            return EXIT_USAGE + 1;
        }
    }
    return 0;
}

static const struct verb *
find_verb(char **words, int n)
{
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        const struct verb *verb = &verbs[i];
        int in_group = verb->group != NULL;

        if (n > in_group && (!in_group || strcmp(words[0], verb->group) == 0) &&
            strcmp(words[in_group], verb->name) == 0)
            return verb;
    }
    return NULL;
}

static int
run(const struct verb *verb, struct call *call)
{
    const struct saga_log log = { .write = log_to_stderr, .level = SAGA_LOG_WARNING };
    struct saga_error err = { 0 };
    int code;

    if (pg_init(&call->pg, call->options.database, "sagactl", verb->timeout_ms, &log, &err) != 0)
        return complain_error(&err);
    code = verb->run(call);
    pg_clear(&call->pg);
    return code;
}

int
main(int argc, char **argv)
{
    struct call call = { .options = { .lock_timeout = "5s", .limit = 50 } };
    int answered = read_options(&call.options, argc, argv), taken;
    const struct verb *verb;

    if (answered != 0)
        return answered - 1;
    verb = find_verb(argv + optind, argc - optind);
    if (verb == NULL) {
        if (optind < argc)
            complain("no such command: %s%s%s", argv[optind], optind + 1 < argc ? " " : "",
                     optind + 1 < argc ? argv[optind + 1] : "");
        fputs(usage_text, stderr);
        return EXIT_USAGE;
    }
    taken = optind + (verb->group != NULL) + 1;
    call.words = (const char *const *)argv + taken;
    call.n_words = argc - taken;
    return run(verb, &call);
}
