/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The outside checker's parts: gather the facts into temporary tables, then ask
 * each invariant of them as one query.
 *
 * Knows only what an auditor could see: the four databases, the topics, and the
 * clients' log of what they intended. It uses nothing of the library, so that
 * a fault there cannot hide itself here.
 */
#ifndef TEST_CHECK_H
#define TEST_CHECK_H

#include <libpq-fe.h>
#include <stdbool.h>

enum { SERVICE_ORDER, SERVICE_INVENTORY, SERVICE_PAYMENT, SERVICE_SHIPPING, N_SERVICES };
enum { INTENTS_MAX = 16 };

/* Where the facts are. */
struct places {
    const char *databases[N_SERVICES];
    const char *intents[INTENTS_MAX];
    int n_intents;
    const char *brokers; /* NULL: the topics are not looked at */
};

/* Ends the program with exit code 2: nothing can be said. */
void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* A session with every fact in temporary tables; never NULL. */
PGconn *gather(const struct places *places);

/* One row into the COPY that is open on `scratch`; and the COPY's two ends. */
void copy_begin(PGconn *scratch, const char *into);
void copy_bytes(PGconn *scratch, const char *bytes, size_t len);
void copy_end(PGconn *scratch);

/* Reads each topic from its beginning to its present end into `record`. */
void gather_records(PGconn *scratch, const char *brokers);

/* Asks every invariant; the names and rows of the violated ones are printed if
 * `print`. Returns how many are violated. */
int check_invariants(PGconn *scratch, bool with_topics, bool print);

/* Prints how many orders ended how, how long they took, and so on. */
void print_figures(PGconn *scratch, bool with_topics);

#endif
