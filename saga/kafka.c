/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands and replies on a consumer's loop: which topic goes to which
 * handler, and what becomes of a record that none can handle.
 *
 * Owns nothing else: the loop owns the transaction, the inbox and the offset;
 * command.c and reply.c know no Kafka.
 */
#include "base/error.h"
#include "idempotency/consumer.h"
#include "saga/definition.h"

#include <stdlib.h>

/* One route's table, read once. */
struct table {
    const struct saga_definition *definition;
    const char *consumer; /* the group */
    void *user;
};

/* Malformed, for a step or a saga that is not here: it will never work, and
 * those behind it must not wait for it. */
static int
put_aside(int rc)
{
    return rc == SAGA_EINVAL || rc == SAGA_ENOTFOUND ? ROUTE_QUARANTINE : rc;
}

static int
on_command(PGconn *tx, const struct saga_record *record, int32_t verdict, void *user,
           struct saga_error *err)
{
    const struct table *table = user;
    int rc = saga_command_handle(tx, table->consumer, table->definition, record,
                                 verdict == SAGA_INBOX_DUPLICATE, table->user, err);

    return rc == SAGA_RETRY ? SAGA_HANDLER_RETRY : put_aside(rc);
}

static int
on_reply(PGconn *tx, const struct saga_record *record, int32_t verdict, void *user,
         struct saga_error *err)
{
    const struct table *table = user;

    (void)verdict; /* duplicates stop at the inbox */
    return put_aside(saga_reply_handle(tx, table->definition, record, err));
}

static int
add_route(struct saga_consumer *consumer, const struct consumer_route *route,
          const struct saga_definition *definition, void *user, struct saga_error *err)
{
    struct consumer_route ours = *route;
    struct table *table = malloc(sizeof *table);
    int rc;

    if (table == NULL)
        return error_set(err, SAGA_ENOMEM, "out of memory");
    *table = (struct table){ definition, consumer_group(consumer), user };
    ours.user = table;
    ours.release = free;
    rc = consumer_route(consumer, &ours, err);
    if (rc != 0)
        free(table);
    return rc;
}

int
saga_consumer_participate(struct saga_consumer *consumer, const char *command_topic,
                          const struct saga_definition *commands, void *user,
                          struct saga_error *err)
{
    /* A command is answered whenever it comes: the reply to the first one may
     * have been lost (traps I18, I30). */
    const struct consumer_route route = { .topic = command_topic,
                                          .answers = true,
                                          .handle = on_command };
    struct definition read;
    int rc;

    if (consumer == NULL)
        return error_set(err, SAGA_EINVAL, "`consumer` is NULL");
    rc = definition_read(&read, commands, DEFINITION_OF_COMMANDS, err);
    return rc != 0 ? rc : add_route(consumer, &route, commands, user, err);
}

int
saga_consumer_replies(struct saga_consumer *consumer, const struct saga_definition *definition,
                      struct saga_error *err)
{
    struct definition read;
    struct consumer_route route = { .handle = on_reply };
    int rc;

    if (consumer == NULL)
        return error_set(err, SAGA_EINVAL, "`consumer` is NULL");
    rc = definition_read(&read, definition, DEFINITION_OF_SAGA, err);
    if (rc != 0)
        return rc;
    route.topic = read.reply_topic;
    return add_route(consumer, &route, definition, NULL, err);
}
