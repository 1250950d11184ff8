/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The set of parked pairs, and storing rows.
 */
#include "outbox/parked.h"

#include "outbox/sql.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_BUCKETS = 64, FIRST_ROWS = 64, LOGGED_MAX = 20 };

/* --- the set of pairs -------------------------------------------------- */

struct parked_pair {
    struct parked_pair *next;
    uint64_t hash;
    size_t topic_len, key_len;
    char text[]; /* topic, NUL, key, NUL */
};

/* FNV-1a; whoever chooses keys so that they collide slows down himself. */
static uint64_t
hash_of(const char *topic, struct saga_bytes key)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    const unsigned char *at = key.data;

    for (; *topic != '\0'; topic++)
        hash = (hash ^ (unsigned char)*topic) * UINT64_C(1099511628211);
    hash *= UINT64_C(1099511628211);
    for (size_t i = 0; i < key.len; i++)
        hash = (hash ^ at[i]) * UINT64_C(1099511628211);
    return hash;
}

/* Where the pair hangs, or the end of its bucket. Only if there are buckets. */
static struct parked_pair **
place_of(const struct parked *parked, const char *topic, struct saga_bytes key)
{
    uint64_t hash = hash_of(topic, key);
    struct parked_pair **at = &parked->buckets[hash & (parked->n_buckets - 1)];

    for (; *at != NULL; at = &(*at)->next) {
        const struct parked_pair *pair = *at;

        if (pair->hash == hash && pair->key_len == key.len && strcmp(pair->text, topic) == 0 &&
            memcmp(pair->text + pair->topic_len + 1, key.data, key.len) == 0)
            break;
    }
    return at;
}

static bool
grow(struct parked *parked)
{
    size_t n = parked->n_buckets > 0 ? 2 * parked->n_buckets : FIRST_BUCKETS;
    struct parked_pair **buckets = calloc(n, sizeof(struct parked_pair *)), *pair;

    if (buckets == NULL)
        return false;
    for (size_t i = 0; i < parked->n_buckets; i++)
        while ((pair = parked->buckets[i]) != NULL) {
            parked->buckets[i] = pair->next;
            pair->next = buckets[pair->hash & (n - 1)];
            buckets[pair->hash & (n - 1)] = pair;
        }
    free(parked->buckets);
    parked->buckets = buckets;
    parked->n_buckets = n;
    return true;
}

/* Adds a pair that is not there. NULL: out of memory. */
static struct parked_pair *
add_pair(struct parked *parked, const char *topic, struct saga_bytes key)
{
    size_t topic_len = strlen(topic);
    struct parked_pair *pair, **bucket;

    if (parked->n_pairs >= parked->n_buckets && !grow(parked))
        return NULL;
    pair = malloc(sizeof *pair + topic_len + key.len + 2);
    if (pair == NULL)
        return NULL;
    *pair = (struct parked_pair){ .hash = hash_of(topic, key),
                                  .topic_len = topic_len,
                                  .key_len = key.len };
    memcpy(pair->text, topic, topic_len + 1);
    memcpy(pair->text + topic_len + 1, key.data, key.len);
    pair->text[topic_len + 1 + key.len] = '\0';
    bucket = &parked->buckets[pair->hash & (parked->n_buckets - 1)];
    pair->next = *bucket;
    *bucket = pair;
    parked->n_pairs++;
    return pair;
}

bool
parked_any(const struct parked *parked)
{
    return parked->n_pairs > 0 || parked->keyless;
}

bool
parked_holds(const struct parked *parked, const struct row_fields *fields)
{
    return parked->n_pairs > 0 && fields->key.data != NULL &&
           *place_of(parked, fields->topic, fields->key) != NULL;
}

void
parked_release(struct parked *parked, const char *topic, struct saga_bytes key)
{
    struct parked_pair **at = parked->n_pairs > 0 ? place_of(parked, topic, key) : NULL;
    struct parked_pair *pair = at != NULL ? *at : NULL;

    if (pair == NULL)
        return;
    *at = pair->next;
    free(pair);
    parked->n_pairs--;
}

void
parked_clear(struct parked *parked)
{
    struct parked_pair *pair;

    parked_forget_rows(parked);
    for (size_t i = 0; i < parked->n_buckets; i++)
        while ((pair = parked->buckets[i]) != NULL) {
            parked->buckets[i] = pair->next;
            free(pair);
        }
    free(parked->buckets);
    free(parked->rows);
    *parked = (struct parked){ 0 };
}

int
parked_load(struct parked *parked, const struct cursor *cursor, struct pg *pg,
            struct saga_error *err)
{
    struct pg_rows rows = PG_ROWS_INIT, keyless = PG_ROWS_INIT;
    const struct pg_arg of_stream[] = { PG_INT4(cursor->stream), PG_INT4(cursor->streams) };
    const struct pg_statement both[] = {
        { .sql = SQL_PARKED_KEYS, .args = of_stream, .n_args = 2, .rows = &rows },
        { .sql = SQL_PARKED_KEYLESS, .args = of_stream, .n_args = 2, .rows = &keyless },
    };
    int rc;

    parked_clear(parked);
    rc = pg_batch(pg, both, 2, err);
    if (rc == 0)
        parked->keyless = pg_bool(&keyless, 0, 0);
    for (int i = 0; rc == 0 && i < rows.n; i++)
        if (add_pair(parked, pg_text(&rows, i, 0), pg_bytes(&rows, i, 1)) == NULL)
            rc = error_set(err, SAGA_ENOMEM, "out of memory");
    pg_rows_clear(&rows);
    pg_rows_clear(&keyless);
    return rc;
}

/* --- rows -------------------------------------------------------------- */

static bool
room_for_row(struct parked *parked)
{
    size_t room = parked->room > 0 ? 2 * parked->room : FIRST_ROWS;
    struct parked_row *rows;

    if (parked->n < parked->room)
        return true;
    rows = realloc(parked->rows, room * sizeof *rows);
    if (rows == NULL)
        return false;
    parked->rows = rows;
    parked->room = room;
    return true;
}

static void
row_clear(struct parked_row *row)
{
    free(row->why);
    free(row->keyless);
}

bool
parked_add(struct parked *parked, const struct row_fields *fields, int64_t seq, const char *why)
{
    struct parked_row row = { .seq = seq, .id = fields->id };
    bool opens = fields->key.data != NULL && !parked_holds(parked, fields);

    if (!room_for_row(parked))
        return false;
    if (*why != '\0')
        row.why = strdup(why);
    if (fields->key.data == NULL)
        row.keyless = strdup(fields->topic);
    if (opens)
        row.opened = add_pair(parked, fields->topic, fields->key);
    if ((*why != '\0' && row.why == NULL) || (fields->key.data == NULL && row.keyless == NULL) ||
        (opens && row.opened == NULL)) {
        row_clear(&row);
        return false;
    }
    parked->rows[parked->n++] = row;
    return true;
}

void
parked_settle(struct parked *parked, size_t n)
{
    parked->settled += n;
}

void
parked_forget_rows(struct parked *parked)
{
    for (size_t i = 0; i < parked->n; i++) {
        const struct parked_pair *pair = parked->rows[i].opened;

        if (pair != NULL)
            parked_release(parked, pair->text,
                           (struct saga_bytes){ pair->text + pair->topic_len + 1, pair->key_len });
        row_clear(&parked->rows[i]);
    }
    parked->n = parked->settled = 0;
}

/* --- storing ----------------------------------------------------------- */

/* Never the key or the payload: these may be anybody's secrets. */
static void
log_row(const struct parked_row *row, const struct saga_log *log)
{
    char id[37];

    saga_uuid_text(&row->id, id);
    if (row->opened != NULL)
        log_event(log, SAGA_LOG_WARNING,
                  "parked a key: its messages wait in outbox.parked; mend the cause, then "
                  "outbox.retry(topic, key, reason), or outbox.discard(message_id, reason)",
                  LOG_TEXT("error", row->why), LOG_TEXT("topic", row->opened->text),
                  LOG_INT("key_bytes", (int64_t)row->opened->key_len), LOG_TEXT("message_id", id));
    else
        log_event(log, SAGA_LOG_WARNING,
                  "parked a message without a key in outbox.parked; mend the cause, then "
                  "outbox.retry(topic, NULL, reason), or outbox.discard(message_id, reason)",
                  LOG_TEXT("error", row->why), LOG_TEXT("topic", row->keyless),
                  LOG_TEXT("message_id", id));
}

/* What has its turn is stored. */
static void
rows_stored(struct parked *parked, const struct saga_log *log)
{
    int logged = 0, more = 0;

    for (size_t i = 0; i < parked->settled; i++) {
        struct parked_row *row = &parked->rows[i];

        parked->keyless = parked->keyless || row->keyless != NULL;
        if (row->opened != NULL || row->keyless != NULL) {
            if (logged++ < LOGGED_MAX)
                log_row(row, log);
            else
                more++;
        }
        row_clear(row);
    }
    parked->n -= parked->settled;
    memmove(parked->rows, parked->rows + parked->settled, parked->n * sizeof *parked->rows);
    parked->settled = 0;
    if (more > 0)
        log_event(log, SAGA_LOG_WARNING, "parked more at the same time; see outbox.parked",
                  LOG_INT("more", more));
}

int
parked_store(struct parked *parked, struct cursor *cursor, struct pg *pg, int64_t seq,
             struct saga_error *err)
{
    struct pg_array seqs, reasons;
    int rc;

    pg_array_init(&seqs, PG_OID_INT8_ARRAY);
    pg_array_init(&reasons, PG_OID_TEXT_ARRAY);
    for (size_t i = 0; i < parked->settled; i++) {
        pg_array_add_int8(&seqs, parked->rows[i].seq);
        pg_array_add_text(&reasons, parked->rows[i].why);
    }
    rc = cursor_park(cursor, pg, seq, &seqs, &reasons, err);
    if (rc == 0)
        rows_stored(parked, pg->log);
    pg_array_clear(&seqs);
    pg_array_clear(&reasons);
    return rc;
}
