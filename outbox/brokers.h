/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A list of brokers as a text: whether librdkafka could make something of it.
 * It makes something of nearly everything itself, and then tries for ever.
 */
#ifndef OUTBOX_BROKERS_H
#define OUTBOX_BROKERS_H

#include <stdbool.h>

/* HOST, HOST:PORT or [ADDRESS]:PORT, separated by commas, each perhaps behind
 * PLAINTEXT://, SSL://, SASL_PLAINTEXT:// or SASL_SSL://; at least one. */
bool brokers_valid(const char *list);

/* What to say where it is not; no value is in it. */
extern const char brokers_allowed[];

#endif
