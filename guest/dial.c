/* The worker `dial PORT`: stdin and stdout become a TCP connection to a port of the sandbox's own loopback, by IPv4 and then IPv6.
 * Each direction ends by itself, so a half-closed connection goes on. Exit status: 0, or the errno with which connecting failed (111 refused).
 * Invariant: it connects to the loopback of its own network namespace and to nothing else. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "frame.h"
#include "worker.h"

enum { RELAY_BYTES = 64 * 1024, LAST_PORT = 65535 };

/* Bytes on their way from one descriptor to another. */
struct lane {
    int from, to;
    bool ended; /* nothing more comes */
    bool closed; /* and nothing more goes */
    size_t start, end;
    uint8_t bytes[RELAY_BYTES];
};

static int connect_to(uint16_t port, int family) {
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    bool old = family == AF_INET;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP), one = 1;
    if (fd < 0) return -errno;
    int failed = connect(fd, old ? (struct sockaddr *)&four : (struct sockaddr *)&six, old ? sizeof four : sizeof six);
    int error = errno;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (!failed) return fd;
    close(fd);
    return -error;
}

/* False: the other side takes no more. */
static bool put(struct lane *lane) {
    while (lane->start < lane->end) {
        ssize_t count = write(lane->to, lane->bytes + lane->start, lane->end - lane->start);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return errno == EAGAIN;
        lane->start += (size_t)count;
    }
    lane->start = lane->end = 0;
    return true;
}

static void take(struct lane *lane) {
    ssize_t count;
    while ((count = read(lane->from, lane->bytes, sizeof lane->bytes)) < 0 && errno == EINTR) {}
    if (count > 0) lane->end = (size_t)count;
    else if (count == 0 || errno != EAGAIN) lane->ended = true;
}

static void finish(struct lane *lane, int socket) {
    lane->closed = lane->ended = true;
    lane->start = lane->end = 0;
    if (lane->to == socket) shutdown(socket, SHUT_WR);
    else close(lane->to);
    /* Whoever sends is told at once. */
    if (lane->from != socket) close(lane->from);
}

static void move(struct lane *lane, int socket, short from, short to) {
    if (lane->closed) return;
    if (lane->start == lane->end && !lane->ended && from) take(lane);
    if ((lane->start < lane->end && !put(lane)) || (to & (POLLERR | POLLNVAL)) || (to & POLLHUP && lane->to != socket)) finish(lane, socket);
    else if (lane->ended && lane->start == lane->end) finish(lane, socket);
}

int dial_relay(int socket) {
    static struct lane up, down;
    up = (struct lane){.from = 0, .to = socket};
    down = (struct lane){.from = socket, .to = 1};
    for (int fd = 0; fd < 2; fd++) fcntl(fd, F_SETFL, O_NONBLOCK);
    fcntl(socket, F_SETFL, O_NONBLOCK);
    /* Nothing more for whoever asked: what still goes up has nobody to answer. */
    while (!down.closed) {
        bool reads_up = !up.ended && up.start == up.end, writes_up = up.start < up.end;
        bool reads_down = !down.ended && down.start == down.end, writes_down = down.start < down.end;
        short events = (short)((reads_down ? POLLIN : 0) | (writes_up ? POLLOUT : 0));
        struct pollfd all[] = {{.fd = reads_up ? 0 : -1, .events = POLLIN}, {.fd = events ? socket : -1, .events = events},
                               {.fd = 1, .events = writes_down ? POLLOUT : 0}};
        if (poll(all, 3, -1) < 0 && errno != EINTR) return errno;
        move(&up, socket, all[0].revents, (short)(all[1].revents & POLLOUT));
        move(&down, socket, (short)(all[1].revents & (POLLIN | POLLHUP | POLLERR)), all[2].revents);
    }
    return 0;
}

int dial_main(int argc, char **argv) {
    uint64_t port;
    if (argc != 2 || !record_number(argv[1], LAST_PORT, &port) || port == 0) return EINVAL;
    signal(SIGPIPE, SIG_IGN);
    int fd = connect_to((uint16_t)port, AF_INET);
    if (fd == -ECONNREFUSED) fd = connect_to((uint16_t)port, AF_INET6);
    if (fd == -EADDRNOTAVAIL || fd == -EAFNOSUPPORT) fd = -ECONNREFUSED; /* no IPv6 here: the first answer stands */
    return fd < 0 ? -fd : dial_relay(fd);
}
