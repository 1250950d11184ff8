/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every SQL statement of the outbox, each with its reason. The tables are in
 * migrations/0010_outbox.up.sql.
 */
#ifndef OUTBOX_SQL_H
#define OUTBOX_SQL_H

/* --- writing ----------------------------------------------------------- */

/*
 * Many messages, one statement. The functions in FROM are scanned in step and
 * from the front, and seq is drawn as the rows come: the arrays' order is the
 * order of publishing. Arrays cannot hold arrays of different lengths, so each
 * message's headers travel as the text of one.
 */
#define SQL_MESSAGES_INSERT                                                                        \
    "INSERT INTO outbox.message (message_id, topic, key, headers, payload)"                        \
    " SELECT m.id, m.topic, m.key, m.headers::pg_catalog.text[], m.payload"                        \
    "   FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.uuid[]),"                                 \
    "                   pg_catalog.unnest($2::pg_catalog.text[]),"                                 \
    "                   pg_catalog.unnest($3::pg_catalog.text[]),"                                 \
    "                   pg_catalog.unnest($4::pg_catalog.text[]),"                                 \
    "                   pg_catalog.unnest($5::pg_catalog.bytea[]))"                                \
    "        AS m (id, topic, key, headers, payload)"

/* The same in a procedure that finds out whether a transaction is open, for
 * callers in pipeline mode, where only the server knows. */
#define SQL_MESSAGES_INSERT_CHECKED "CALL outbox.enqueue_all($1, $2, $3, $4, $5)"

#endif
