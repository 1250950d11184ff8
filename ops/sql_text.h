/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding statements in a file: the one that PostgreSQL complains of, and those
 * that do not belong there. Good enough to show them to a person; nothing is
 * executed by what is found here.
 */
#ifndef OPS_SQL_TEXT_H
#define OPS_SQL_TEXT_H

#include <stddef.h>

struct sql_place {
    int line;         /* from 1: of the position, else of the statement */
    const char *text; /* the statement */
    size_t len;
};

/*
 * `position` is the server's, in characters from 1; 0: it gave none, and
 * `index` counts the statements that went well before.
 */
struct sql_place sql_locate(const char *text, int position, unsigned index);

/* The first statement that begins or ends a transaction; `text` NULL: none. */
struct sql_place sql_find_transaction(const char *text);

#endif
