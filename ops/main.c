/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sagactl: what operators do. Reads the command line, finds the verb, and
 * turns its outcome into an exit code.
 */
#include "ops/ops.h"

#include "base/schema.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage_text[] =
    "usage: sagactl [OPTIONS] COMMAND\n"
    "\n"
    "  list                   sagas, the newest first (--state, --definition, --limit)\n"
    "  show ID|KEY            one saga with its steps and its history (--definition)\n"
    "  why ID|KEY             what one saga waits for (--definition)\n"
    "  retry ID --reason WHY  lets a parked saga go on\n"
    "  cancel ID --reason WHY asks for a saga to be undone\n"
    "  audit [ID]             what operators did to sagas (--limit)\n"
    "  outbox status          what waits to be published, and who publishes\n"
    "  outbox parked [TOPIC [KEY]]  what can never be delivered, and waits for a person (--limit)\n"
    "  outbox retry TOPIC [KEY] --reason WHY  lets the relay try again; without KEY those that\n"
    "                         have none; all of the topic: --all\n"
    "  outbox discard ID --reason WHY  gives one parked message up\n"
    "  outbox show ID         all about one message (--payload)\n"
    "  outbox audit           what operators did to it (--limit)\n"
    "  outbox streams N       divides the outbox into N streams (--dry-run)\n"
    "  outbox rebase          makes a restored outbox fit for a relay (--dry-run)\n"
    "  inbox quarantine [CONSUMER]  what consumers must not apply, numbered (--limit)\n"
    "  inbox release N --reason WHY  has one applied all the same; inbox reject N: never\n"
    "  inbox parked [CONSUMER [TOPIC]]  what handlers could not apply (--limit)\n"
    "  inbox retry CONSUMER TOPIC [KEY] --reason WHY  lets the consumer try again; without KEY\n"
    "                         those that have none; all of the topic: --all\n"
    "  inbox discard CONSUMER ID --reason WHY  gives one parked message up; those behind it\n"
    "                         wait for inbox retry\n"
    "  inbox show ID|N        all about one message, or number N of the quarantine (--payload)\n"
    "  inbox audit            what operators did to it (--limit)\n"
    "  inbox waiting [CONSUMER]  commands in hand that are not answered, with the tokens that\n"
    "                         idempotency.reply() needs (--limit)\n"
    "  inbox horizon          between which times messages are known, and how long all is kept\n"
    "  migrate up             applies the migrations that the database lacks\n"
    "  migrate down [N]       undoes the last N (1): drops tables with what is in them (--all,\n"
    "                         --force)\n"
    "  migrate status         which are applied\n"
    "\n"
    "  --database CONNINFO    else PGHOST, PGPORT, PGDATABASE, PGUSER and so on\n"
    "  --json                 for programs\n"
    "  --state STATE          running, compensating, completed, compensated or parked\n"
    "  --definition NAME      only sagas of this name\n"
    "  --limit N              at most so many (50)\n"
    "  --reason WHY           goes into the audit\n"
    "  --all                  all keys of the topic; all migrations\n"
    "  --force                undoes migrations also where messages or sagas are lost\n"
    "  --payload              the payload, too\n"
    "  --dry-run              only says what would be done\n"
    "  --migrations DIR       files in DIR instead of the built-in ones\n"
    "  --lock-timeout TIME    longest wait for a table's lock (5s)\n"
    "  --help, --version\n"
    "\n"
    "exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 refused because of the state\n";

/* Each option is known by a letter; `takes` lists those that a verb knows
 * besides --database and --json. A verb that knows --reason needs it. */
static const struct option known[] = {
    { "database", required_argument, NULL, 'd' },
    { "json", no_argument, NULL, 'j' },
    { "state", required_argument, NULL, 's' },
    { "definition", required_argument, NULL, 'D' },
    { "limit", required_argument, NULL, 'l' },
    { "reason", required_argument, NULL, 'r' },
    { "migrations", required_argument, NULL, 'm' },
    { "lock-timeout", required_argument, NULL, 't' },
    { "dry-run", no_argument, NULL, 'n' },
    { "all", no_argument, NULL, 'a' },
    { "force", no_argument, NULL, 'f' },
    { "payload", no_argument, NULL, 'p' },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, 'v' },
    { NULL, 0, NULL, 0 },
};

static const struct verb {
    const char *group, *name;
    int (*run)(struct call *call);
    const char *takes;
    int32_t timeout_ms; /* for each statement; 0: as long as it takes */
    int words_min, words_max;
    const char *words;
} verbs[] = {
    { NULL, "list", saga_list, "sDl", 30000, 0, 0, "" },
    { NULL, "show", saga_show, "D", 30000, 1, 1, " ID|KEY" },
    { NULL, "why", saga_why, "D", 30000, 1, 1, " ID|KEY" },
    { NULL, "retry", saga_retry, "r", 30000, 1, 1, " ID --reason WHY" },
    { NULL, "cancel", saga_cancel, "r", 30000, 1, 1, " ID --reason WHY" },
    { NULL, "audit", saga_audit, "l", 30000, 0, 1, " [ID]" },
    { "outbox", "status", outbox_status, "", 30000, 0, 0, "" },
    { "outbox", "parked", outbox_parked, "l", 30000, 0, 2, " [TOPIC [KEY]]" },
    { "outbox", "retry", outbox_retry, "ra", 30000, 1, 2, " TOPIC [KEY] --reason WHY" },
    { "outbox", "discard", outbox_discard, "r", 30000, 1, 1, " ID --reason WHY" },
    { "outbox", "show", outbox_show, "p", 120000, 1, 1, " ID" },
    { "outbox", "audit", outbox_audit, "l", 30000, 0, 0, "" },
    { "outbox", "streams", outbox_streams, "tn", 0, 1, 1, " N" },
    { "outbox", "rebase", outbox_rebase, "tn", 0, 0, 0, "" },
    { "inbox", "quarantine", inbox_quarantine, "l", 30000, 0, 1, " [CONSUMER]" },
    { "inbox", "release", inbox_release, "r", 30000, 1, 1, " N --reason WHY" },
    { "inbox", "reject", inbox_reject, "r", 30000, 1, 1, " N --reason WHY" },
    { "inbox", "parked", inbox_parked, "l", 30000, 0, 2, " [CONSUMER [TOPIC]]" },
    { "inbox", "retry", inbox_retry, "ra", 30000, 2, 3, " CONSUMER TOPIC [KEY] --reason WHY" },
    { "inbox", "discard", inbox_discard, "r", 30000, 2, 2, " CONSUMER ID --reason WHY" },
    { "inbox", "show", inbox_show, "p", 30000, 1, 1, " ID|N" },
    { "inbox", "audit", inbox_audit, "l", 30000, 0, 0, "" },
    { "inbox", "waiting", inbox_waiting, "l", 30000, 0, 1, " [CONSUMER]" },
    { "inbox", "horizon", inbox_horizon, "", 30000, 0, 0, "" },
    { "migrate", "up", migrate_up, "mt", 0, 0, 0, "" },
    { "migrate", "down", migrate_down, "mtaf", 0, 0, 1, " [N] | --all" },
    { "migrate", "status", migrate_status, "m", 30000, 0, 0, "" },
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
    if ((err->flags & SAGA_ERR_UNKNOWN) != 0)
        complain("it may have been carried out or not: look before you try again");
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

int
complain_refusal(struct saga_error *err)
{
    if (strcmp(err->sqlstate, "P0002") == 0)
        err->code = SAGA_ENOTFOUND;
    else if (strcmp(err->sqlstate, "55000") == 0)
        err->code = SAGA_ESTATE;
    else if (strcmp(err->sqlstate, "22023") == 0)
        err->code = SAGA_EINVAL;
    return complain_error(err);
}

/* --- the command line ------------------------------------------------------ */

static bool
read_limit(int32_t *limit, const char *text)
{
    char *end;
    long value = strtol(text, &end, 10);

    if (*text == '\0' || *end != '\0' || value < 1 || value > INT32_MAX) {
        complain("--limit must be a number from 1, not \"%s\"", text);
        return false;
    }
    *limit = (int32_t)value;
    return true;
}

static bool
take_option(struct options *options, int option, const char *value)
{
    switch (option) {
    case 'd':
        options->database = value;
        return true;
    case 'j':
        options->json = true;
        return true;
    case 's':
        options->state = value;
        return true;
    case 'D':
        options->definition = value;
        return true;
    case 'l':
        return read_limit(&options->limit, value);
    case 'n':
        options->dry_run = true;
        return true;
    case 'r':
        options->reason = value;
        return true;
    case 'a':
        options->all = true;
        return true;
    case 'f':
        options->force = true;
        return true;
    case 'p':
        options->payload = true;
        return true;
    case 'm':
        options->migrations = value;
        return true;
    case 't':
        options->lock_timeout = value;
        return true;
    default: /* getopt has said what is wrong */
        complain("try sagactl --help");
        return false;
    }
}

/* An exit code, or -1: go on. `given` receives the letters. */
static int
read_options(struct options *options, char *given, size_t size, int argc, char **argv)
{
    size_t n = 0;
    int option;

    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (option == 'h') {
            fputs(usage_text, stdout);
            return EXIT_DONE;
        }
        if (option == 'v') {
            printf("sagactl %d.%d.%d\n", SAGA_VERSION_MAJOR, SAGA_VERSION_MINOR,
                   SAGA_VERSION_PATCH);
            return EXIT_DONE;
        }
        if (!take_option(options, option, optarg))
            return EXIT_USAGE;
        if (n + 1 < size && strchr(given, option) == NULL)
            given[n++] = (char)option;
    }
    return -1;
}

static bool
check_options(const struct verb *verb, const char *given)
{
    for (; *given != '\0'; given++) {
        const struct option *option = known;

        if (*given == 'd' || *given == 'j' || strchr(verb->takes, *given) != NULL)
            continue;
        while (option->val != *given)
            option++;
        complain("%s%s%s does not know --%s", verb->group != NULL ? verb->group : "",
                 verb->group != NULL ? " " : "", verb->name, option->name);
        return false;
    }
    return true;
}

static bool
check_words(const struct verb *verb, int n)
{
    if (n >= verb->words_min && n <= verb->words_max)
        return true;
    complain("usage: sagactl %s%s%s%s", verb->group != NULL ? verb->group : "",
             verb->group != NULL ? " " : "", verb->name, verb->words);
    return false;
}

static bool
check_reason(const struct verb *verb, const char *reason)
{
    if (strchr(verb->takes, 'r') == NULL || (reason != NULL && reason[strspn(reason, " ")] != '\0'))
        return true;
    complain("%s%s%s needs --reason: the audit keeps why you did it",
             verb->group != NULL ? verb->group : "", verb->group != NULL ? " " : "", verb->name);
    return false;
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

/* Behind the answer, which may be an error because of it. */
static void
tell_of_newer(struct pg *pg)
{
    char names[128];

    if (pg_connected(pg) && schema_is_newer(pg, names, sizeof names))
        complain("the database is newer than this sagactl: it has %s; use a later one", names);
}

/* Services' state is changed for a reason, and tables where no lock is in the way. */
static const char *
role_for(const struct verb *verb)
{
    if (strchr(verb->takes, 'r') != NULL)
        return "saga_app";
    if (strchr(verb->takes, 't') == NULL)
        return "saga_monitor";
    return strchr(verb->takes, 'm') != NULL ? "saga_owner, and CREATE on the database"
                                            : "saga_owner";
}

static int
run(const struct verb *verb, struct call *call)
{
    const struct saga_log log = { .write = log_to_stderr, .level = SAGA_LOG_WARNING };
    struct saga_error err = { 0 };
    int code;

    if (pg_init(&call->pg, call->options.database, "sagactl", verb->timeout_ms, &log, &err) != 0)
        return complain_error(&err);
    call->pg.role = role_for(verb);
    code = verb->run(call);
    if (verb->run != migrate_up && verb->run != migrate_down && verb->run != migrate_status)
        tell_of_newer(&call->pg);
    pg_clear(&call->pg);
    return code;
}

int
main(int argc, char **argv)
{
    struct call call = { .options = { .lock_timeout = "5s", .limit = 50 } };
    char given[sizeof known / sizeof *known] = "";
    int code = read_options(&call.options, given, sizeof given, argc, argv), taken;
    const struct verb *verb;

    if (code >= 0)
        return code;
    verb = find_verb(argv + optind, argc - optind);
    if (verb == NULL) {
        if (optind < argc)
            complain("no such command: %s%s%s; try sagactl --help", argv[optind],
                     optind + 1 < argc ? " " : "", optind + 1 < argc ? argv[optind + 1] : "");
        else
            complain("no command; try sagactl --help");
        return EXIT_USAGE;
    }
    taken = optind + (verb->group != NULL) + 1;
    call.words = (const char *const *)argv + taken;
    call.n_words = argc - taken;
    if (!check_options(verb, given) || !check_words(verb, call.n_words) ||
        !check_reason(verb, call.options.reason))
        return EXIT_USAGE;
    return run(verb, &call);
}
