/* The relay's beginning and its listeners' backs (relay.h). */
#define _GNU_SOURCE
#include "relay.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { BREATH_MS = 10 };

int relay_dial(const struct relay *relay) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    /* By a name in the working directory, which PID 1 chose before anything hostile ran: no path that a command could have changed. */
    memcpy(address.sun_path, relay->socket, strlen(relay->socket) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -errno;
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) return fd;
    int error = errno;
    close(fd);
    return -error;
}

void relay_breathe(void) { poll(NULL, 0, BREATH_MS); }

int relay_run(const struct relay_given *given) {
    struct relay *relay = calloc(1, sizeof *relay);
    if (!relay || loop_open(&relay->loop) != 0) return 1;
    memcpy(relay->socket, given->socket, strlen(given->socket) + 1);
    memcpy(relay->ports, given->ports, given->port_count * sizeof *given->ports);
    relay->port_count = given->port_count;
    relay->connect_again = (struct timer){.fire = link_connect_again};
    relay->proxy = (struct listener){.relay = relay, .watch = {.fd = given->proxy, .ready = relay_accept}};
    relay->dns_udp = (struct watch){.fd = given->dns_udp, .ready = dns_serve_udp};
    relay->dns_tcp = (struct watch){.fd = given->dns_tcp, .ready = dns_serve_tcp};
    /* SAFETY: not blocking, or a reader that takes nothing would stop everybody. */
    if (pipe2(relay->pipe, O_CLOEXEC | O_NONBLOCK) != 0) return 1;
    fcntl(relay->pipe[1], F_SETPIPE_SZ, RELAY_CHUNK); /* a smaller one only carries less at a time */
    peer_open(&relay->peer, given->diag);
    if (loop_watch(&relay->loop, &relay->proxy.watch, EPOLLIN) != 0 || loop_watch(&relay->loop, &relay->dns_udp, EPOLLIN) != 0 ||
        loop_watch(&relay->loop, &relay->dns_tcp, EPOLLIN) != 0)
        return 1;
    return loop_run(&relay->loop) != 0;
}
