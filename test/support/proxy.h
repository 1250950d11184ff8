/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A proxy between a client and its server, that loses, delays and cuts.
 *
 * An answer is what the server sends in one piece; where the client asks one
 * thing at a time, that is one reply. Answers are counted over all connections.
 */
#ifndef TEST_PROXY_H
#define TEST_PROXY_H

#include <stdbool.h>

struct proxy;

/* Between us and "127.0.0.1:port"; it ends with the test. */
struct proxy *given_proxy(const char *server_address);

const char *proxy_address(const struct proxy *proxy); /* "127.0.0.1:port", for the client */
int proxy_port(const struct proxy *proxy);

/* What is to happen to the n-th answer from now (1: the next one), once. */
void proxy_swallow(struct proxy *proxy, int nth);       /* it is lost, the connection stays */
void proxy_delay(struct proxy *proxy, int nth, int ms); /* it comes later */
void proxy_cut(struct proxy *proxy, int nth);           /* it is lost, and the connection with it */
/* The same to the next answer that has this text in it. */
void proxy_cut_at(struct proxy *proxy, const char *text);
/* Its last `bytes` are lost, the connection stays. */
void proxy_truncate(struct proxy *proxy, int nth, int bytes);

/* All connections are closed now. */
void proxy_cut_now(struct proxy *proxy);

/* While true, new connections are closed at once. */
void proxy_refuse(struct proxy *proxy, bool refuse);

/* How many answers the server has given so far. */
int proxy_answers(struct proxy *proxy);

#endif
