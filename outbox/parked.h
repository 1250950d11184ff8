/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is parked: the pairs of topic and key whose messages are not published,
 * and the rows on their way into the table outbox.parked.
 *
 * The owner of a stream is the only one who parks and who lets go, so it keeps
 * the pairs in memory. A row that it parks is in two states: remembered, until
 * the cursor passes it, and stored, in the same statement as the cursor.
 */
#ifndef OUTBOX_PARKED_H
#define OUTBOX_PARKED_H

#include "outbox/cursor.h"
#include "outbox/source.h"

struct parked_pair;

struct parked_row {
    int64_t seq;
    char *why;                  /* NULL: it waits behind another one of its pair */
    struct parked_pair *opened; /* the pair that is parked because of this row, or NULL */
    char *keyless;              /* the topic of a row without a key, or NULL */
    struct saga_uuid id;
};

/* Zero is valid: nothing is parked. */
struct parked {
    struct parked_pair **buckets;
    size_t n_buckets, n_pairs;
    bool keyless; /* there may be rows without a key in the table */

    struct parked_row *rows; /* not stored yet, in the window's order */
    size_t n, room, settled; /* so many of them have their turn */

    int64_t looked_ms; /* when requests were last looked for */
    int64_t request;   /* the last one that was begun */
};

void parked_clear(struct parked *parked);

/* What the table says, to whoever has just become the stream's owner. */
int parked_load(struct parked *parked, const struct cursor *cursor, struct pg *pg,
                struct saga_error *err);

bool parked_any(const struct parked *parked);

/* Whether the row's pair is parked. */
bool parked_holds(const struct parked *parked, const struct row_fields *fields);

/* Remembers a row, and from now on its pair; empty `why`: it waits behind
 * another one. False: out of memory. */
bool parked_add(struct parked *parked, const struct row_fields *fields, int64_t seq,
                const char *why);

/* The next `n` rows have had their turn: the cursor may pass them. */
void parked_settle(struct parked *parked, size_t n);

/* Moves the cursor to `seq` and stores the rows that it passes; says in the log
 * which pairs are parked now. */
int parked_store(struct parked *parked, struct cursor *cursor, struct pg *pg, int64_t seq,
                 struct saga_error *err);

/* Forgets what is not stored: it will be read again. */
void parked_forget_rows(struct parked *parked);

/* The pair flows again. */
void parked_release(struct parked *parked, const char *topic, struct saga_bytes key);

#endif
