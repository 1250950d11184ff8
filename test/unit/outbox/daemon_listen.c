/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses to listen at.
 */
#include "outbox/daemon_listen.h"

#include "outbox/daemon_http.h"
#include "test/support/run.h"

#include <arpa/inet.h>

START_TEST(test_listen_a_port_alone_is_loopback)
{
    static const struct {
        const char *text;
        bool fine, loopback;
        int family, port;
    } vectors[] = {
        { "9187", true, true, AF_INET, 9187 },
        { "0", true, true, AF_INET, 0 },
        { "127.0.0.1:1", true, true, AF_INET, 1 },
        { "127.9.9.9:65535", true, true, AF_INET, 65535 },
        { "0.0.0.0:9187", true, false, AF_INET, 9187 },
        { "10.1.2.3:9187", true, false, AF_INET, 9187 },
        { "[::1]:9187", true, true, AF_INET6, 9187 },
        { "[::]:9187", true, false, AF_INET6, 9187 },
        { "", false, false, 0, 0 },
        { ":9187", false, false, 0, 0 },
        { "9187:", false, false, 0, 0 },
        { "::1:9187", false, false, 0, 0 },
        { "[::1]", false, false, 0, 0 },
        { "[]:1", false, false, 0, 0 },
        { "localhost:1", false, false, 0, 0 },
        { "65536", false, false, 0, 0 },
        { "-1", false, false, 0, 0 },
        { " 1", false, false, 0, 0 },
        { "127.0.0.1:99999999999", false, false, 0, 0 },
        { "[1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb]:1", false, false, 0, 0 },
    };

    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        struct listen_address address;
        bool fine = listen_parse(&address, vectors[i].text);

        ck_assert_msg(fine == vectors[i].fine, "'%s'", vectors[i].text);
        if (!fine)
            continue;
        ck_assert_msg(address.loopback == vectors[i].loopback, "'%s'", vectors[i].text);
        ck_assert_int_eq(address.at.any.sa_family, vectors[i].family);
        ck_assert_int_eq(
            ntohs(vectors[i].family == AF_INET ? address.at.in.sin_port : address.at.in6.sin6_port),
            vectors[i].port);
    }
}
END_TEST

START_TEST(test_http_has_two_pages_that_can_be_read)
{
    ck_assert_int_eq(http_what("GET", "/metrics"), HTTP_METRICS);
    ck_assert_int_eq(http_what("HEAD", "/healthz"), HTTP_HEALTH);
    ck_assert_int_eq(http_what("POST", "/metrics"), HTTP_NOT_ALLOWED);
    ck_assert_int_eq(http_what("get", "/metrics"), HTTP_NOT_ALLOWED);
    ck_assert_int_eq(http_what("GET", "/"), HTTP_NOT_FOUND);
    ck_assert_int_eq(http_what("PUT", "/metrics/../x"), HTTP_NOT_FOUND);
}
END_TEST

int
main(void)
{
    return run_tests(&(struct tests){ .name = "outbox/daemon_listen",
                                      .tests = TESTS(test_listen_a_port_alone_is_loopback,
                                                     test_http_has_two_pages_that_can_be_read) });
}
