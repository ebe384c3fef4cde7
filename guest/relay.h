/* The egress relay of a sandbox: a process of the guest beside PID 1 that carries connections of the sandbox's own loopback to the one unix socket by
 * which the egress proxy knows this sandbox. It decides nothing: what a name is worth is asked, what is allowed is the proxy's to say.
 * It runs as nobody's user inside, without a capability; the proxy believes nothing that comes by it, nor that it is still our program.
 * Invariant: a connection that was accepted is carried to that socket or reset; memory and descriptors are bounded whatever either side does. */
#ifndef CORRAL_RELAY_H
#define CORRAL_RELAY_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "loop.h"
#include "names.h"
#include "peer.h"

enum {
    RELAY_PROXY_PORT = 3128,
    RELAY_DNS_PORT = 53,
    RELAY_LINKS_MAX = 512,
    RELAY_ASKS_MAX = 64,
    RELAY_DNS_CLIENTS_MAX = 8,
    RELAY_PORTS_MAX = 16, /* on one name */
    RELAY_SOCKET_NAME_MAX = 64,
    RELAY_HEAD_MAX = 400, /* what the proxy reads before the bytes of a connection */
    RELAY_CHUNK = 128 * 1024, /* also what waits for a slow reader, at most, in each direction */
};

struct relay;

/* A TCP port that is listened on; `name` NULL: the proxy's own. */
struct listener {
    struct watch watch;
    struct relay *relay;
    struct name *name;
    uint16_t port;
    struct listener *next; /* of the same name */
};

struct dns_client {
    struct watch watch;
    struct relay *relay;
    struct timer idle;
    bool open, busy;
    size_t have;
    uint8_t bytes[2 + DNS_QUERY_MAX];
};

/* One question on its way to the proxy and back. */
struct ask {
    struct watch watch;
    struct relay *relay;
    struct timer deadline;
    bool open;
    struct dns_client *client; /* NULL: by UDP, to `from` */
    struct sockaddr_in from;
    struct dns_question question;
    uint8_t message[DNS_QUERY_MAX];
    size_t length;
    char said[160];
    size_t heard;
};

struct link;

struct relay {
    struct loop loop;
    struct peer peer;
    char socket[RELAY_SOCKET_NAME_MAX + 1]; /* of the proxy, in the working directory */
    uint16_t ports[RELAY_PORTS_MAX]; /* of a name for which the proxy tells none */
    size_t port_count;
    struct names names;
    struct listener proxy;
    struct watch dns_udp, dns_tcp;
    struct dns_client dns_clients[RELAY_DNS_CLIENTS_MAX];
    struct ask asks[RELAY_ASKS_MAX];
    struct link *links; /* newest first */
    size_t link_count;
    struct timer connect_again;
    int pipe[2]; /* bytes on their way from one socket to another, within one call: always empty between */
};

/* What PID 1 hands over: listening sockets, non-blocking. */
struct relay_given {
    int proxy, dns_udp, dns_tcp, diag;
    const char *socket;
    const uint16_t *ports;
    size_t port_count;
};

/* Never returns to its caller's program: the exit status. */
int relay_run(const struct relay_given *given);

/* relay.c: a non-blocking connection to the proxy. Descriptor, or -errno; -EAGAIN: its queue is full. */
int relay_dial(const struct relay *relay);
/* Nothing more can be accepted for a moment: asking again at once would only spin. */
void relay_breathe(void);

/* relay-link.c */
void link_begin(struct listener *listener, int client, const struct sockaddr_in *from);
void link_connect_again(struct timer *timer);
/* SAFETY: a reset, so that no program takes a refusal for an end of what was sent. */
void link_reset(int client);

/* relay-name.c: listens on the name's address at `ports` and no other; false: at none. */
bool name_listen(struct relay *relay, struct name *name, const uint16_t *ports, size_t count);
void name_close(struct name *name);
void relay_accept(struct watch *watch, uint32_t events);

/* relay-dns.c */
void dns_serve_udp(struct watch *watch, uint32_t events);
void dns_serve_tcp(struct watch *watch, uint32_t events);

#endif
