/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The surroundings of every service of the shop. No business here.
 */
#include "service.h"

#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* One line an event: time, level, sentence, fields. */
static void
log_line(void *user, int32_t level, const char *message, const struct saga_pair *fields)
{
    static const char *const levels[] = { "debug", "info", "warning", "error" };
    char line[1024], now[32];
    struct timespec clock;
    size_t used;
    struct tm utc;

    clock_gettime(CLOCK_REALTIME, &clock);
    strftime(now, sizeof now, "%H:%M:%S", gmtime_r(&clock.tv_sec, &utc));
    used = (size_t)snprintf(line, sizeof line, "%s.%03ld %s %s: %s", now, clock.tv_nsec / 1000000,
                            (const char *)user, levels[level & 3], message);
    for (; fields != NULL && fields->name != NULL && used < sizeof line; fields++)
        used += (size_t)snprintf(line + used, sizeof line - used, " %s=%s", fields->name,
                                 fields->value);
    fprintf(stderr, "%s\n", line);
}

static void
add_property(struct service *service, char *setting)
{
    char *value = strchr(setting, '=');
    size_t n = 0;

    while (service->properties[n].name != NULL)
        n++;
    if (value == NULL || n == SERVICE_PROPERTIES_MAX) {
        fprintf(stderr, "%s: --kafka wants NAME=VALUE\n", service->name);
        exit(2);
    }
    *value = '\0';
    service->properties[n] = (struct saga_pair){ setting, value + 1 };
}

void
service_init(struct service *service, const char *name, int argc, char **argv)
{
    static const struct option options[] = {
        { "database", required_argument, NULL, 'd' },
        { "brokers", required_argument, NULL, 'b' },
        { "redis", required_argument, NULL, 'r' },
        { "prefix", required_argument, NULL, 'p' },
        { "kafka", required_argument, NULL, 'k' },
        { "workers", required_argument, NULL, 'w' },
        { "reply-ms", required_argument, NULL, 'm' },
        { "until-idle", no_argument, NULL, 'u' },
        { "place", required_argument, NULL, 'n' },
        { "per-second", required_argument, NULL, 's' },
        { "intents", required_argument, NULL, 'i' },
        { 0 },
    };
    int option;

    *service = (struct service){ .name = name, .prefix = "", .workers = 2 };
    service->log = (struct saga_log){ log_line, (void *)name, SAGA_LOG_INFO, 0 };
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'd':
            service->database = optarg;
            break;
        case 'b':
            service->brokers = optarg;
            break;
        case 'r':
            service->redis = optarg;
            break;
        case 'p':
            service->prefix = optarg;
            break;
        case 'k':
            add_property(service, optarg);
            break;
        case 'w':
            service->workers = atoi(optarg);
            break;
        case 'm':
            service->reply_ms = atoi(optarg);
            break;
        case 'u':
            service->until_idle = true;
            break;
        case 'n':
            service->place = atoi(optarg);
            break;
        case 's':
            service->per_second = atoi(optarg);
            break;
        case 'i':
            service->intents = optarg;
            break;
        default:
            exit(2);
        }
    }
}

const char *
service_topic(const struct service *service, const char *who, const char *what)
{
    char *topic;

    if (asprintf(&topic, "%s%s.%s", service->prefix, who, what) < 0)
        abort();
    return topic;
}

int
service_consumer(const struct service *service, struct saga_consumer **consumer,
                 struct saga_error *err)
{
    char group[128];

    snprintf(group, sizeof group, "%s%s", service->prefix, service->name);
    return saga_consumer_new(consumer,
                             &(struct saga_consumer_options){
                                 SAGA_CONSUMER_OPTIONS,
                                 .group = group,
                                 .brokers = service->brokers,
                                 .conninfo = service->database,
                                 .redis = service->redis,
                                 .properties = service->properties,
                                 .log = service->log,
                             },
                             err);
}

void
service_on_stop(void (*handler)(int))
{
    struct sigaction action = { .sa_handler = handler };

    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
}

void
service_consumer_end(struct saga_consumer *consumer)
{
    struct saga_consumer_stats stats = { SAGA_CONSUMER_STATS };

    if (consumer == NULL)
        return;
    saga_consumer_stats(consumer, &stats);
    printf("applied %lld suppressed %lld quarantined %lld\n", (long long)stats.applied,
           (long long)(stats.duplicates_by_mark + stats.duplicates_by_inbox),
           (long long)stats.quarantined);
    fflush(stdout);
    saga_consumer_free(consumer);
}

int
service_failed(const struct service *service, const char *message, const struct saga_error *err)
{
    fprintf(stderr, "%s: %s: %s\n", service->name, message, err->message);
    return 1;
}

static struct saga_consumer *running;

static void
stop_running(int signal_number)
{
    (void)signal_number;
    saga_consumer_stop(running);
}

int
service_participate(int argc, char **argv, const struct saga_definition *commands,
                    void *(*beside)(void *service))
{
    struct service service;
    struct saga_error err;
    pthread_t thread;
    int rc = 0;

    service_init(&service, commands->name, argc, argv);
    if (service_consumer(&service, &running, &err) != 0)
        return service_failed(&service, "cannot be set up", &err);
    service_on_stop(stop_running);
    if (beside != NULL && pthread_create(&thread, NULL, beside, &service) != 0)
        abort();
    if (saga_consumer_participate(running, service_topic(&service, service.name, "commands"),
                                  commands, NULL, &err) != 0 ||
        saga_consumer_run(running,
                          service.until_idle ? SAGA_CONSUME_UNTIL_IDLE : SAGA_CONSUME_UNTIL_STOP,
                          &err) != 0)
        rc = service_failed(&service, "ends", &err);
    service.ending = true;
    if (beside != NULL)
        pthread_join(thread, NULL);
    service_consumer_end(running);
    return rc;
}

int
journal(struct saga_ctx *ctx, const char *step, const char *action, const char *what,
        const char *amount)
{
    return saga_exec(ctx, NULL,
                     "INSERT INTO journal (order_id, step, action, what, amount)"
                     " VALUES ($1, $2, $3, $4, $5)",
                     SAGA_TEXTS(saga_get(ctx, "order"), step, action, saga_get(ctx, what),
                                saga_get(ctx, amount)));
}
