/* The stub: questions for addresses by UDP and TCP, each asked of the proxy, none forwarded, none remembered: a rule that changes holds for the next.
 * Invariant: RELAY_ASKS_MAX questions are under way at most, each ends within ASK_MS; one more is told that it failed. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "relay.h"

enum { ASK_MS = 5000, CLIENT_MS = 10000, DATAGRAMS_MAX = 16 };

static void client_close(struct dns_client *client) {
    loop_timer_stop(&client->relay->loop, &client->idle);
    loop_unwatch(&client->relay->loop, &client->watch);
    close(client->watch.fd);
    client->open = client->busy = false;
}

static void tell(struct relay *relay, const struct ask *ask, enum dns_verdict verdict, uint32_t address) {
    uint8_t out[2 + DNS_ANSWER_MAX];
    size_t length = dns_answer(ask->message, &ask->question, verdict, address, out + 2);
    if (!ask->client) {
        ssize_t ignored = sendto(relay->dns_udp.fd, out + 2, length, MSG_DONTWAIT, (const struct sockaddr *)&ask->from, sizeof ask->from);
        (void)ignored; /* a reader that is too slow asks again */
        return;
    }
    out[0] = (uint8_t)(length >> 8);
    out[1] = (uint8_t)length;
    ask->client->busy = false;
    if (send(ask->client->watch.fd, out, length + 2, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)length + 2 ||
        loop_watch(&relay->loop, &ask->client->watch, EPOLLIN) != 0)
        client_close(ask->client);
}

static void ask_end(struct ask *ask, enum dns_verdict verdict, uint32_t address) {
    loop_timer_stop(&ask->relay->loop, &ask->deadline);
    loop_unwatch(&ask->relay->loop, &ask->watch);
    if (ask->watch.fd >= 0) close(ask->watch.fd);
    ask->open = false;
    tell(ask->relay, ask, verdict, address);
}

static void on_said(struct ask *ask) {
    struct relay *relay = ask->relay;
    uint16_t told[RELAY_PORTS_MAX];
    size_t count = RELAY_PORTS_MAX;
    int yes = dns_said(ask->said, told, &count);
    if (yes != 1) {
        ask_end(ask, yes == 0 ? DNS_NO_NAME : DNS_FAILED, 0);
        return;
    }
    /* Only who asks for an address gets one: nobody can connect to the empty answer of the other kind. */
    struct name *name = ask->question.wants_address ? names_take(&relay->names, ask->question.name, name_close) : NULL;
    bool listens = name && name_listen(relay, name, count ? told : relay->ports, count ? count : relay->port_count);
    if (ask->question.wants_address && !listens) ask_end(ask, DNS_FAILED, 0);
    else ask_end(ask, DNS_OK, name ? name->address : 0);
}

static void on_answer(struct watch *watch, uint32_t events) {
    (void)events;
    struct ask *ask = CONTAINER_OF(watch, struct ask, watch);
    ssize_t count = recv(watch->fd, ask->said + ask->heard, sizeof ask->said - 1 - ask->heard, MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count > 0) ask->heard += (size_t)count;
    char *end = memchr(ask->said, '\n', ask->heard);
    if (end) *end = 0;
    if (end && end == ask->said + ask->heard - 1) on_said(ask);
    else if (end || count <= 0 || ask->heard == sizeof ask->said - 1) ask_end(ask, DNS_FAILED, 0);
}

static void on_deadline(struct timer *timer) { ask_end(CONTAINER_OF(timer, struct ask, deadline), DNS_FAILED, 0); }

static bool send_question(struct ask *ask, const struct sockaddr_in *to) {
    char process[PEER_BYTES], line[RELAY_HEAD_MAX + DNS_NAME_MAX];
    peer_find(&ask->relay->peer, ask->client ? IPPROTO_TCP : IPPROTO_UDP, &ask->from, to, process);
    int length = snprintf(line, sizeof line, "resolve %s\n%s\n", process, ask->question.name);
    return send(ask->watch.fd, line, (size_t)length, MSG_NOSIGNAL) == length;
}

/* `given` is taken over; its message is whole. */
static void begin(struct relay *relay, const struct ask *given) {
    struct ask now = *given, *ask = &now;
    now.watch = (struct watch){.fd = -1, .ready = on_answer};
    now.relay = relay;
    now.deadline = (struct timer){.fire = on_deadline};
    enum dns_verdict verdict = dns_parse(now.message, now.length, &now.question);
    if (verdict == DNS_DROP && now.client) client_close(now.client);
    if (verdict == DNS_DROP) return;
    for (size_t i = 0; verdict == DNS_ASK && ask == &now && i < RELAY_ASKS_MAX; i++)
        if (!relay->asks[i].open) ask = &relay->asks[i];
    if (verdict == DNS_ASK && ask != &now) now.watch.fd = relay_dial(relay);
    if (now.watch.fd < 0) {
        tell(relay, &now, verdict == DNS_ASK ? DNS_FAILED : verdict, 0);
        return;
    }
    *ask = now;
    ask->open = true;
    struct sockaddr_in stub = {.sin_family = AF_INET, .sin_port = htons(RELAY_DNS_PORT), .sin_addr.s_addr = htonl(STUB_OWN)};
    loop_timer(&relay->loop, &ask->deadline, in_ms(ASK_MS));
    if (!send_question(ask, &stub) || loop_watch(&relay->loop, &ask->watch, EPOLLIN) != 0) ask_end(ask, DNS_FAILED, 0);
}

void dns_serve_udp(struct watch *watch, uint32_t events) {
    (void)events;
    struct relay *relay = CONTAINER_OF(watch, struct relay, dns_udp);
    for (int i = 0; i < DATAGRAMS_MAX; i++) {
        struct ask ask = {0};
        socklen_t length = sizeof ask.from;
        ssize_t count = recvfrom(watch->fd, ask.message, sizeof ask.message, MSG_DONTWAIT | MSG_TRUNC, (struct sockaddr *)&ask.from, &length);
        if (count < 0) return;
        if ((size_t)count > sizeof ask.message || ask.from.sin_family != AF_INET) continue;
        ask.length = (size_t)count;
        begin(relay, &ask);
    }
}

static void on_idle(struct timer *timer) {
    struct dns_client *client = CONTAINER_OF(timer, struct dns_client, idle);
    if (client->busy) loop_timer(&client->relay->loop, timer, in_ms(CLIENT_MS)); /* its question has an end of its own */
    else client_close(client);
}

static void on_bytes(struct watch *watch, uint32_t events) {
    (void)events;
    struct dns_client *client = CONTAINER_OF(watch, struct dns_client, watch);
    size_t want = client->have < 2 ? 2 : 2 + (size_t)(client->bytes[0] << 8 | client->bytes[1]);
    ssize_t count = want > sizeof client->bytes ? 0 : recv(watch->fd, client->bytes + client->have, want - client->have, MSG_DONTWAIT);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count <= 0) {
        client_close(client);
        return;
    }
    client->have += (size_t)count;
    if (client->have < 2) return;
    want = 2 + (size_t)(client->bytes[0] << 8 | client->bytes[1]);
    if (client->have < want) return;
    struct ask ask = {.client = client, .length = want - 2};
    socklen_t length = sizeof ask.from;
    getpeername(watch->fd, (struct sockaddr *)&ask.from, &length);
    memcpy(ask.message, client->bytes + 2, ask.length);
    client->have = 0;
    client->busy = true;
    loop_unwatch(&client->relay->loop, watch); /* one question at a time */
    loop_timer(&client->relay->loop, &client->idle, in_ms(CLIENT_MS));
    begin(client->relay, &ask);
}

void dns_serve_tcp(struct watch *watch, uint32_t events) {
    (void)events;
    struct relay *relay = CONTAINER_OF(watch, struct relay, dns_tcp);
    int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0 && errno != EAGAIN) relay_breathe();
    if (fd < 0) return;
    struct dns_client *client = NULL;
    for (size_t i = 0; !client && i < RELAY_DNS_CLIENTS_MAX; i++)
        if (!relay->dns_clients[i].open) client = &relay->dns_clients[i];
    if (!client) {
        link_reset(fd);
        return;
    }
    *client = (struct dns_client){.relay = relay, .open = true, .watch = {.fd = fd, .ready = on_bytes}, .idle = {.fire = on_idle}};
    if (loop_watch(&relay->loop, &client->watch, EPOLLIN) != 0) close(fd), client->open = false;
    else loop_timer(&relay->loop, &client->idle, in_ms(CLIENT_MS));
}
