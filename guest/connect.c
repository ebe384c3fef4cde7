/* `corral-connect HOST PORT`, a program of a sandbox with egress: stdin and stdout become a connection through the HTTP proxy, for what speaks no proxy
 * itself (`ssh -o ProxyCommand='corral-connect %h %p'`). It has no right that its caller lacks.
 * Exit status: 0, 1 with the proxy's own words on stderr when it refuses, else 2. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "frame.h"
#include "names.h"
#include "relay.h"
#include "roles.h"
#include "worker.h"

enum { HOST_MAX = 253, HEAD_BYTES = 8192, REQUEST_BYTES = 1024, PORT_MAX = 65535, STATUS_AT = 9 };

static int fail(const char *what) {
    fprintf(stderr, "corral-connect: %s\n", what);
    return 2;
}

/* SAFETY: nothing that ends a line or a word: the host becomes part of a request. */
static bool host_ok(const char *host) {
    size_t length = strlen(host);
    for (size_t i = 0; i < length; i++)
        if (!isalnum((unsigned char)host[i]) && !strchr("-._:", host[i])) return false;
    return length > 0 && length <= HOST_MAX;
}

static int dial_proxy(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(RELAY_PROXY_PORT), .sin_addr.s_addr = htonl(STUB_OWN)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&at, sizeof at) == 0) return fd;
    if (fd >= 0) close(fd);
    return -1;
}

/* The answer's head, byte by byte: what follows it is the other end's. False: it is cut off or too long. */
static bool read_head(int fd, char *head) {
    size_t length = 0;
    while (length < HEAD_BYTES - 1) {
        ssize_t count = read(fd, head + length, 1);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return false;
        head[++length] = 0;
        if (length >= 4 && strcmp(head + length - 4, "\r\n\r\n") == 0) return true;
    }
    return false;
}

/* The first line of the body is the refusal's reason. */
static int refused(int fd, const char *head) {
    char line[HEAD_BYTES];
    size_t length = 0;
    for (ssize_t count; length < sizeof line - 1 && (count = read(fd, line + length, sizeof line - 1 - length)) > 0;) length += (size_t)count;
    line[length] = 0;
    line[strcspn(line, "\r\n")] = 0;
    for (char *at = line; *at; at++)
        if (!isprint((unsigned char)*at)) *at = '?';
    if (*line) fprintf(stderr, "%s\n", line);
    else fprintf(stderr, "corral-connect: the proxy answered %.3s\n", strlen(head) > STATUS_AT ? head + STATUS_AT : "nothing");
    return 1;
}

int connect_main(int argc, char **argv) {
    uint64_t port;
    char request[REQUEST_BYTES], head[HEAD_BYTES];
    if (argc != 3 || !host_ok(argv[1]) || !record_number(argv[2], PORT_MAX, &port) || port == 0) return fail("usage: corral-connect HOST PORT");
    signal(SIGPIPE, SIG_IGN);
    int fd = dial_proxy();
    if (fd < 0) return fail("the egress proxy does not answer: this sandbox has no network");
    bool six = strchr(argv[1], ':') != NULL;
    const char *open = six ? "[" : "", *end = six ? "]" : "";
    int length = snprintf(request, sizeof request, "CONNECT %s%s%s:%s HTTP/1.1\r\nHost: %s%s%s:%s\r\n\r\n", open, argv[1], end, argv[2], open, argv[1], end, argv[2]);
    if (send(fd, request, (size_t)length, MSG_NOSIGNAL) != length || !read_head(fd, head)) return fail("the egress proxy closed the connection");
    if (strncmp(head, "HTTP/1.1 200", STATUS_AT + 3) != 0) return refused(fd, head);
    int error = dial_relay(fd);
    return error ? fail(strerror(error)) : 0;
}
