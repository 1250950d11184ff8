/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sagactl migrate: applies and undoes migrations, each in a transaction of its
 * own. Which one comes next is decided in migrate_plan.c, under a lock and from
 * what the database says at that moment, so that several runners may be at work.
 */
#include "ops/migrate_loss.h"
#include "ops/migrate_plan.h"
#include "ops/migration_set.h"
#include "ops/ops.h"
#include "ops/output.h"
#include "ops/sql.h"
#include "ops/sql_text.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct runner {
    struct pg *pg;
    const struct options *options;
    struct migration_set set;
    struct pg_array numbers, names, texts; /* the set, as parameters */
    struct pg_rows rows;                   /* that `states` points into */
    struct migration_state *states;
    size_t n_states;
    struct pg_array done; /* names of what this run did */
    bool told;            /* that it waits for another runner */
};

/* --- what the two sides have ---------------------------------------------- */

static int
runner_init(struct runner *runner, struct call *call, struct saga_error *err)
{
    int rc;

    *runner = (struct runner){ .pg = &call->pg, .options = &call->options };
    pg_array_init(&runner->numbers, PG_OID_INT4_ARRAY);
    pg_array_init(&runner->names, PG_OID_TEXT_ARRAY);
    pg_array_init(&runner->texts, PG_OID_TEXT_ARRAY);
    pg_array_init(&runner->done, PG_OID_TEXT_ARRAY);
    rc = migration_set_load(&runner->set, call->options.migrations, err);
    for (size_t i = 0; i < runner->set.n; i++) {
        pg_array_add_int4(&runner->numbers, runner->set.items[i].number);
        pg_array_add_text(&runner->names, runner->set.items[i].name);
        pg_array_add_text(&runner->texts, runner->set.items[i].up);
    }
    if (rc == 0 &&
        (runner->numbers.bytes.failed || runner->names.bytes.failed || runner->texts.bytes.failed))
        rc = error_set(err, SAGA_ENOMEM, "out of memory");
    return rc;
}

static void
runner_clear(struct runner *runner)
{
    pg_array_clear(&runner->numbers);
    pg_array_clear(&runner->names);
    pg_array_clear(&runner->texts);
    pg_array_clear(&runner->done);
    pg_rows_clear(&runner->rows);
    free(runner->states);
    migration_set_clear(&runner->set);
}

/* The book of applied migrations is made by the first of them. */
static int
has_book(struct runner *runner, bool *has, struct saga_error *err)
{
    struct pg_rows rows = PG_ROWS_INIT;
    int rc = pg_exec(runner->pg, SQL_HAS_BOOK, PG_NO_ARGS, &rows, err);

    if (rc == 0)
        *has = pg_bool(&rows, 0, 0);
    pg_rows_clear(&rows);
    return rc;
}

static int
read_states(struct runner *runner, struct saga_error *err)
{
    struct migration_state *states;
    bool book = false;
    int rc = has_book(runner, &book, err);

    if (rc == 0)
        rc = pg_exec(
            runner->pg, book ? SQL_STATES : SQL_STATES_WITHOUT_BOOK,
            PG_ARGS(PG_ARRAY(&runner->numbers), PG_ARRAY(&runner->names), PG_ARRAY(&runner->texts)),
            &runner->rows, err);
    if (rc != 0)
        return rc;
    states = realloc(runner->states, ((size_t)runner->rows.n + 1) * sizeof *states);
    if (states == NULL)
        return error_set(err, SAGA_ENOMEM, "out of memory");
    for (int i = 0; i < runner->rows.n; i++)
        states[i] = (struct migration_state){
            .number = (int32_t)pg_int(&runner->rows, i, 0),
            .name = pg_text(&runner->rows, i, 1),
            .known = pg_bool(&runner->rows, i, 2),
            .applied = pg_bool(&runner->rows, i, 3),
            .changed = pg_bool(&runner->rows, i, 4),
            .position = pg_int(&runner->rows, i, 5),
        };
    runner->states = states;
    runner->n_states = (size_t)runner->rows.n;
    return 0;
}

static const struct migration *
migration_of(const struct runner *runner, const struct migration_state *state)
{
    for (size_t i = 0; i < runner->set.n; i++)
        if (runner->set.items[i].number == state->number)
            return &runner->set.items[i];
    return NULL;
}

/* --- one migration -------------------------------------------------------- */

/* One runner at a time; the lock ends with the transaction, so that it also
 * works through a pooler. It is waited for without lock_timeout, which is meant
 * for the locks of business transactions. */
static int
lock_book(struct runner *runner, struct saga_error *err)
{
    struct pg_rows rows = PG_ROWS_INIT;
    int rc = pg_exec(runner->pg, SQL_TRY_LOCK, PG_NO_ARGS, &rows, err);
    bool mine = rc == 0 && pg_bool(&rows, 0, 0);

    pg_rows_clear(&rows);
    if (rc != 0 || mine)
        return rc;
    if (!runner->told)
        complain("another sagactl migrates this database; taking turns with it");
    runner->told = true;
    return pg_exec(runner->pg, SQL_LOCK, PG_NO_ARGS, NULL, err);
}

/* As saga_owner, or as whom the schema belongs to; nobody yet: as ourselves. */
static int
become_owner(struct runner *runner, struct saga_error *err)
{
    return pg_exec(runner->pg, SQL_BECOME_OWNER, PG_NO_ARGS, NULL, err);
}

static int
begin_step(struct runner *runner, struct saga_error *err)
{
    int rc = pg_begin_durable(runner->pg, err);

    if (rc == 0)
        rc = lock_book(runner, err);
    if (rc == 0)
        rc = pg_exec(runner->pg, SQL_SETTINGS, PG_ARGS(PG_TEXT(runner->options->lock_timeout)),
                     NULL, err);
    if (rc == 0)
        rc = become_owner(runner, err);
    if (rc == 0)
        rc = read_states(runner, err);
    if (rc == 0)
        rc = migrate_plan_check(runner->states, runner->n_states, err);
    return rc;
}

/* Says where, shows the statement, and leaves the error for the caller. */
static void
explain(const char *name, const char *suffix, const char *text, const struct saga_error *err)
{
    struct sql_place place = sql_locate(text, err->native, err->index);

    if (err->sqlstate[0] == '\0')
        return; /* not a statement's fault: the connection's */
    complain("%s%s, line %d, failed in this statement:", name, suffix, place.line);
    output_excerpt(stderr, place.text, place.len);
    if (strcmp(err->sqlstate, "55P03") == 0)
        complain("a lock was not free in time: try again, or allow more by --lock-timeout");
}

/* With a COMMIT inside, the file's first half would stay when the second fails. */
static int
refuse_transaction(const char *name, const char *suffix, const char *text, struct saga_error *err)
{
    struct sql_place place = sql_find_transaction(text);

    if (place.text == NULL)
        return 0;
    return error_set(err, SAGA_EINVAL,
                     "%s%s, line %d: %.*s: a migration runs inside one transaction and must not "
                     "begin or end it",
                     name, suffix, place.line, (int)(place.len < 40 ? place.len : 40), place.text);
}

static int
run_script(struct runner *runner, const char *name, const char *suffix, const char *text,
           struct saga_error *err)
{
    int rc = refuse_transaction(name, suffix, text, err);

    if (rc != 0)
        return rc;
    rc = pg_script(runner->pg, text, err);
    if (rc != 0)
        explain(name, suffix, text, err);
    return rc;
}

static int
apply(struct runner *runner, const struct migration *migration, struct saga_error *err)
{
    int rc = run_script(runner, migration->name, ".up.sql", migration->up, err);

    /* The schema may have its owner only now. */
    if (rc == 0)
        rc = become_owner(runner, err);
    if (rc == 0)
        rc = pg_exec(
            runner->pg, SQL_BOOK_ADD,
            PG_ARGS(PG_INT4(migration->number), PG_TEXT(migration->name), PG_TEXT(migration->up)),
            NULL, err);
    return rc;
}

/* The book's row goes first: the first migration's .down.sql drops the book. */
static int
undo(struct runner *runner, const struct migration *migration, struct saga_error *err)
{
    int rc;

    if (migration->down == NULL)
        return error_set(err, SAGA_ESTATE, "%s has no .down.sql: it cannot be undone",
                         migration->name);
    rc = pg_exec(runner->pg, SQL_BOOK_REMOVE, PG_ARGS(PG_INT4(migration->number)), NULL, err);
    return rc != 0 ? rc : run_script(runner, migration->name, ".down.sql", migration->down, err);
}

/* Does the next one. `*did` false: there was nothing to do. */
static int
step(struct runner *runner, bool up, bool *did, struct saga_error *err)
{
    int64_t began_ms = clock_mono_ms();
    const struct migration *migration = NULL;
    int next = -1, rc = begin_step(runner, err);

    if (rc == 0)
        next = up ? migrate_plan_up(runner->states, runner->n_states)
                  : migrate_plan_down(runner->states, runner->n_states);
    if (rc == 0 && next >= 0) {
        migration = migration_of(runner, &runner->states[next]);
        rc = up ? apply(runner, migration, err) : undo(runner, migration, err);
    }
    if (rc == 0)
        rc = pg_commit(runner->pg, err);
    if (rc != 0) {
        pg_rollback(runner->pg);
        return rc;
    }
    *did = migration != NULL;
    if (migration == NULL)
        return 0;
    pg_array_add_text(&runner->done, migration->name);
    if (!runner->options->json)
        printf("%-32s %s in %lld ms\n", migration->name, up ? "applied" : "undone",
               (long long)(clock_mono_ms() - began_ms));
    fflush(stdout);
    return 0;
}

/* --- the verbs ------------------------------------------------------------ */

static int
check_database(struct runner *runner, struct saga_error *err)
{
    struct pg_rows rows = PG_ROWS_INIT;
    int rc = pg_connect(runner->pg, err);

    if (rc == 0)
        rc = pg_exec(runner->pg, SQL_ENCODING, PG_NO_ARGS, &rows, err);
    if (rc == 0 && strcmp(pg_text(&rows, 0, 0), "UTF8") != 0)
        rc = error_set(err, SAGA_ESTATE,
                       "the database's encoding is %s and must be UTF8: CREATE DATABASE ... "
                       "ENCODING 'UTF8' TEMPLATE template0",
                       pg_text(&rows, 0, 0));
    pg_rows_clear(&rows);
    return rc;
}

static int
print_done(struct runner *runner, bool up, struct saga_error *err)
{
    if (runner->options->json)
        return output_json(runner->pg, SQL_DONE_JSON,
                           PG_ARGS(PG_TEXT(up ? "applied" : "undone"), PG_ARRAY(&runner->done)),
                           err);
    if (runner->done.n > 0)
        return 0;
    if (up)
        printf("nothing to do: all %zu migrations are applied\n", runner->set.n);
    else
        printf("nothing to do: no migration is applied\n");
    return 0;
}

/* The texts of the last `n`. The caller frees the array, and not what it holds. */
static const char **
scripts_of(const struct runner *runner, size_t n)
{
    const char **scripts = calloc(n + 1, sizeof *scripts);
    struct migration_state *left = calloc(runner->n_states + 1, sizeof *left);
    int last;

    if (scripts != NULL && left != NULL) {
        memcpy(left, runner->states, runner->n_states * sizeof *left);
        for (size_t i = 0; i < n && (last = migrate_plan_down(left, runner->n_states)) >= 0; i++) {
            scripts[i] = migration_of(runner, &left[last])->down;
            left[last].applied = false;
        }
    }
    free(left);
    return scripts;
}

static int
judge_loss(struct runner *runner, size_t n, struct saga_error *err)
{
    const char **scripts = scripts_of(runner, n);
    char loss[sizeof err->message - 64];
    int rc = scripts == NULL ? error_set(err, SAGA_ENOMEM, "out of memory")
                             : migrate_loss(loss, sizeof loss, runner->pg, scripts, n, err);

    free(scripts);
    if (rc != 0 || *loss == '\0')
        return rc;
    if (!runner->options->force)
        return error_set(err, SAGA_ESTATE, "this would lose %s; --force does it", loss);
    complain("this loses %s", loss);
    return 0;
}

/* Before anything is undone: a number that was meant, and nothing that is missed. */
static int
judge_down(struct runner *runner, long n, struct saga_error *err)
{
    size_t applied = 0;
    int rc = begin_step(runner, err);

    for (size_t i = 0; rc == 0 && i < runner->n_states; i++)
        applied += runner->states[i].applied;
    if (rc == 0 && applied > 0 && n < INT32_MAX && (size_t)n > applied)
        rc = error_set(err, SAGA_ESTATE, "only %zu migrations are applied; --all undoes them all",
                       applied);
    if (rc == 0)
        rc = judge_loss(runner, (size_t)n < applied ? (size_t)n : applied, err);
    pg_rollback(runner->pg);
    return rc;
}

static int
migrate(struct call *call, bool up, long n)
{
    struct saga_error err = { 0 };
    struct runner runner;
    bool did = true;
    int rc = runner_init(&runner, call, &err);

    if (rc == 0)
        rc = check_database(&runner, &err);
    if (rc == 0 && !up)
        rc = judge_down(&runner, n, &err);
    for (long i = 0; rc == 0 && did && i < n; i++)
        rc = step(&runner, up, &did, &err);
    if (rc == 0)
        rc = print_done(&runner, up, &err);
    runner_clear(&runner);
    return rc == 0 ? EXIT_DONE : complain_error(&err);
}

int
migrate_up(struct call *call)
{
    return migrate(call, true, INT32_MAX);
}

int
migrate_down(struct call *call)
{
    const char *word = call->n_words == 1 ? call->words[0] : "1";
    bool all = call->options.all || strcmp(word, "all") == 0;
    char *end = NULL;
    long n = all ? INT32_MAX : strtol(word, &end, 10);

    if (n < 1 || n > INT32_MAX || (end != NULL && *end != '\0') ||
        (call->options.all && call->n_words > 0)) {
        complain("migrate down: either N, from 1, which is how many of the last to undo, or --all");
        return EXIT_USAGE;
    }
    return migrate(call, false, n);
}

int
migrate_status(struct call *call)
{
    struct saga_error err = { 0 };
    struct runner runner;
    bool book = false;
    int rc = runner_init(&runner, call, &err);

    if (rc == 0)
        rc = check_database(&runner, &err);
    if (rc == 0)
        rc = has_book(&runner, &book, &err);
    if (rc == 0)
        rc = output_query(
            runner.pg, runner.options->json, book ? SQL_STATUS : SQL_STATUS_WITHOUT_BOOK,
            PG_ARGS(PG_ARRAY(&runner.numbers), PG_ARRAY(&runner.names), PG_ARRAY(&runner.texts)),
            &err);
    runner_clear(&runner);
    return rc == 0 ? EXIT_DONE : complain_error(&err);
}
