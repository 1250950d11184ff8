/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The relay: connects, takes the stream, publishes, and begins anew when a
 * connection is lost.
 *
 * How it reads is in source.c, how it writes in sink.c, what makes a message
 * count as published in publisher.c; docs/decisions/0001-relay-read.md tells
 * why.
 */
#include "base/backoff.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/options.h"
#include "base/schema.h"
#include "outbox/brokers.h"
#include "outbox/instance.h"
#include "outbox/lease.h"
#include "outbox/place.h"
#include "outbox/publisher.h"
#include "outbox/sql.h"
#include "outbox/standby.h"

#include <saga/relay.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    LEASE_MS = 5000,
    LEASE_SHORTEST_MS = 300,
    PAGE_ROWS = 5000,
    PAGE_BYTES = 4 << 20,
    IDLE_MS = 50,
    DRAIN_MS = 10000,
    STATEMENT_MS = 30000,
    RETENTION_MS = 3 * 24 * 3600 * 1000,
    LOOKS = 5, /* at somebody else's lease while it would last */
    TOLERANCE_MS = 200,
    FIRST_RETRY_MS = 50,
    LONGEST_RETRY_MS = 5000,
    COMPLAIN_MS = 60000
};

struct saga_relay {
    struct publisher publisher;
    struct saga_log log;
    struct saga_pair *properties, *formats;
    char *brokers, *source, *instance, **groups;
    char transactional_id[128];
    atomic_bool stop;
    struct tally tally;
    int64_t complained_ms;    /* about Kafka */
    int64_t db_complained_ms; /* about PostgreSQL */
};

/* --- making and freeing ------------------------------------------------ */

static void
free_pairs(struct saga_pair *pairs)
{
    for (struct saga_pair *pair = pairs; pair != NULL && pair->name != NULL; pair++) {
        free((char *)(uintptr_t)pair->name);
        free((char *)(uintptr_t)pair->value);
    }
    free(pairs);
}

/* NULL: out of memory. */
static struct saga_pair *
copy_pairs(const struct saga_pair *pairs)
{
    struct saga_pair *copy;
    size_t n = 0;

    while (pairs != NULL && pairs[n].name != NULL)
        n++;
    copy = calloc(n + 1, sizeof *copy);
    for (size_t i = 0; copy != NULL && i < n; i++) {
        copy[i].name = strdup(pairs[i].name);
        copy[i].value = strdup(pairs[i].value);
        if (copy[i].name == NULL || copy[i].value == NULL) {
            free((char *)(uintptr_t)copy[i].value);
            copy[i].name = NULL;
            free_pairs(copy);
            return NULL;
        }
    }
    return copy;
}

static void
free_texts(char **texts)
{
    for (size_t i = 0; texts != NULL && texts[i] != NULL; i++)
        free(texts[i]);
    free(texts);
}

/* NULL: out of memory. */
static char **
copy_texts(const char *const *texts)
{
    size_t n = 0;
    char **copy;

    while (texts != NULL && texts[n] != NULL)
        n++;
    copy = calloc(n + 1, sizeof *copy);
    for (size_t i = 0; copy != NULL && i < n; i++) {
        copy[i] = strdup(texts[i]);
        if (copy[i] == NULL) {
            free_texts(copy);
            return NULL;
        }
    }
    return copy;
}

static int
check_options(const struct saga_relay_options *options, struct saga_error *err)
{
    const struct sink_options sink = { .brokers = options->brokers,
                                       .properties = options->kafka,
                                       .formats = { options->formats, options->source },
                                       .transactional_id =
                                           options->transactional != 0 ? "any" : NULL };

    if (options->brokers == NULL || *options->brokers == '\0')
        return error_set(err, SAGA_EINVAL, "no brokers; give host:port, ...");
    if (!brokers_valid(options->brokers))
        return error_set(err, SAGA_EINVAL, "brokers %s", brokers_allowed);
    if (options->stream < 0 || options->stream >= SAGA_RELAY_STREAMS_MAX)
        return error_set(err, SAGA_EINVAL, "stream is %d; it must be from 0 to %d", options->stream,
                         SAGA_RELAY_STREAMS_MAX - 1);
    if (options->instance != NULL && strlen(options->instance) > INSTANCE_BYTES)
        return error_set(err, SAGA_EINVAL, "instance is longer than %d bytes", INSTANCE_BYTES);
    if (options->lease_ms != 0 &&
        (options->lease_ms < LEASE_SHORTEST_MS || options->lease_ms > LEASE_LONGEST_MS))
        return error_set(err, SAGA_EINVAL, "lease_ms is %d; it must be from %d to %d",
                         options->lease_ms, LEASE_SHORTEST_MS, LEASE_LONGEST_MS);
    if (options->page_rows < 0 || options->page_bytes < 0 || options->idle_ms < 0 ||
        options->drain_ms < 0)
        return error_set(err, SAGA_EINVAL,
                         "page_rows, page_bytes, idle_ms and drain_ms must not "
                         "be negative");
    for (const struct saga_pair *pair = options->kafka; pair != NULL && pair->name != NULL; pair++)
        if (pair->value == NULL)
            return error_set(err, SAGA_EINVAL, "the property %s has no value", pair->name);
    for (size_t i = 0; options->watch != NULL && options->watch[i] != NULL; i++)
        if (*options->watch[i] == '\0')
            return error_set(err, SAGA_EINVAL, "a group that is to be watched has no name");
    return sink_check(&sink, err);
}

static int
set_up(struct saga_relay *relay, const struct saga_relay_options *options, struct saga_error *err)
{
    struct publisher *p = &relay->publisher;
    int rc;

    relay->log = options->log;
    relay->brokers = strdup(options->brokers);
    relay->instance = strdup(options->instance != NULL ? options->instance : instance_name());
    relay->properties = copy_pairs(options->kafka);
    relay->formats = copy_pairs(options->formats);
    relay->source = options->source != NULL ? strdup(options->source) : NULL;
    relay->groups = copy_texts(options->watch);
    if (relay->brokers == NULL || relay->instance == NULL || relay->properties == NULL ||
        relay->formats == NULL || relay->groups == NULL ||
        (options->source != NULL && relay->source == NULL))
        return error_set(err, SAGA_ENOMEM, "out of memory");
    p->outlet.options = (struct sink_options){ .brokers = relay->brokers,
                                               .properties = relay->properties,
                                               .formats = { relay->formats, relay->source },
                                               .log = &relay->log,
                                               .ranges = &p->cursor.ranges,
                                               .tally = &relay->tally,
                                               .complained_ms = &relay->complained_ms };
    p->idle_ms = (int32_t)option_or(options->idle_ms, IDLE_MS);
    p->drain_ms = (int32_t)option_or(options->drain_ms, DRAIN_MS);
    p->stop = &relay->stop;
    p->tally = &relay->tally;
    p->end = &p->first;
    p->standby_gate = options->standby_gate != 0;
    p->chores.retention_ms = option_or(options->retention_ms, RETENTION_MS);
    p->chores.log = &relay->log;
    p->cursor.stream = options->stream;
    p->cursor.transactional = options->transactional != 0;
    p->cursor.ranges.wanted = relay->groups[0] != NULL;
    p->cursor.ranges.transactional = options->transactional != 0;
    p->cursor.ranges.floor_seq = &p->cursor.floor_seq;
    p->groups = (const char *const *)relay->groups;
    p->cursor.lease_ms = option_or(options->lease_ms, LEASE_MS);
    /* A producer is also replaced while the stream is owned, when up to a third of
     * the lease is gone; this, twice, may take another. */
    p->outlet.options.close_ms = (int32_t)(p->cursor.lease_ms / 6);
    p->source.pg = &p->reader;
    p->source.page_rows = (int32_t)option_or(options->page_rows, PAGE_ROWS);
    p->source.page_bytes = (int32_t)option_or(options->page_bytes, PAGE_BYTES);
    rc = saga_uuid_make(&p->cursor.owner, err);
    if (rc == 0)
        rc = pg_init(&p->reader, options->conninfo, "outbox-relay", STATEMENT_MS, &relay->log, err);
    if (rc == 0)
        rc = pg_init(&p->writer, options->conninfo, "outbox-relay cursor", STATEMENT_MS,
                     &relay->log, err);
    p->reader.role = p->writer.role = "saga_relay";
    return rc;
}

int
saga_relay_new(struct saga_relay **relay, const struct saga_relay_options *options,
               struct saga_error *err)
{
    struct saga_relay_options read;
    struct saga_relay *made;
    int rc;

    error_clear(err);
    if (relay == NULL)
        return error_set(err, SAGA_EINVAL, "`relay` is NULL");
    rc = options_read(&read, sizeof read, options, err);
    if (rc == 0)
        rc = check_options(&read, err);
    if (rc == 0)
        rc = pg_check_conninfo(read.conninfo, err);
    if (rc != 0)
        return rc;
    made = calloc(1, sizeof *made);
    if (made == NULL)
        return error_set(err, SAGA_ENOMEM, "out of memory");
    rc = set_up(made, &read, err);
    if (rc != 0) {
        saga_relay_free(made);
        return rc;
    }
    *relay = made;
    return 0;
}

void
saga_relay_free(struct saga_relay *relay)
{
    if (relay == NULL)
        return;
    publisher_forget(&relay->publisher);
    outlet_clear(&relay->publisher.outlet);
    cursor_clear(&relay->publisher.cursor);
    pg_clear(&relay->publisher.reader);
    pg_clear(&relay->publisher.writer);
    free_pairs(relay->properties);
    free_pairs(relay->formats);
    free_texts(relay->groups);
    free(relay->brokers);
    free(relay->source);
    free(relay->instance);
    free(relay);
}

void
saga_relay_stop(struct saga_relay *relay)
{
    atomic_store(&relay->stop, true);
}

/* --- one session ------------------------------------------------------- */

static void
nap(struct saga_relay *relay, int64_t ms)
{
    int64_t until = clock_mono_ms() + ms, left;

    while (!atomic_load(&relay->stop) && (left = clock_left_ms(until)) > 0) {
        struct timespec time = { .tv_nsec = (left < 20 ? left : 20) * 1000000 };

        nanosleep(&time, NULL);
        tally_alive(&relay->tally);
    }
}

/*
 * Takes the stream, waiting while somebody else has it. With `once`, waits only
 * for a lease to end: one that is renewed meanwhile has an owner who is alive.
 */
static int
take_stream(struct saga_relay *relay, bool once, bool *taken, struct saga_error *err)
{
    struct publisher *p = &relay->publisher;
    int64_t look_ms = p->cursor.lease_ms / LOOKS;
    int64_t first_end_ms = 0;
    struct lease lease;
    int rc;

    while ((rc = lease_take(&p->cursor, &lease, taken, &p->writer, err)) == 0 && !*taken) {
        int64_t end_ms = clock_mono_ms() + lease.left_ms;

        tally_state(&relay->tally, SAGA_RELAY_STANDBY, 0);
        tally_answered(&relay->tally);
        atomic_store(&relay->tally.streams, lease.streams);
        if (first_end_ms == 0) {
            first_end_ms = end_ms;
            log_event(&relay->log, SAGA_LOG_INFO, "another relay owns the stream; waiting",
                      LOG_INT("stream", p->cursor.stream), LOG_INT("epoch", lease.epoch),
                      LOG_INT("lease_left_ms", lease.left_ms));
        }
        if (once && end_ms > first_end_ms + TOLERANCE_MS)
            return error_set(err, SAGA_ESTATE,
                             "another relay owns stream %d and is alive; it publishes what there "
                             "is",
                             p->cursor.stream);
        if (atomic_load(&relay->stop))
            return 0;
        nap(relay, lease.left_ms < look_ms ? lease.left_ms + 1 : look_ms);
    }
    if (rc == 0) {
        atomic_store(&relay->tally.streams, lease.streams);
        atomic_fetch_add(&relay->tally.acquired, 1);
    }
    return rc;
}

/* Whoever succeeds us, on whatever host, finds the same. */
static int
name_transactions(struct saga_relay *relay, struct saga_error *err)
{
    struct publisher *p = &relay->publisher;
    struct pg_rows rows = PG_ROWS_INIT;
    int rc = 0;

    if (p->cursor.transactional)
        rc = pg_exec(&p->reader, SQL_TRANSACTIONAL_ID, PG_ARGS(PG_INT4(p->cursor.stream)), &rows,
                     err);
    if (rc == 0 && p->cursor.transactional) {
        snprintf(relay->transactional_id, sizeof relay->transactional_id, "%s",
                 pg_text(&rows, 0, 0));
        p->outlet.options.transactional_id = relay->transactional_id;
    }
    pg_rows_clear(&rows);
    return rc;
}

/* Owns the stream once, until stop or until another instance has asked for it. */
static int
turn(struct saga_relay *relay, bool once, struct saga_error *err)
{
    struct publisher *p = &relay->publisher;
    int32_t warnings = p->writer.warnings;
    bool taken;
    int rc = take_stream(relay, once, &taken, err);

    if (rc != 0 || !taken)
        return rc;
    /* A pair that is open already goes on without another begin: taking the
     * stream was the commit that waits. */
    if (p->standby_gate)
        rc = standby_waited(&p->writer, warnings, err);
    if (rc == 0 && p->standby_gate)
        rc = standby_look(&p->writer, err);
    if (rc != 0)
        return rc;
    tally_state(&relay->tally, SAGA_RELAY_OWNER, p->cursor.epoch);
    tally_answered(&relay->tally);
    rc = pg_connect(&p->reader, err);
    if (rc == 0)
        rc = place_same(&p->reader, &p->writer, err);
    if (rc == 0)
        rc = name_transactions(relay, err);
    if (rc == 0)
        rc = publisher_run(p, once, err);
    if (rc == 0)
        rc = cursor_release(&p->cursor, &p->writer, err);
    if (rc == 0 && p->cursor.wanted)
        log_event(&relay->log, SAGA_LOG_INFO, "gave the stream to a relay that has fewer",
                  LOG_INT("stream", p->cursor.stream), LOG_INT("epoch", p->cursor.epoch));
    return rc;
}

/* Who waits needs one connection; the other one, and a producer, are the owner's. */
static int
session(struct saga_relay *relay, bool once, struct saga_error *err)
{
    struct publisher *p = &relay->publisher;
    int rc;

    while ((rc = turn(relay, once, err)) == 0 && !once && !atomic_load(&relay->stop)) {
        publisher_forget(p);
        pg_disconnect(&p->reader);
    }
    return rc;
}

/* Whether a new connection may mend it. */
static bool
worth_retrying(const struct saga_error *error)
{
    if (pg_error_lasts(error))
        return false;
    if (error->code != SAGA_EDB && error->code != SAGA_EUNKNOWN && error->code != SAGA_ETIMEOUT)
        return false;
    return (error->flags & (SAGA_ERR_RETRIABLE | SAGA_ERR_FATAL | SAGA_ERR_UNKNOWN)) != 0;
}

/* Everything in memory is forgotten: PostgreSQL may have crashed and be behind
 * what we remember. */
static void
lost(struct saga_relay *relay, const struct saga_error *error)
{
    struct publisher *p = &relay->publisher;
    int64_t now = clock_mono_ms();

    publisher_forget(p);
    pg_disconnect(&p->reader);
    pg_disconnect(&p->writer);
    atomic_fetch_add(&relay->tally.reconnects, 1);
    if (relay->db_complained_ms != 0 && now - relay->db_complained_ms < COMPLAIN_MS)
        return;
    relay->db_complained_ms = now;
    log_error(&relay->log, SAGA_LOG_WARNING, "trouble with PostgreSQL; connecting again", error);
}

static int
run(struct saga_relay *relay, bool once, struct saga_error *error)
{
    struct publisher *p = &relay->publisher;
    int32_t attempt = 0;

    while (!atomic_load(&relay->stop)) {
        int rc;

        tally_state(&relay->tally, SAGA_RELAY_CONNECTING, 0);
        rc = pg_connect(&p->writer, error);

        if (rc != 0 && once)
            return rc;
        if (rc == 0 && p->cursor.stream == 0)
            schema_warn(&p->writer);
        if (rc == 0) {
            int64_t acquired = atomic_load(&relay->tally.acquired);

            rc = session(relay, once, error);
            if (rc == 0 || !worth_retrying(error))
                return rc;
            if (atomic_load(&relay->tally.acquired) != acquired)
                attempt = 0;
        } else if (!worth_retrying(error)) {
            return rc;
        }
        lost(relay, error);
        nap(relay, backoff_ms(FIRST_RETRY_MS, LONGEST_RETRY_MS, ++attempt, backoff_random()));
    }
    return 0;
}

int
saga_relay_run(struct saga_relay *relay, int mode, struct saga_error *err)
{
    struct saga_error error = { 0 };
    int rc;

    error_clear(err);
    if (relay == NULL || (mode != SAGA_RELAY_UNTIL_STOP && mode != SAGA_RELAY_ONCE))
        return error_set(err, SAGA_EINVAL, "no relay, or an unknown mode");
    /* Who only empties the outbox is asked for nothing. */
    relay->publisher.cursor.instance = mode == SAGA_RELAY_ONCE ? NULL : relay->instance;
    rc = run(relay, mode == SAGA_RELAY_ONCE, &error);
    tally_state(&relay->tally, SAGA_RELAY_CONNECTING, 0); /* owns nothing any more */
    publisher_forget(&relay->publisher);
    pg_disconnect(&relay->publisher.reader);
    pg_disconnect(&relay->publisher.writer);
    if (err != NULL && rc != 0)
        *err = error;
    return rc;
}

/* --- counters ---------------------------------------------------------- */

void
saga_relay_stats(const struct saga_relay *relay, struct saga_relay_stats *stats)
{
    tally_read(&relay->tally, stats);
}
