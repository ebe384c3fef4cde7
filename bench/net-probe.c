/* Moves bytes for bench/egress-relay.ts: both ends of a connection, so that what is measured is what lies between them.
 *   net-probe proxy PATH           the proxy's end: unix socket PATH; answers `resolve` by yes, serves the rest
 *   net-probe serve PORT           the same services on 127.0.0.1 of this network
 *   net-probe send ADDR PORT BYTES seconds from connect until all has been taken
 *   net-probe ping ADDR PORT N     microseconds of N round trips of a byte, one a line
 *   net-probe dial ADDR PORT N     microseconds of N connections with one round trip each, one a line
 * A service takes what comes; a byte that comes alone is sent back. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 256 * 1024 };
static char bytes[CHUNK];

static void must(int holds, const char *what) {
    if (holds) return;
    perror(what);
    exit(1);
}

static double now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static void service(int fd) {
    for (ssize_t count; (count = read(fd, bytes, CHUNK)) > 0;)
        if (count == 1) must(send(fd, bytes, 1, MSG_NOSIGNAL) == 1, "send");
    exit(0);
}

/* The first line, byte by byte: what follows belongs to the service. */
static void entry(int fd) {
    char line[512] = "";
    for (size_t at = 0; at < sizeof line - 1 && read(fd, line + at, 1) == 1 && line[at] != '\n'; at++) {}
    if (strncmp(line, "resolve", 7) != 0) service(fd);
    must(read(fd, bytes, CHUNK) > 0 && write(fd, "yes 7\n", 6) == 6, "resolve");
    exit(0);
}

static void accept_all(int listener, void (*serve)(int)) {
    signal(SIGCHLD, SIG_IGN);
    must(listen(listener, 512) == 0, "listen");
    puts("ready"), fflush(stdout);
    for (int one = 1, fd; (fd = accept(listener, NULL, NULL)) >= 0; close(fd)) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        if (fork() == 0) serve(fd);
    }
}

static void proxy(const char *path) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    strncpy(at.sun_path, path, sizeof at.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    must(bind(fd, (void *)&at, sizeof at) == 0 && chmod(path, 0666) == 0, path);
    accept_all(fd, entry);
}

static struct sockaddr_in address(const char *host, const char *port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(port))};
    inet_pton(AF_INET, host, &at.sin_addr);
    return at;
}

static void serve_tcp(const char *port) {
    struct sockaddr_in at = address("127.0.0.1", port);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    must(bind(fd, (void *)&at, sizeof at) == 0, "bind");
    accept_all(fd, service);
}

static int dial(char **argv) {
    struct sockaddr_in at = address(argv[2], argv[3]);
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    must(connect(fd, (void *)&at, sizeof at) == 0, "connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static void trip(int fd) { must(send(fd, "x", 1, MSG_NOSIGNAL) == 1 && read(fd, bytes, 1) == 1, "round trip"); }

static void send_all(char **argv) {
    double began = now_us();
    int fd = dial(argv);
    for (long left = atol(argv[4]); left > 0;) {
        ssize_t count = send(fd, bytes, left < CHUNK ? (size_t)left : CHUNK, MSG_NOSIGNAL);
        must(count > 0, "send");
        left -= count;
    }
    shutdown(fd, SHUT_WR);
    /* The other end closes when it has taken all; the relay tells a close without a word as a reset. */
    ssize_t ignored = read(fd, bytes, 1);
    (void)ignored;
    printf("%f\n", (now_us() - began) / 1e6);
}

static void ping(char **argv) {
    int fd = dial(argv);
    for (long n = atol(argv[4]); n > 0; n--) {
        double began = now_us();
        trip(fd);
        printf("%f\n", now_us() - began);
    }
}

static void dials(char **argv) {
    for (long n = atol(argv[4]); n > 0; n--) {
        double began = now_us();
        int fd = dial(argv);
        trip(fd);
        printf("%f\n", now_us() - began);
        close(fd);
    }
}

int main(int argc, char **argv) {
    const char *what = argc > 2 ? argv[1] : "";
    if (!strcmp(what, "proxy")) proxy(argv[2]);
    else if (!strcmp(what, "serve")) serve_tcp(argv[2]);
    else if (argc > 4 && !strcmp(what, "send")) send_all(argv);
    else if (argc > 4 && !strcmp(what, "ping")) ping(argv);
    else if (argc > 4 && !strcmp(what, "dial")) dials(argv);
    else return 2;
    return 0;
}
