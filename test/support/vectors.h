/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vectors of test/vectors, and what stands in them: texts, bytes, headers, whole
 * records.
 *
 * Fails the test where a file is not as its README says. Knows nothing of what a vector
 * means.
 */
#ifndef TEST_VECTORS_H
#define TEST_VECTORS_H

#include "idempotency/consumer_record.h"

#include <jansson.h>

/* vectors("hash.json"): the file; freed when the test ends. */
json_t *vectors_of(const char *file);

/* EACH_VECTOR(vector, "hash.json") { ... } */
#define EACH_VECTOR(vector, file)                                                                  \
    for (json_t *vector##_all = json_object_get(vectors_of(file), "vectors"), *vector = NULL;      \
         vector##_all != NULL; vector##_all = NULL)                                                \
        for (size_t vector##_i = 0; (vector = json_array_get(vector##_all, vector##_i)) != NULL;   \
             vector##_i++)

/* A member that has to be there; NULL: it is null. */
const char *vector_text(const json_t *vector, const char *member);
int64_t vector_int(const json_t *vector, const char *member);

/* Whether a member is there and not null. */
bool vector_has(const json_t *vector, const char *member);

/* Its name, or all of it: for messages. */
const char *vector_name(const json_t *vector);

/* A member that is a text, {"hex": "..."}, or null. */
struct saga_bytes vector_bytes(const json_t *vector, const char *member);

/* An array of [name, value]: those with texts, ended by a NULL name. */
const struct saga_pair *vector_pairs(const json_t *vector, const char *member);

/* Without a broker: messages come back unsent. */
rd_kafka_t *given_idle_producer(void);

/*
 * A record as a consumer reads it from Kafka, with the headers of such an array, or of an
 * object. Lives until the test ends.
 */
struct incoming vector_record(const json_t *headers, struct saga_bytes key,
                              struct saga_bytes value);

#endif
