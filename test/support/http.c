/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client of HTTP/1.1 that is good for one request, and a reader of metrics.
 */
#include "test/support/http.h"

#include "test/support/run.h"

#include <arpa/inet.h>
#include <math.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* --- asking ------------------------------------------------------------- */

enum { ANSWER_BYTES = 1 << 20, PATIENCE_S = 20 };

static int
connect_to(int port)
{
    const struct timeval patience = { .tv_sec = PATIENCE_S };
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_ge(fd, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    ck_assert_msg(connect(fd, (struct sockaddr *)&address, sizeof address) == 0,
                  "nobody listens at port %d", port);
    return fd;
}

struct http_answer
http_send(int port, const char *bytes)
{
    char *text = calloc(1, ANSWER_BYTES + 1), *blank;
    struct http_answer answer = { 0 };
    int fd = connect_to(port);
    size_t len = 0;
    ssize_t n;

    ck_assert_ptr_nonnull(text);
    at_test_end(free, text);
    ck_assert_int_eq(send(fd, bytes, strlen(bytes), MSG_NOSIGNAL), strlen(bytes));
    while (len < ANSWER_BYTES && (n = recv(fd, text + len, ANSWER_BYTES - len, 0)) > 0)
        len += (size_t)n;
    close(fd);
    sscanf(text, "HTTP/1.1 %d", &answer.code);
    blank = strstr(text, "\r\n\r\n");
    answer.head = text;
    answer.body = blank != NULL ? blank + 4 : "";
    if (blank != NULL)
        *blank = '\0';
    return answer;
}

struct http_answer
http_get(int port, const char *path)
{
    struct http_answer answer = http_send(
        port, text_of("GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n", path));

    ck_assert_msg(answer.code != 0, "no answer: %s", answer.head);
    return answer;
}

/* --- reading metrics ------------------------------------------------------ */

static bool
name_is_fine(const char *name, size_t len)
{
    static const char first[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";

    return len > 0 && strchr(first, *name) != NULL &&
           strspn(name, text_of("%s0123456789:", first)) >= len;
}

struct family {
    const char *name, *type;
    double below, last_le; /* of the histogram's bucket before */
};

/* "name{label="value",...} number"; returns where the number begins. */
static const char *
check_sample(const char *line)
{
    size_t len = strcspn(line, "{ ");
    const char *at = line + len;

    ck_assert_msg(name_is_fine(line, len), "no name: %s", line);
    if (*at == '{') {
        do {
            at++;
            len = strcspn(at, "=");
            ck_assert_msg(name_is_fine(at, len) && at[len + 1] == '"', "no label: %s", line);
            at += len + 2;
            len = strcspn(at, "\"\\\n");
            ck_assert_msg(at[len] == '"', "no label's end: %s", line);
            at += len + 1;
        } while (*at == ',');
        ck_assert_msg(*at == '}', "no labels' end: %s", line);
        at++;
    }
    ck_assert_msg(*at == ' ', "no value: %s", line);
    return at + 1;
}

static double
number_of(const char *text)
{
    char *end;
    double number = strtod(text, &end);

    ck_assert_msg(end != text && *end == '\0', "no number: %s", text);
    return number;
}

/* Buckets come with rising bounds and counts, up to +Inf, which is the count. */
static void
check_histogram(struct family *family, const char *line, const char *suffix, double value)
{
    const char *le = strstr(line, "le=\"");

    if (strcmp(suffix, "_bucket") == 0) {
        double bound;

        ck_assert_msg(le != NULL, "a bucket without le: %s", line);
        bound = strncmp(le, "le=\"+Inf\"", 9) == 0 ? (double)INFINITY : strtod(le + 4, NULL);
        if (isinf(family->last_le))
            family->below = 0;
        else
            ck_assert_msg(bound > family->last_le, "bounds do not rise: %s", line);
        ck_assert_msg(value >= family->below, "counts do not rise: %s", line);
        family->last_le = bound;
        family->below = value;
    } else if (strcmp(suffix, "_count") == 0) {
        ck_assert_msg(isinf(family->last_le) && value == family->below,
                      "the count is not the last bucket's: %s", line);
    } else {
        ck_assert_str_eq(suffix, "_sum");
    }
}

static void
check_line(struct family *family, char *line, const char *before)
{
    const char *value;
    char *suffix;
    size_t len;

    if (strncmp(line, "# HELP ", 7) == 0) {
        len = strcspn(line + 7, " ");
        family->name = text_of("%.*s", (int)len, line + 7);
        family->type = NULL;
        family->last_le = (double)INFINITY;
        ck_assert_msg(strlen(line + 7) > len + 1, "no help: %s", line);
        ck_assert_msg(strstr(before, text_of("# HELP %s ", family->name)) == NULL, "twice: %s",
                      line);
        return;
    }
    ck_assert_msg(family->name != NULL, "a sample before any HELP: %s", line);
    if (strncmp(line, "# TYPE ", 7) == 0) {
        const char *type = line + 7 + strlen(family->name) + 1;

        ck_assert_msg(family->type == NULL &&
                          strncmp(line + 7, family->name, strlen(family->name)) == 0,
                      "a TYPE that is not its HELP's: %s", line);
        ck_assert_msg(strstr("counter gauge histogram", type) != NULL, "no type: %s", line);
        family->type = type;
        return;
    }
    value = check_sample(line);
    len = strlen(family->name);
    ck_assert_msg(family->type != NULL && strncmp(line, family->name, len) == 0,
                  "a sample that is not in its family: %s", line);
    ck_assert_msg(strstr(before, text_of("\n%.*s", (int)(value - line), line)) == NULL,
                  "a sample that is there twice: %s", line);
    suffix = strdup(line + len);
    suffix[strcspn(suffix, "{ ")] = '\0';
    if (strcmp(family->type, "histogram") == 0)
        check_histogram(family, line, suffix, number_of(value));
    else
        ck_assert_msg(*suffix == '\0' && !isnan(number_of(value)), "a suffix: %s", line);
    if (strcmp(family->type, "counter") == 0)
        ck_assert_msg(strcmp(family->name + len - 6, "_total") == 0, "no _total: %s", line);
    free(suffix);
}

void
expect_prometheus(const char *text)
{
    char *copy = strdup(text), *before = calloc(1, strlen(text) + 2), *rest = copy, *line;
    struct family family = { 0 };

    ck_assert(copy != NULL && before != NULL);
    at_test_end(free, copy);
    at_test_end(free, before);
    ck_assert_msg(*text != '\0' && text[strlen(text) - 1] == '\n', "the last line has no end");
    copy[strlen(text) - 1] = '\0';
    strcpy(before, "\n");
    while ((line = strsep(&rest, "\n")) != NULL) {
        ck_assert_msg(*line != '\0', "an empty line");
        check_line(&family, line, before);
        strcat(strcat(before, line), "\n");
    }
}

double
metric(const char *text, const char *sample)
{
    const char *found = strstr(text, text_of("\n%s ", sample));

    ck_assert_msg(found != NULL, "no %s in: ...%s", sample,
                  strlen(text) > 500 ? text + strlen(text) - 500 : text);
    return strtod(found + strlen(sample) + 2, NULL);
}
