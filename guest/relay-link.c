/* One connection of the sandbox, carried to the proxy: a line that says what it is, then bytes both ways, each direction with its own end.
 * What one side does not take waits in memory, one chunk at most, and the other side is not read meanwhile.
 * Invariant: a link is freed once, with both descriptors; a refusal reaches the program as a reset. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "relay.h"

enum { ROUNDS_MAX = 4, CONNECT_AGAIN_MS = 5, CONNECT_TRIES_MAX = 2000 };

/* One direction. */
struct lane {
    uint8_t *left; /* what its reader has not taken yet; NULL: nothing */
    size_t start, end;
    bool ended;  /* nothing more comes */
    bool closed; /* and nothing more goes */
};

struct link {
    struct relay *relay;
    struct link *next, *previous;
    struct name *name;
    struct watch client, server; /* server.fd -1: not connected yet */
    struct lane up, down;
    bool answered; /* a byte came from the proxy */
    int tries;
    size_t head_length;
    char head[RELAY_HEAD_MAX];
};

void link_reset(int client) {
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(client);
}

static void link_free(struct link *link, bool reset) {
    struct relay *relay = link->relay;
    loop_unwatch(&relay->loop, &link->client);
    loop_unwatch(&relay->loop, &link->server);
    if (reset) link_reset(link->client.fd);
    else close(link->client.fd);
    if (link->server.fd >= 0) close(link->server.fd);
    *(link->previous ? &link->previous->next : &relay->links) = link->next;
    if (link->next) link->next->previous = link->previous;
    relay->link_count--;
    if (link->name) link->name->live--;
    free(link->up.left);
    free(link->down.left);
    free(link);
}

/* False: the reader is gone. */
static bool put_left(struct lane *lane, int to) {
    while (lane->start < lane->end) {
        ssize_t sent = send(to, lane->left + lane->start, lane->end - lane->start, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0) return errno == EAGAIN;
        lane->start += (size_t)sent;
    }
    free(lane->left);
    lane->left = NULL;
    return true;
}

/* What the pipe still holds, into memory, or nowhere when there is none (false).
 * SAFETY: the pipe is everybody's: a byte that stayed in it would reach another connection. Then nothing is carried any more. */
static bool keep_left(const struct relay *relay, struct lane *lane, size_t count) {
    uint8_t nowhere[4096];
    lane->left = malloc(count);
    lane->start = lane->end = 0;
    for (size_t taken = 0; taken < count;) {
        size_t room = count - taken;
        if (!lane->left && room > sizeof nowhere) room = sizeof nowhere;
        ssize_t got = read(relay->pipe[0], lane->left ? lane->left + taken : nowhere, room);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) _exit(1);
        taken += (size_t)got;
    }
    if (lane->left) lane->end = count;
    return lane->left != NULL;
}

enum moved { MOVED_ON, MOVED_WAIT, MOVED_ENDED, MOVED_BROKEN };

/* One chunk, by reference where the kernel can: it is copied only when its reader does not take it at once. */
static enum moved move_chunk(struct link *link, struct lane *lane, int from, int to) {
    struct relay *relay = link->relay;
    ssize_t count = splice(from, NULL, relay->pipe[1], NULL, RELAY_CHUNK, SPLICE_F_MOVE | SPLICE_F_NONBLOCK), put = 0;
    if (count < 0) return errno == EAGAIN || errno == EINTR ? MOVED_WAIT : MOVED_BROKEN;
    if (count == 0) return MOVED_ENDED;
    if (lane == &link->down) link->answered = true;
    while (count > 0 && ((put = splice(relay->pipe[0], NULL, to, NULL, (size_t)count, SPLICE_F_MOVE | SPLICE_F_NONBLOCK)) > 0 || (put < 0 && errno == EINTR)))
        count -= put > 0 ? put : 0;
    if (count == 0) return MOVED_ON;
    bool broken = put == 0 || errno != EAGAIN;
    return keep_left(relay, lane, (size_t)count) && !broken ? MOVED_WAIT : MOVED_BROKEN;
}

/* False: the connection is broken. */
static bool move_lane(struct link *link, struct lane *lane, int from, int to) {
    if (lane->left && !put_left(lane, to)) return false;
    for (int round = 0; round < ROUNDS_MAX && !lane->left && !lane->ended; round++) {
        enum moved moved = move_chunk(link, lane, from, to);
        if (moved == MOVED_BROKEN) return false;
        lane->ended = moved == MOVED_ENDED;
        if (moved != MOVED_ON) break;
    }
    return true;
}

static bool is_gone(const struct link *link) {
    struct pollfd server = {.fd = link->server.fd};
    return poll(&server, 1, 0) == 1 && (server.revents & POLLHUP);
}

static void stop_up(struct link *link) {
    free(link->up.left);
    link->up.left = NULL;
    link->up.ended = link->up.closed = true;
}

static void finish(struct lane *lane, int to) {
    if (!lane->ended || lane->left || lane->closed) return;
    shutdown(to, SHUT_WR);
    lane->closed = true;
}

/* False: to be reset. */
static bool move_both(struct link *link) {
    /* The proxy may be gone for what the program still sends, and what it said before is still to be read. */
    if (!move_lane(link, &link->up, link->client.fd, link->server.fd)) {
        if (!is_gone(link)) return false;
        stop_up(link);
    }
    if (!move_lane(link, &link->down, link->server.fd, link->client.fd)) return false;
    if (link->down.ended && !link->down.left && is_gone(link)) {
        /* Closed both ways without a byte: that is how the proxy refuses. A program that has half-closed is told so even where a server took all and
         * ended without a word: taken for sent, a refusal would be worse. */
        if (!link->answered) return false;
        stop_up(link);
    }
    finish(&link->down, link->client.fd);
    finish(&link->up, link->server.fd);
    return true;
}

static uint32_t wanted(const struct lane *in, const struct lane *out) {
    return (!in->ended && !in->left ? EPOLLIN : 0) | (out->left ? EPOLLOUT : 0);
}

static void move(struct link *link) {
    if (!move_both(link)) {
        link_free(link, true);
        return;
    }
    if (link->down.closed && link->up.closed) {
        link_free(link, false);
        return;
    }
    int error = loop_watch(&link->relay->loop, &link->client, wanted(&link->up, &link->down));
    if (!error) error = loop_watch(&link->relay->loop, &link->server, wanted(&link->down, &link->up));
    if (error) link_free(link, true);
}

static void on_client(struct watch *watch, uint32_t events) {
    struct link *link = CONTAINER_OF(watch, struct link, client);
    if (events & EPOLLERR) link_free(link, true);
    else move(link);
}

static void on_server(struct watch *watch, uint32_t events) {
    (void)events;
    move(CONTAINER_OF(watch, struct link, server));
}

static void connect_server(struct link *link) {
    int fd = relay_dial(link->relay);
    if (fd == -EAGAIN && ++link->tries < CONNECT_TRIES_MAX) {
        if (!link->relay->connect_again.armed) loop_timer(&link->relay->loop, &link->relay->connect_again, in_ms(CONNECT_AGAIN_MS));
        return;
    }
    if (fd >= 0) link->server.fd = fd;
    /* A new socket takes the line whole or not at all. */
    if (fd < 0 || send(fd, link->head, link->head_length, MSG_NOSIGNAL) != (ssize_t)link->head_length) link_free(link, true);
    else move(link);
}

void link_connect_again(struct timer *timer) {
    struct relay *relay = CONTAINER_OF(timer, struct relay, connect_again);
    struct link *next;
    for (struct link *link = relay->links; link; link = next) {
        next = link->next;
        if (link->server.fd < 0) connect_server(link);
    }
}

void link_begin(struct listener *listener, int client, const struct sockaddr_in *from) {
    struct relay *relay = listener->relay;
    struct link *link = calloc(1, sizeof *link);
    char process[PEER_BYTES];
    int one = 1;
    if (!link) {
        link_reset(client);
        return;
    }
    uint32_t address = listener->name ? listener->name->address : STUB_OWN;
    uint16_t port = listener->name ? listener->port : RELAY_PROXY_PORT;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(address)};
    peer_find(&relay->peer, IPPROTO_TCP, from, &to, process);
    int length = listener->name ? snprintf(link->head, sizeof link->head, "name %s %u %s\n", listener->name->text, (unsigned)port, process)
                                : snprintf(link->head, sizeof link->head, "proxy %s\n", process);
    link->head_length = (size_t)length; /* a name of 253 bytes and what stands beside it are less than the room */
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    link->relay = relay;
    link->name = listener->name;
    link->client = (struct watch){.fd = client, .ready = on_client};
    link->server = (struct watch){.fd = -1, .ready = on_server};
    if (link->name) link->name->live++;
    link->next = relay->links;
    if (link->next) link->next->previous = link;
    relay->links = link;
    relay->link_count++;
    connect_server(link);
}
