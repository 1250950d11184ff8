/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Settings in INI form: lines of "name = value" below "[section]".
 *
 * Owns the choices among what libinih offers. Nothing is cut: a value is
 * everything from behind the first = to the end of its line, without the blanks
 * around it, however long; a comment is a line of its own, so that # and ; may
 * stand in a password. Knows no setting.
 */
#ifndef OUTBOX_DAEMON_INI_H
#define OUTBOX_DAEMON_INI_H

#include <stdbool.h>
#include <stddef.h>

/* A [section]'s own line comes with an empty name. False: stop; the line counts as
 * wrong, and who answers has said why. */
typedef bool ini_fn(void *user, const char *section, const char *name, const char *value, int line);

/*
 * Calls `each` for each section and each setting in the `len` bytes of `text`. One thread at a
 * time: libinih's choices are the process's.
 *
 * Returns 0, or the number of the first line that is wrong, with `why` set to a
 * sentence, or to NULL if `each` has refused it.
 */
int ini_read(const char *text, size_t len, ini_fn *each, void *user, const char **why);

#endif
