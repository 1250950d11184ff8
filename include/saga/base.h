/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every other header of the library stands on: error codes and details,
 * logging, message ids, small value types, and a transaction's two ends.
 *
 * Conventions of the whole API
 *   - A function that can fail returns 0 or a negative SAGA_E* code. Its last
 *     argument, a `struct saga_error *`, may be NULL; otherwise it is cleared
 *     on entry and filled in on failure. Outputs are untouched on failure.
 *   - The library never prints, never exits, starts no threads unless the
 *     function's name says so, and installs no signal handlers.
 *   - Strings are UTF-8 and end with a NUL. Nothing that is passed in is kept
 *     after return, except where a contract says so.
 *   - No handle survives fork(): create handles in the process that uses them.
 *   - A handle belongs to one thread at a time, except where a contract names
 *     a function as thread-safe or signal-safe.
 *   - Options are structs whose first member is their size, set by an
 *     initialiser macro. Zero means "default". They are only ever appended to.
 */
#ifndef SAGA_BASE_H
#define SAGA_BASE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SAGA_API       __attribute__((visibility("default")))
#define SAGA_MUSTCHECK __attribute__((warn_unused_result))
#else
#define SAGA_API
#define SAGA_MUSTCHECK
#endif

#define SAGA_VERSION_MAJOR 0
#define SAGA_VERSION_MINOR 1
#define SAGA_VERSION_PATCH 0

/* libpq's own typedef, so that no client header is needed here. */
typedef struct pg_conn PGconn;

/* A 128-bit id in network order. All zero means "none". */
struct saga_uuid {
    uint8_t bytes[16];
};

/* Borrowed bytes. `data` NULL is "no value", which differs from `len` 0. */
struct saga_bytes {
    const void *data;
    size_t len;
};

/* A named text. An array of them ends with an element whose name is NULL. */
struct saga_pair {
    const char *name, *value;
};

/*
 * SAGA_PAIRS({ "sku", "lamp" }, { "cents", "1999" }) is such an array, alive
 * until the enclosing block ends. SAGA_TEXTS(a, b) is two arguments: an array
 * of texts and how many there are.
 */
#define SAGA_PAIRS(...) ((const struct saga_pair[]){ __VA_ARGS__, { NULL, NULL } })
#define SAGA_TEXTS(...)                                                                            \
    ((const char *const[]){ __VA_ARGS__ }),                                                        \
        (sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(const char *))

/*
 * Every error code: X(name, number, what it means and what to do about it).
 * saga_error_name() and saga_error_text() are made from this list.
 */
#define SAGA_ERRORS(X)                                                                             \
    X(SAGA_EINVAL, -1, "an argument is wrong; the message says which")                             \
    X(SAGA_ENOMEM, -2, "out of memory")                                                            \
    X(SAGA_ENOTX, -3, "no transaction is open; call saga_begin() first")                           \
    X(SAGA_ELIMIT, -4, "a size limit is exceeded")                                                 \
    X(SAGA_EDB, -5, "PostgreSQL refused or cannot be reached")                                     \
    X(SAGA_EUNKNOWN, -6, "sent, but no answer came: it may have happened or not")                  \
    X(SAGA_EFENCED, -7, "somebody else has taken over")                                            \
    X(SAGA_ESCHEMA, -8, "the schema is missing or too old; run sagactl migrate up")                \
    X(SAGA_ENOTFOUND, -9, "no such thing")                                                         \
    X(SAGA_ESTATE, -10, "not possible in the present state")                                       \
    X(SAGA_EMISMATCH, -11, "the same name or key was used before with other contents")             \
    X(SAGA_EBROKER, -12, "Kafka refused or cannot be reached")                                     \
    X(SAGA_ETIMEOUT, -13, "the deadline passed")

#define SAGA_ERROR_ENUM(name, number, text) name = number,
enum { SAGA_OK = 0, SAGA_ERRORS(SAGA_ERROR_ENUM) };
#undef SAGA_ERROR_ENUM

/* The answers to a caller's only questions about an error: `flags`. */
enum {
    SAGA_ERR_RETRIABLE = 1,  /* the same call may succeed later */
    SAGA_ERR_FATAL = 2,      /* the handle or connection is of no further use */
    SAGA_ERR_TX_ABORTED = 4, /* roll the transaction back first */
    SAGA_ERR_UNKNOWN = 8     /* outcome unknown: ask before doing it again */
};

/* Details of a failure, owned by the caller; nothing in it is allocated. */
struct saga_error {
    int32_t code;      /* SAGA_E*, or 0 */
    int32_t native;    /* errno, or the client library's own code, or 0 */
    uint32_t flags;    /* SAGA_ERR_* */
    uint32_t index;    /* which of n inputs, from 0 */
    char sqlstate[8];  /* five characters, or empty where libpq has none */
    char message[256]; /* one sentence, and where we know it what to do; UTF-8, one line */
    char reserved[40];
};

/* "SAGA_EDB" and the sentence from the list above. Never NULL; any thread. */
SAGA_API const char *saga_error_name(int code);
SAGA_API const char *saga_error_text(int code);

enum { SAGA_LOG_DEBUG = 0, SAGA_LOG_INFO = 1, SAGA_LOG_WARNING = 2, SAGA_LOG_ERROR = 3 };

/*
 * Receives one event: `message` is a constant sentence, `fields` what varies.
 * Neither holds payloads, values of sagas or connection strings. Called on
 * the thread that is inside the library; must not call back into the handle.
 */
typedef void saga_log_fn(void *user, int32_t level, const char *message,
                         const struct saga_pair *fields);

/* Where a handle logs to. Zero: nowhere. */
struct saga_log {
    saga_log_fn *write;
    void *user;
    int32_t level; /* events below it are not made */
    int32_t reserved;
};

/*
 * Makes a version-7 id (RFC 9562) from the wall clock and getrandom(2). Ids of
 * one process ascend within a millisecond only by chance. Any thread.
 *
 * Returns 0, or SAGA_EINVAL if the system has no random numbers to give.
 */
SAGA_API SAGA_MUSTCHECK int saga_uuid_make(struct saga_uuid *id, struct saga_error *err);

/* Writes the usual 36 characters and a NUL. */
SAGA_API void saga_uuid_text(const struct saga_uuid *id, char text[37]);

/* Reads them back; any case. Returns 0, or SAGA_EINVAL. */
SAGA_API SAGA_MUSTCHECK int saga_uuid_parse(struct saga_uuid *id, const char *text,
                                            struct saga_error *err);

/*
 * Begins a transaction (READ COMMITTED, READ WRITE) on `conn`. One round trip;
 * blocks until the server answers.
 *
 * Returns 0, or
 *   SAGA_EINVAL  `conn` is NULL or in pipeline mode
 *   SAGA_ESTATE  a transaction is open already
 *   SAGA_EDB     the server refused, or the connection is lost (fatal)
 */
SAGA_API SAGA_MUSTCHECK int saga_begin(PGconn *conn, struct saga_error *err);

/*
 * Commits the transaction that is open on `conn` and makes sure that it really
 * did: PostgreSQL answers COMMIT with success also when it rolled back a
 * failed transaction, or when there was none. Blocks until the server answers.
 *
 * After any return but 0 the transaction is over, except for SAGA_EINVAL.
 *
 * Returns 0, or
 *   SAGA_EINVAL    `conn` is NULL or in pipeline mode
 *   SAGA_ENOTX     no transaction was open: whatever ran before was not in one
 *   SAGA_EDB       it was rolled back; `sqlstate` says why, where known
 *   SAGA_EUNKNOWN  the connection was lost after COMMIT was sent: the
 *                  transaction may be committed or not. Reconnect and look
 */
SAGA_API SAGA_MUSTCHECK int saga_commit(PGconn *conn, struct saga_error *err);

/*
 * Rolls back what is open on `conn`, if anything. Harmless otherwise. A lost
 * connection counts as rolled back: the server does it.
 */
SAGA_API void saga_rollback(PGconn *conn);

#ifdef __cplusplus
}
#endif
#endif
