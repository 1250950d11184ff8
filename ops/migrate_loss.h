/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What undoing migrations would lose that nobody can get back: sagas that have
 * not ended, messages that nobody has published or applied yet. Looks only;
 * whether it is done all the same is migrate.c's.
 */
#ifndef OPS_MIGRATE_LOSS_H
#define OPS_MIGRATE_LOSS_H

#include "base/pg.h"

/*
 * `scripts` are the texts of the `n` migrations that are to be undone; a NULL
 * among them is passed over. `loss` receives a list for people, "sagas that
 * have not ended (3), ...", cut to `size`; "" if nothing would be lost.
 */
int migrate_loss(char *loss, size_t size, struct pg *pg, const char *const *scripts, size_t n,
                 struct saga_error *err);

#endif
