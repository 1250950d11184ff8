/* SPDX-License-Identifier: Apache-2.0 */
/*
 * outbox-relay and a Kafka that wants TLS and a password: the right ones
 * publish, the wrong ones are told once a minute and tried again, and neither
 * shows in the log.
 */
#include "test/support/outbox.h"
#include "test/support/run.h"
#include "test/support/server.h"
#include "test/support/wait.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char right_password[] = "r1ght=;#secret", wrong_password[] = "wr0ng=;#secret";

static const char *directory, *tls_brokers, *ini, *conninfo;
static PGconn *conn;

/* --- a certificate authority and a broker that it vouches for -------------------- */

static const char *
file(const char *name)
{
    return text_of("%s/%s", directory, name);
}

static void
remove_directory(void *arg)
{
    (void)arg;
    run_process(ARGS("rm", "-rf", directory));
}

static void
given_certificates(void)
{
    static const char ca[] = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
                             "-days 2 -subj /CN=%s -keyout %s.key -out %s.pem";

    directory = text_of("%s/test-output/%s", build_dir(), unique_name("tls"));
    run_process(ARGS("mkdir", "-p", directory));
    at_test_end(remove_directory, NULL);
    run_process(ARGS("sh", "-c",
                     text_of("cd '%s' && { %s && %s && openssl req -newkey ec -pkeyopt "
                             "ec_paramgen_curve:P-256 -nodes -subj /CN=broker -keyout broker.key "
                             "-out broker.csr && echo subjectAltName=IP:127.0.0.1 >broker.ext && "
                             "openssl x509 -req -in broker.csr -CA ca.pem -CAkey ca.key "
                             "-CAcreateserial -days 2 -extfile broker.ext -out broker.pem; } 2>&1",
                             directory, text_of(ca, "ours", "ca", "ca"),
                             text_of(ca, "others", "other", "other"))));
}

/* A file as one line of Java's properties. */
static const char *
one_line(const char *name)
{
    const char *lines = run_process(ARGS("cat", file(name)));
    char *text = calloc(1, 2 * strlen(lines) + 1), *to = text;

    ck_assert_ptr_nonnull(text);
    at_test_end(free, text);
    for (; *lines != '\0'; lines++)
        to += sprintf(to, *lines == '\n' ? "\\n" : "%c", *lines);
    return text;
}

static void
given_kafka_with_tls(void)
{
    int port = free_port();
    const char *listeners = text_of("PLAINTEXT://127.0.0.1:@PORT@,SASL_SSL://127.0.0.1:%d", port);
    struct server *kafka = GIVEN_SERVER(
        "kafka", text_of("listeners=%s,CONTROLLER://127.0.0.1:@CONTROLLER@", listeners),
        text_of("advertised.listeners=%s", listeners),
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL",
        "sasl.enabled.mechanisms=PLAIN",
        text_of("listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security."
                "plain.PlainLoginModule required user_relay=\"%s\";",
                right_password),
        "ssl.keystore.type=PEM", text_of("ssl.keystore.key=%s", one_line("broker.key")),
        text_of("ssl.keystore.certificate.chain=%s", one_line("broker.pem")));

    tls_brokers = text_of("127.0.0.1:%d", port);
    use_brokers(kafka->address); /* of the tests' own clients */
}

/* --- settings ------------------------------------------------------------------------ */

static void
settings(const char *password, const char *ca)
{
    FILE *out = fopen(file("password"), "w");

    ck_assert_ptr_nonnull(out);
    fprintf(out, "%s\n", password);
    fclose(out);
    out = fopen(ini, "w");
    ck_assert_ptr_nonnull(out);
    fprintf(out,
            "[relay]\ndatabase = %s\nbrokers = %s\ndrain_ms = 200\n[kafka]\n"
            "security.protocol = sasl_ssl\nsasl.mechanism = PLAIN\nsasl.username = relay\n"
            "sasl.password = file:%s\nssl.ca.location = %s\nreconnect.backoff.max.ms = 300\n",
            conninfo, tls_brokers, file("password"), file(ca));
    fclose(out);
}

static int
times_logged(const struct process *relay, const char *text)
{
    int n = 0;

    for (const char *at = process_errors(relay); (at = strstr(at, text)) != NULL; at++)
        n++;
    return n;
}

static void
expect_trouble_and_patience(struct process *relay, const char *why)
{
    WAIT_UNTIL(times_logged(relay, why) > 0, 10000);
    STAYS_TRUE(!process_ended(relay), 1000);
    ck_assert_int_eq(times_logged(relay, "trouble with Kafka"), 1); /* not at each attempt */
    ck_assert_int_eq(pending(conn), 1);
}

/* The settings are corrected while it runs. */
static void
expect_recovery(struct process *relay)
{
    settings(right_password, "ca.pem");
    process_signal(relay, SIGHUP);
    WAIT_UNTIL(pending(conn) == 0, 15000);
    process_signal(relay, SIGTERM);
    process_expect(relay, 0, 15000);
    ck_assert_int_eq(times_logged(relay, right_password), 0);
    ck_assert_int_eq(times_logged(relay, wrong_password), 0);
}

START_TEST(test_daemon_publishes_by_tls_and_sasl_with_the_right_settings_only)
{
    struct process *relay;
    const char *topic;

    given_certificates();
    given_kafka_with_tls();
    conninfo = given_database();
    conn = db_connect(conninfo);
    topic = GIVEN_TOPIC(1);
    ini = file("relay.ini");

    enqueue(conn, topic, "k", "1");
    settings(right_password, "ca.pem");
    run_process(ARGS("outbox-relay", "--config", ini, "--once"));
    expect_published(topic, "1");

    enqueue(conn, topic, "k", "2");
    settings(wrong_password, "ca.pem");
    relay = start_process(ARGS("outbox-relay", "--config", ini), NULL);
    expect_trouble_and_patience(relay, "Authentication failed");
    expect_recovery(relay);

    enqueue(conn, topic, "k", "3");
    settings(right_password, "other.pem");
    relay = start_process(ARGS("outbox-relay", "--config", ini), NULL);
    expect_trouble_and_patience(relay, "certificate verify failed");
    expect_recovery(relay);
    expect_published(topic, "1 2 3");
    PQfinish(conn);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){
        .name = "outbox_tls",
        .tests = TESTS(test_daemon_publishes_by_tls_and_sasl_with_the_right_settings_only),
        .timeout_s = 90,
    });
}
