/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's settings: which source wins, what is refused and in which words,
 * and that no value is among these.
 */
#include "outbox/daemon_settings.h"

#include "base/error.h"

#include "test/support/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct settings settings;
static struct saga_error err;
static char path[] = "/tmp/settings.XXXXXX";

static void
end_settings(void *arg)
{
    (void)arg;
    settings_clear(&settings);
    unlink(path);
}

/* `environment` as of ARGS() elsewhere; NULL: none. */
static int
read_settings(const char *ini, const char *const *environment, struct arguments arguments)
{
    static const char *const nothing[] = { NULL };
    FILE *file = fdopen(mkstemp(strcpy(path, "/tmp/settings.XXXXXX")), "w");

    ck_assert_ptr_nonnull(file);
    fputs(ini, file);
    fclose(file);
    arguments.config = path;
    at_test_end(end_settings, NULL);
    return settings_read(&settings, &arguments,
                         (char *const *)(uintptr_t)(environment != NULL ? environment : nothing),
                         &err);
}

#define ENVIRONMENT(...) ((const char *const[]){ __VA_ARGS__, NULL })
#define NO_ARGUMENTS     ((struct arguments){ 0 })

static const char *
pair_value(const struct saga_pair *pairs, const char *name)
{
    for (; pairs->name != NULL; pairs++)
        if (strcmp(pairs->name, name) == 0)
            return pairs->value;
    return NULL;
}

START_TEST(test_settings_are_read_from_all_sections)
{
    ck_assert_msg(
        read_settings("[relay]\ndatabase = dbname=orders\nbrokers = a:1,b:2\nlog = debug\n"
                      "log_format = json\nlease_ms = 4000\nstall_ms = 60000\n"
                      "standby_gate = on\ninstance = a\nsource = /orders\n"
                      "[kafka]\nlinger.ms = 5\nsasl.password = a=b;c #d\n"
                      "[topics]\norders = cloudevents\n* = plain\n"
                      "[watch]\ngroups = billing , shipping\n[http]\nlisten = 9187\n",
                      NULL, NO_ARGUMENTS) == 0,
        "%s", err.message);
    ck_assert_str_eq(settings.options.conninfo, "dbname=orders");
    ck_assert_str_eq(settings.options.brokers, "a:1,b:2");
    ck_assert_str_eq(settings.options.source, "/orders");
    ck_assert_str_eq(settings.options.instance, "a");
    ck_assert_int_eq(settings.options.log.level, SAGA_LOG_DEBUG);
    ck_assert_int_eq(settings.options.lease_ms, 4000);
    ck_assert_int_eq(settings.options.standby_gate, 1);
    ck_assert_int_eq(settings.stall_ms, 60000);
    ck_assert_str_eq(pair_value(settings.options.kafka, "linger.ms"), "5");
    ck_assert_str_eq(pair_value(settings.options.kafka, "sasl.password"), "a=b;c #d");
    ck_assert_str_eq(pair_value(settings.options.formats, "orders"), "cloudevents");
    ck_assert_str_eq(settings.options.watch[0], "billing");
    ck_assert_str_eq(settings.options.watch[1], "shipping");
    ck_assert_ptr_null(settings.options.watch[2]);
    ck_assert_str_eq(settings.listen, "9187");
}
END_TEST

START_TEST(test_settings_of_the_command_line_win_over_the_environment_and_that_over_the_file)
{
    char given[] = "given:1";

    ck_assert_int_eq(
        read_settings("[relay]\nbrokers = file:1\nlease_ms = 1000\nidle_ms = 7\n[kafka]\n"
                      "sasl.password = from-file\n[topics]\norders = plain\n",
                      ENVIRONMENT("OUTBOX_RELAY_BROKERS=environment:1",
                                  "OUTBOX_RELAY_LEASE_MS=2000",
                                  "OUTBOX_RELAY_KAFKA_SASL_PASSWORD=from=environment",
                                  "OUTBOX_RELAY_TOPICS=orders=cloudevents,*=plain",
                                  "OUTBOX_RELAY_SOURCE=/x", "OUTBOX_RELAY_HTTP_LISTEN=[::1]:9187",
                                  "OUTBOX_RELAY_WATCH_GROUPS=a", "PGHOST=x"),
                      (struct arguments){ .brokers = given }),
        0);
    ck_assert_str_eq(settings.options.brokers, "given:1");
    ck_assert_int_eq(settings.options.lease_ms, 2000);
    ck_assert_int_eq(settings.options.idle_ms, 7);
    ck_assert_str_eq(pair_value(settings.options.kafka, "sasl.password"), "from=environment");
    ck_assert_str_eq(pair_value(settings.options.formats, "orders"), "cloudevents");
    ck_assert_str_eq(pair_value(settings.options.formats, "*"), "plain");
    ck_assert_str_eq(settings.options.watch[0], "a");
    ck_assert_str_eq(settings.listen, "[::1]:9187");
    ck_assert_str_eq(settings.ignored, "");
}
END_TEST

/* Kubernetes makes variables of the name of a service. */
START_TEST(test_settings_pass_over_the_variables_of_kubernetes)
{
    ck_assert_int_eq(
        read_settings("[relay]\nbrokers = a:1\n",
                      ENVIRONMENT("OUTBOX_RELAY_SERVICE_HOST=10.0.0.1",
                                  "OUTBOX_RELAY_SERVICE_PORT=9187",
                                  "OUTBOX_RELAY_SERVICE_PORT_HTTP=9187",
                                  "OUTBOX_RELAY_PORT=tcp://10.0.0.1:9187",
                                  "OUTBOX_RELAY_PORT_9187_TCP_ADDR=10.0.0.1",
                                  "OUTBOX_RELAY_KAFKA_SERVICE_HOST=10.0.0.1",
                                  "OUTBOX_RELAY_HTTP_PORT_80_TCP=x", "OUTBOX_SERVICE_HOST=x"),
                      NO_ARGUMENTS),
        0);
    ck_assert_str_eq(settings.ignored, "");
}
END_TEST

START_TEST(test_settings_of_the_environment_that_do_not_exist_are_refused_or_named)
{
    ck_assert_int_eq(read_settings("[relay]\nbrokers = a:1\n",
                                   ENVIRONMENT("OUTBOX_RELAY_LEASE=SECRET"), NO_ARGUMENTS),
                     SAGA_EINVAL);
    ck_assert_msg(strstr(err.message, "OUTBOX_RELAY_LEASE: [relay] lease: there is no such") !=
                      NULL,
                  "%s", err.message);
    end_settings(NULL);
    ck_assert_int_eq(read_settings("[relay]\nbrokers = a:1\n", ENVIRONMENT("OUTBOX_BROKERS=SECRET"),
                                   NO_ARGUMENTS),
                     0);
    ck_assert_str_eq(settings.ignored, "OUTBOX_BROKERS");
    end_settings(NULL);
    ck_assert_int_eq(read_settings("[relay]\nbrokers = a:1\n", ENVIRONMENT("SAGA_RELAY_LEASE_MS=1"),
                                   NO_ARGUMENTS),
                     0);
    ck_assert_str_eq(settings.ignored, "SAGA_RELAY_LEASE_MS");
}
END_TEST

/* What the library says of a property or a topic, and has no place for. */
START_TEST(test_settings_locate_what_the_library_refuses)
{
    static const struct {
        const char *said, *place;
    } vectors[] = {
        { "the property acks is set by the relay", ", line 3: [kafka] acks: the property" },
        { "librdkafka: No such configuration property: \"linger.mss\"", "librdkafka: No such" },
        { "librdkafka: Invalid value for configuration property \"linger.ms\"",
          ", line 4: [kafka] linger.ms: librdkafka" },
        { "ssl.ca.location failed: ssl", ", line 5: [kafka] ssl.ca.location: ssl.ca" },
        { "the format of topic orders is x", ", line 8: [topics] orders: the" },
        { "the format of topic * is x", ", line 7: [topics] *: the" },
        { "the format of topic orders.eu is x", "the format of topic orders.eu" },
        { "CloudEvents need a source, which", ", line 10: [relay] source: Cloud" },
        { "something else", "something else" },
    };

    ck_assert_int_eq(
        read_settings("[kafka]\n\nacks = 1\nlinger.ms = x\nssl.ca.location = y\n"
                      "[topics]\n* = z\norders = x\n[relay]\nsource = s\nbrokers = a:1\n",
                      NULL, NO_ARGUMENTS),
        0);
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        error_set(&err, SAGA_EINVAL, "%s", vectors[i].said);
        settings_locate(&settings, &err);
        ck_assert_msg(strstr(err.message, vectors[i].place) != NULL &&
                          (*vectors[i].place == ',') == (strncmp(err.message, path, 5) == 0),
                      "%s", err.message);
    }
}
END_TEST

START_TEST(test_settings_that_are_wrong_are_named_with_their_place_and_what_is_allowed)
{
    static const struct {
        const char *ini, *line, *says;
    } vectors[] = {
        { "[relay]\nlease_ms = 10s-SECRET\n", ", line 2: [relay] lease_ms",
          "must be a whole number from 300 to 300000 (milliseconds, without a unit)" },
        { "[relay]\npage_bytes = 4MB\n", "page_bytes", "(bytes, without a unit)" },
        { "[relay]\nretention_ms = 3d\n", "retention_ms", "(milliseconds, without a unit), or" },
        { "[relay]\nbrokers = a:SECRET\n", ", line 2: [relay] brokers", "must be HOST:PORT" },
        { "[relay]\nbrokers = a:1\n[empty]\n", ", line 3: [empty]: there is no such section",
          "relay, kafka, topics" },
        { "[relay]\nlease_ms = 299\n", ", line 2: [relay] lease_ms", "from 300 to" },
        { "[relay]\nidle_ms =\n", ", line 2: [relay] idle_ms", "whole number" },
        { "[relay]\n\nlog = SECRET\n", ", line 3: [relay] log", "debug, info, warning, error" },
        { "[relay]\nlog_format = xml\n", "log_format", "text, json" },
        { "[relay]\nstandby_gate = yes\n", "standby_gate", "off, on" },
        { "[relay]\nspeed = SECRET\n", ", line 2: [relay] speed", "no such setting; there are" },
        { "[relais]\nx = SECRET\n", ", line 1: [relais]: there is no such section",
          "relay, kafka, topics, watch, http" },
        { "[http]\nlisten = localhost:1\n", ", line 2: [http] listen", "PORT (of 127.0.0.1)" },
        { "[watch]\ngroups = a,,b\n", ", line 2: [watch] groups", "GROUP, GROUP" },
        { "[relay]\nlog = info\nlog = debug\n", ", line 3: [relay] log", "is set twice" },
        { "[relay]\nSECRET\n", ", line 2: ", "neither [section]" },
        { "[relay]\ndatabase = dbname=x password=a SECRET\n", ", line 2: [relay] database",
          "libpq cannot read" },
        { "[kafka]\nsasl.password = file:/nowhere/x\n", ", line 2: [kafka] sasl.password",
          "cannot read /nowhere/x: No such file" },
        { "[kafka]\nsasl.password = credential:x\n", "sasl.password", "LoadCredential" },
        { "", "", "no brokers" },
    };

    unsetenv("CREDENTIALS_DIRECTORY");
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        ck_assert_int_eq(read_settings(vectors[i].ini, NULL, NO_ARGUMENTS), SAGA_EINVAL);
        ck_assert_msg(strstr(err.message, vectors[i].line) != NULL &&
                          strstr(err.message, vectors[i].says) != NULL &&
                          strstr(err.message, "SECRET") == NULL,
                      "%s: %s", vectors[i].ini, err.message);
        end_settings(NULL);
    }
}
END_TEST

/* --- secrets ------------------------------------------------------------------ */

static char directory[] = "/tmp/secrets.XXXXXX";

static void
end_secrets(void *arg)
{
    (void)arg;
    unlink(text_of("%s/password", directory));
    rmdir(directory);
}

static void
given_secret(const char *text, size_t len)
{
    FILE *file;

    ck_assert_ptr_nonnull(mkdtemp(strcpy(directory, "/tmp/secrets.XXXXXX")));
    at_test_end(end_secrets, NULL);
    file = fopen(text_of("%s/password", directory), "w");
    ck_assert_ptr_nonnull(file);
    fwrite(text, 1, len, file);
    fclose(file);
    setenv("CREDENTIALS_DIRECTORY", directory, 1);
}

START_TEST(test_settings_come_from_files_and_credentials_without_one_line_end)
{
    static const struct {
        const char *text, *value;
    } vectors[] = {
        { "secret", "secret" },       { "secret\n", "secret" }, { "secret\r\n", "secret" },
        { "secret\n\n", "secret\n" }, { " s \t", " s \t" },
    };

    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        given_secret(vectors[i].text, strlen(vectors[i].text));
        ck_assert_int_eq(
            read_settings(text_of("[relay]\nbrokers = a:1\n[kafka]\nsasl.password = "
                                  "credential:password\nsasl.username = file:%s/password\n",
                                  directory),
                          NULL, NO_ARGUMENTS),
            0);
        ck_assert_str_eq(pair_value(settings.options.kafka, "sasl.password"), vectors[i].value);
        ck_assert_str_eq(pair_value(settings.options.kafka, "sasl.username"), vectors[i].value);
        end_settings(NULL);
    }
}
END_TEST

START_TEST(test_settings_refuse_a_secret_that_is_empty_huge_or_no_text)
{
    enum { HUGE_BYTES = 100000 };
    static char huge[HUGE_BYTES];
    const struct {
        const char *text;
        size_t len;
        const char *says;
    } vectors[] = { { "", 0, "is empty" },
                    { "\n", 1, "is empty" },
                    { "SEC\0RET", 7, "is not a text" },
                    { huge, HUGE_BYTES, "File too large" } };

    memset(huge, 'S', sizeof huge);
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        given_secret(vectors[i].text, vectors[i].len);
        ck_assert_int_eq(
            read_settings("[kafka]\nsasl.password = credential:password\n", NULL, NO_ARGUMENTS),
            SAGA_EINVAL);
        ck_assert_msg(strstr(err.message, "[kafka] sasl.password: ") != NULL &&
                          strstr(err.message, vectors[i].says) != NULL &&
                          strstr(err.message, "SEC") == NULL,
                      "%s", err.message);
        end_settings(NULL);
    }
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox/daemon_settings",
        .tests =
            TESTS(test_settings_are_read_from_all_sections,
                  test_settings_of_the_command_line_win_over_the_environment_and_that_over_the_file,
                  test_settings_pass_over_the_variables_of_kubernetes,
                  test_settings_of_the_environment_that_do_not_exist_are_refused_or_named,
                  test_settings_locate_what_the_library_refuses,
                  test_settings_that_are_wrong_are_named_with_their_place_and_what_is_allowed,
                  test_settings_come_from_files_and_credentials_without_one_line_end,
                  test_settings_refuse_a_secret_that_is_empty_huge_or_no_text) });
}
