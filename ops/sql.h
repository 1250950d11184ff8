/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every statement of sagactl. A query that is shown is written once, as a table
 * of named columns; output.c makes text or JSON of it.
 */
#ifndef OPS_SQL_H
#define OPS_SQL_H

/* --- migrate -------------------------------------------------------------- */

#define SQL_ENCODING "SELECT pg_catalog.current_setting('server_encoding')"

/* From the catalogue: to_regclass() would need rights on the schema. */
#define SQL_HAS_BOOK                                                                               \
    "SELECT EXISTS (SELECT FROM pg_catalog.pg_class c"                                             \
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"                                    \
    " WHERE n.nspname = 'saga' AND c.relname = 'migration')"

/* The number means nothing; it only has to be the same in every version. */
#define SQL_LOCK_NUMBER "7093614458270127"
#define SQL_TRY_LOCK    "SELECT pg_catalog.pg_try_advisory_xact_lock(" SQL_LOCK_NUMBER ")"
#define SQL_LOCK                                                                                   \
    "SELECT pg_catalog.set_config('lock_timeout', '0', true),"                                     \
    " pg_catalog.pg_advisory_xact_lock(" SQL_LOCK_NUMBER ")"

/* What the login's or the database's defaults must not change. */
#define SQL_SETTINGS                                                                               \
    "SELECT pg_catalog.set_config('lock_timeout', $1, true),"                                      \
    " pg_catalog.set_config('statement_timeout', '0', true),"                                      \
    " pg_catalog.set_config('idle_in_transaction_session_timeout', '0', true),"                    \
    " pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true),"                          \
    " pg_catalog.set_config('check_function_bodies', 'on', true),"                                 \
    " pg_catalog.set_config('client_min_messages', 'warning', true)"

#define SQL_BECOME_OWNER                                                                           \
    "SELECT pg_catalog.set_config('role', r.rolname, true) FROM pg_catalog.pg_namespace n"         \
    " JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner WHERE n.nspname = 'saga'"

/* PostgreSQL computes the checksum, so that no library is needed for it. */
#define SQL_SHA256(text)                                                                           \
    "pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(" text ", 'UTF8')), 'hex')"

#define SQL_FULL_JOIN(book)                                                                        \
    " FROM ROWS FROM (pg_catalog.unnest($1::int4[]), pg_catalog.unnest($2::text[]),"               \
    " pg_catalog.unnest($3::text[])) AS f (number, name, up)"                                      \
    " FULL JOIN " book " AS m ON m.number = f.number"
#define SQL_NO_BOOK                                                                                \
    "(SELECT NULL::int4 AS number, NULL::text AS name, NULL::text AS sha256,"                      \
    " NULL::int8 AS position, NULL::timestamptz AS applied_at, NULL::text AS applied_by"           \
    " WHERE false)"

#define SQL_CHANGED "coalesce(m.sha256 <> " SQL_SHA256("f.up") ", false)"
#define SQL_STATES_FROM(book)                                                                      \
    "SELECT coalesce(f.number, m.number), coalesce(m.name, f.name), f.number IS NOT NULL,"         \
    " m.number IS NOT NULL, " SQL_CHANGED ", m.position" SQL_FULL_JOIN(book) " ORDER BY 1"
#define SQL_STATES              SQL_STATES_FROM("saga.migration")
#define SQL_STATES_WITHOUT_BOOK SQL_STATES_FROM(SQL_NO_BOOK)

#define SQL_STATUS_FROM(book)                                                                      \
    "SELECT coalesce(m.name, f.name) AS migration,"                                                \
    " CASE WHEN m.number IS NULL THEN 'pending'"                                                   \
    "      WHEN f.number IS NULL THEN 'applied, unknown to this program'"                          \
    "      WHEN " SQL_CHANGED " THEN 'applied, changed since'"                                     \
    "      ELSE 'applied' END AS state,"                                                           \
    " m.applied_at, m.applied_by" SQL_FULL_JOIN(book) " ORDER BY coalesce(f.number, m.number)"
#define SQL_STATUS              SQL_STATUS_FROM("saga.migration")
#define SQL_STATUS_WITHOUT_BOOK SQL_STATUS_FROM(SQL_NO_BOOK)

#define SQL_BOOK_ADD                                                                               \
    "INSERT INTO saga.migration (number, name, sha256) VALUES ($1, $2, " SQL_SHA256("$3") ")"
#define SQL_BOOK_REMOVE "DELETE FROM saga.migration WHERE number = $1"

#define SQL_DONE_JSON                                                                              \
    "SELECT pg_catalog.jsonb_build_object($1::text, pg_catalog.to_jsonb($2::text[]))::text"

#endif
