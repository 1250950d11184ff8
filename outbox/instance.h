/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The name of this process among those that share an outbox's streams.
 *
 * Says who they are to a person: host, process id, and something random, since
 * containers are alike in both. Decides nothing.
 */
#ifndef OUTBOX_INSTANCE_H
#define OUTBOX_INSTANCE_H

enum { INSTANCE_BYTES = 200 };

/* The same in all threads, and as long as the process lives. */
const char *instance_name(void);

#endif
