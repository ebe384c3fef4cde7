/* The listeners of a name: one for each port on the name's own address, so that a program inside may use the same port on any other.
 * Invariant: a listener lives as long as its name's entry and no longer. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "relay.h"

enum { BACKLOG = 64, ACCEPTS_MAX = 16 };

void relay_accept(struct watch *watch, uint32_t events) {
    (void)events;
    struct listener *listener = CONTAINER_OF(watch, struct listener, watch);
    for (int i = 0; i < ACCEPTS_MAX; i++) {
        struct sockaddr_in from = {0};
        socklen_t length = sizeof from;
        int fd = accept4(watch->fd, (struct sockaddr *)&from, &length, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) relay_breathe();
        if (fd < 0) return;
        if (from.sin_family != AF_INET || listener->relay->link_count >= RELAY_LINKS_MAX) link_reset(fd);
        else link_begin(listener, fd, &from);
    }
}

static int listen_on(uint32_t address, uint16_t port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(address)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP), one = 1;
    if (fd < 0) return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) == 0 && listen(fd, BACKLOG) == 0) return fd;
    close(fd);
    return -1;
}

static void listener_close(struct listener *listener) {
    loop_unwatch(&listener->relay->loop, &listener->watch);
    close(listener->watch.fd);
    free(listener);
}

static bool is_named(uint16_t port, const uint16_t *ports, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (ports[i] == port) return true;
    return false;
}

static bool has_port(const struct name *name, uint16_t port) {
    for (const struct listener *listener = name->owner; listener; listener = listener->next)
        if (listener->port == port) return true;
    return false;
}

static void add(struct relay *relay, struct name *name, uint16_t port) {
    int fd = listen_on(name->address, port);
    struct listener *listener = fd < 0 ? NULL : calloc(1, sizeof *listener);
    if (fd >= 0 && !listener) close(fd);
    if (!listener) return;
    *listener = (struct listener){.watch = {.fd = fd, .ready = relay_accept}, .relay = relay, .name = name, .port = port, .next = name->owner};
    name->owner = listener;
    loop_watch(&relay->loop, &listener->watch, EPOLLIN);
}

bool name_listen(struct relay *relay, struct name *name, const uint16_t *ports, size_t count) {
    struct listener *listener = name->owner, **place = &listener;
    while (*place) {
        struct listener *one = *place;
        if (is_named(one->port, ports, count)) {
            place = &one->next;
            continue;
        }
        *place = one->next;
        listener_close(one);
    }
    name->owner = listener;
    for (size_t i = 0; i < count; i++)
        if (!has_port(name, ports[i])) add(relay, name, ports[i]);
    return name->owner != NULL;
}

void name_close(struct name *name) {
    struct listener *next;
    for (struct listener *listener = name->owner; listener; listener = next) {
        next = listener->next;
        listener_close(listener);
    }
    name->owner = NULL;
}
