/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asking an HTTP server, and reading Prometheus' text format as strictly as
 * the most pedantic of its readers does.
 */
#ifndef TEST_HTTP_H
#define TEST_HTTP_H

/* The test fails if there is no answer at all. Both texts live until its end. */
struct http_answer {
    int code;
    const char *head, *body;
};

/* http_get(port, "/healthz"); on 127.0.0.1 */
struct http_answer http_get(int port, const char *path);

/* Sends the bytes as they are. Code 0: the server closed without an answer. */
struct http_answer http_send(int port, const char *bytes);

/* The test fails if `text` is not well-formed: names, labels, numbers, HELP and TYPE
 * before the samples of each family and only once, no sample twice, histograms that add up. */
void expect_prometheus(const char *text);

/* The value of the sample that is written so: metric(text, "up{stream=\"0\"}"). */
double metric(const char *text, const char *sample);

#endif
