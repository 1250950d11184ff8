/* SPDX-License-Identifier: Apache-2.0 */
/*
 * librdkafka alone: what bounds the relay. The same messages with the relay's
 * properties, from memory, without a copy, as fast as it takes them.
 *
 *     produce BROKERS TOPIC N PAYLOAD_BYTES [PROPERTY=VALUE...]
 */
#include "bench/bench.h"

enum { PAYLOADS = 100, POLL_EVERY = 1000 };

struct made {
    char keys[KEYS][16];
    char ids[KEYS][37];
    char *payloads[PAYLOADS];
    size_t payload_bytes;
};

static long refused;

static void
delivered(rd_kafka_t *producer, const rd_kafka_message_t *message, void *user)
{
    (void)producer;
    (void)user;
    if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
        refused++;
}

static void
make(struct made *made, size_t payload_bytes)
{
    unsigned long seed = 1;

    made->payload_bytes = payload_bytes;
    for (int i = 0; i < KEYS; i++) {
        snprintf(made->keys[i], sizeof made->keys[i], "key-%d", i);
        snprintf(made->ids[i], sizeof made->ids[i], "01900000-0000-7000-8000-%012d", i);
    }
    for (int i = 0; i < PAYLOADS; i++) {
        made->payloads[i] = malloc(payload_bytes);
        if (made->payloads[i] == NULL)
            die("out of memory");
        for (size_t j = 0; j < payload_bytes; j++) {
            seed = seed * 6364136223846793005UL + 1442695040888963407UL;
            made->payloads[i][j] = "0123456789abcdef"[seed >> 60];
        }
    }
}

static rd_kafka_resp_err_t
produce(rd_kafka_t *producer, rd_kafka_topic_t *topic, const struct made *made, long i)
{
    rd_kafka_headers_t *headers = rd_kafka_headers_new(3);
    const char *key = made->keys[i % KEYS];
    rd_kafka_vu_t vu[] = {
        { .vtype = RD_KAFKA_VTYPE_RKT, .u.rkt = topic },
        { .vtype = RD_KAFKA_VTYPE_HEADERS, .u.headers = headers },
        { .vtype = RD_KAFKA_VTYPE_KEY, .u.mem = { (void *)(uintptr_t)key, strlen(key) } },
        { .vtype = RD_KAFKA_VTYPE_VALUE,
          .u.mem = { made->payloads[i % PAYLOADS], made->payload_bytes } },
    };
    rd_kafka_resp_err_t code;
    rd_kafka_error_t *error;

    rd_kafka_header_add(headers, "message-id", 10, made->ids[i % KEYS], 36);
    rd_kafka_header_add(headers, "kind", 4, KIND, sizeof KIND - 1);
    rd_kafka_header_add(headers, "traceparent", 11, TRACEPARENT, sizeof TRACEPARENT - 1);
    error = rd_kafka_produceva(producer, vu, sizeof vu / sizeof *vu);
    code = rd_kafka_error_code(error);
    if (error != NULL) {
        rd_kafka_headers_destroy(headers);
        rd_kafka_error_destroy(error);
    }
    return code;
}

int
main(int argc, char **argv)
{
    static struct made made;
    rd_kafka_conf_t *conf;
    rd_kafka_t *producer;
    rd_kafka_topic_t *topic;
    long n;

    if (argc < 5)
        die("usage: produce BROKERS TOPIC N PAYLOAD_BYTES [PROPERTY=VALUE...]");
    n = atol(argv[3]);
    make(&made, (size_t)atol(argv[4]));
    conf = producer_conf(argv[1]);
    for (int i = 5; i < argc; i++) {
        char *value = strchr(argv[i], '=');

        if (value == NULL)
            die("%s: not PROPERTY=VALUE", argv[i]);
        *value = '\0';
        set(conf, argv[i], value + 1);
    }
    rd_kafka_conf_set_dr_msg_cb(conf, delivered);
    producer = client(RD_KAFKA_PRODUCER, conf);
    topic = rd_kafka_topic_new(producer, argv[2], NULL);
    for (long i = 0; i < n;) {
        rd_kafka_resp_err_t code = produce(producer, topic, &made, i);

        if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
            i++;
        else if (code != RD_KAFKA_RESP_ERR__QUEUE_FULL)
            die("%s", rd_kafka_err2str(code));
        if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
            rd_kafka_poll(producer, 10);
        else if (i % POLL_EVERY == 0)
            rd_kafka_poll(producer, 0);
    }
    if (rd_kafka_flush(producer, 300000) != RD_KAFKA_RESP_ERR_NO_ERROR || refused > 0)
        die("%ld messages were refused, %d were not answered", refused,
            rd_kafka_outq_len(producer));
    rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(producer);
    return 0;
}
