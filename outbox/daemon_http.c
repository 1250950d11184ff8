/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answering HTTP, with libmicrohttpd.
 */
#include "outbox/daemon_http.h"

#include "base/log.h"
#include "outbox/daemon_health.h"
#include "outbox/daemon_listen.h"
#include "outbox/daemon_metrics.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Enough for a few scrapers and for somebody with curl; a stranger cannot make
 * us hold more. */
enum { CONNECTIONS_MAX = 16, CONNECTION_BYTES = 16384, IDLE_S = 15 };

struct http {
    struct MHD_Daemon *daemon;
    struct board *board;
    struct status_reader *reader; /* the answering thread's */
};

enum http_what
http_what(const char *method, const char *path)
{
    enum http_what what = strcmp(path, "/metrics") == 0   ? HTTP_METRICS
                          : strcmp(path, "/healthz") == 0 ? HTTP_HEALTH
                                                          : HTTP_NOT_FOUND;

    if (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0)
        return what;
    return what == HTTP_NOT_FOUND ? HTTP_NOT_FOUND : HTTP_NOT_ALLOWED;
}

/* `text` is given away. */
static enum MHD_Result
answer(struct MHD_Connection *connection, unsigned code, const char *type, char *text, size_t len)
{
    struct MHD_Response *response =
        text != NULL ? MHD_create_response_from_buffer(len, text, MHD_RESPMEM_MUST_FREE) : NULL;
    enum MHD_Result result;

    if (response == NULL) {
        free(text);
        return MHD_NO;
    }
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    if (code == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    result = MHD_queue_response(connection, code, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result
answer_line(struct MHD_Connection *connection, unsigned code, const char *line)
{
    char *text = NULL;
    int len = asprintf(&text, "%s\n", line);

    return answer(connection, code, "text/plain; charset=utf-8", len < 0 ? NULL : text,
                  len < 0 ? 0 : (size_t)len);
}

static enum MHD_Result
answer_metrics(struct http *http, struct MHD_Connection *connection)
{
    struct board_view view;
    struct status status;
    int64_t version;
    char *conninfo = board_conninfo(http->board, &version), *text = NULL;
    size_t len = 0;

    if (conninfo != NULL) {
        status_read(http->reader, conninfo, version, &status);
        explicit_bzero(conninfo, strlen(conninfo));
        if (board_read(http->board, &view, NULL) == 0)
            text = metrics_text(&view, &status, &len);
        board_view_clear(&view);
    }
    free(conninfo);
    return answer(connection, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", text, len);
}

static enum MHD_Result
answer_health(struct http *http, struct MHD_Connection *connection)
{
    struct board_view view;
    char line[256] = "out of memory";
    bool well = board_read(http->board, &view, NULL) == 0 && health_well(&view, line, sizeof line);

    board_view_clear(&view);
    return answer_line(connection, well ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, line);
}

static enum MHD_Result
on_request(void *user, struct MHD_Connection *connection, const char *path, const char *method,
           const char *version, const char *body, size_t *body_len, void **state)
{
    struct http *http = user;

    (void)version;
    (void)body;
    (void)state;
    *body_len = 0;
    switch (http_what(method, path)) {
    case HTTP_METRICS:
        return answer_metrics(http, connection);
    case HTTP_HEALTH:
        return answer_health(http, connection);
    case HTTP_NOT_ALLOWED:
        return answer_line(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET");
    default:
        return answer_line(connection, MHD_HTTP_NOT_FOUND, "there are /metrics and /healthz");
    }
}

static void
log_address(const struct http *http, struct listen_address *address, const struct saga_log *log)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_BIND_PORT);
    bool v6 = address->at.any.sa_family == AF_INET6;
    char text[INET6_ADDRSTRLEN], whole[INET6_ADDRSTRLEN + 16];

    inet_ntop(address->at.any.sa_family,
              v6 ? (void *)&address->at.in6.sin6_addr : (void *)&address->at.in.sin_addr, text,
              sizeof text);
    snprintf(whole, sizeof whole, v6 ? "[%s]:%u" : "%s:%u", text, info != NULL ? info->port : 0U);
    log_event(log, address->loopback ? SAGA_LOG_INFO : SAGA_LOG_WARNING,
              address->loopback ? "answering /metrics and /healthz"
                                : "answering /metrics and /healthz to everybody who can reach it",
              LOG_TEXT("address", whole));
}

int
http_start(struct http **http, const char *listen, struct board *board, const struct saga_log *log,
           struct saga_error *err)
{
    struct http *made = calloc(1, sizeof *made);
    struct listen_address address;
    unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL;

    if (made == NULL)
        return error_set(err, SAGA_ENOMEM, "out of memory");
    made->board = board;
    made->reader = status_reader_new(log);
    if (made->reader == NULL || !listen_parse(&address, listen)) {
        http_stop(made);
        return error_set(err, SAGA_EINVAL, "cannot listen at %s", listen);
    }
    if (address.at.any.sa_family == AF_INET6)
        flags |= MHD_USE_IPv6;
    errno = 0;
    made->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, made, MHD_OPTION_SOCK_ADDR, &address.at.any,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)CONNECTION_BYTES, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_S, MHD_OPTION_END);
    if (made->daemon == NULL) {
        http_stop(made);
        /* Not wrong: whoever has the port may go away. */
        return error_set(err, SAGA_ESTATE, "cannot listen at %s ([http] listen): %s", listen,
                         errno != 0 ? strerror(errno) : "libmicrohttpd does not say why");
    }
    log_address(made, &address, log);
    *http = made;
    return 0;
}

void
http_stop(struct http *http)
{
    if (http == NULL)
        return;
    if (http->daemon != NULL)
        MHD_stop_daemon(http->daemon);
    status_reader_free(http->reader);
    free(http);
}
