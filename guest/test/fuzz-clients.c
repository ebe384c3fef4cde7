/* Fuzzes whom the spawner serves (clients.c): up to four peers that connect, write anything and leave, in any order, over real sockets.
 * Bytes are a list of acts: peer and kind in one byte, then for a write a length and that many bytes.
 * Properties: a request reaches the spawner only from its client, which said ADOPT first; nobody else is told a byte; there is never more than
 * one client, and whoever comes when there is none gets in; without END or an end of the wait nothing is closed down.
 * fuzz-sources: clients.c conn.c frame.c buffer.c loop.c listen.c */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "listen.h"
#include "spawner.h"

enum { PEERS = 4, ROUNDS = 8, WAIT_MS = 3600000 };

struct peer {
    int fd;          /* -1: none */
    bool said_adopt; /* its first twelve bytes */
    uint8_t head[FRAME_HEAD_BYTES];
    size_t sent, heard;
};

static struct spawner *spawner;
static struct peer peers[PEERS];
static bool ended, left_adopted; /* whoever left since the last round had said ADOPT */

static void must(bool holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "property broken: %s\n", what);
    abort();
}

/* What clients.c calls, each a request that has come through. */
static void served(void) {
    must(spawner->client == CLIENT_SERVED, "a request is a client's");
    bool somebody = left_adopted;
    for (int i = 0; i < PEERS; i++) somebody = somebody || peers[i].said_adopt;
    must(somebody, "a client has said ADOPT");
}
void on_configure(struct spawner *s, const struct frame *frame) { (void)s, (void)frame, served(); }
void on_create(struct spawner *s, const struct frame *frame) { (void)s, (void)frame, served(); }
void on_destroy(struct spawner *s, const struct frame *frame) { (void)frame, served(), answer(s, ANSWER_OK, 1, NULL, 0); }
void on_tool(struct spawner *s, const struct frame *frame) { (void)s, (void)frame, served(); }
void on_stats(struct spawner *s, const struct frame *frame) { (void)s, (void)frame, served(); }
void on_mount(struct spawner *s, const struct frame *frame) { (void)s, (void)frame, served(); }
void on_freeze(struct spawner *s, const struct frame *frame) { (void)s, (void)frame, served(); }
bool on_tool_frame(struct spawner *s, const struct frame *frame) { return (void)s, served(), frame->length == 4; }
void tools_room(struct spawner *s) { (void)s; }
void tools_orphan(struct spawner *s) { (void)s; }
void sandboxes_orphan(struct spawner *s) { (void)s; }
bool facts_put(struct buffer *out) { return record_put(out, "version") && record_put(out, "fuzz"); }
bool parents_put(const struct cgroup_parents *cgroups, struct buffer *out) { return (void)cgroups, (void)out, true; }
void answer_error(struct spawner *s, uint32_t request, int error, uint32_t step, const char *message) {
    (void)error, (void)step, (void)message, answer(s, ANSWER_ERROR, request, NULL, 0);
}
void close_down(struct spawner *s) {
    if (s->closing) return;
    served(); /* END: the wait is longer than any fuzzing */
    s->closing = ended = true;
    successors_refuse(s);
}

static void stop(struct timer *timer) { (void)timer, spawner->loop.stopped = true; }

static void rounds(void) {
    for (int i = 0; i < ROUNDS; i++) {
        struct timer now = {.fire = stop};
        spawner->loop.stopped = false;
        loop_timer(&spawner->loop, &now, now_ns());
        must(loop_run(&spawner->loop) == 0, "the loop runs");
    }
    left_adopted = false;
    for (int i = 0; i < PEERS; i++) {
        uint8_t bytes[4096];
        ssize_t count;
        while (peers[i].fd >= 0 && (count = recv(peers[i].fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0) peers[i].heard += (size_t)count;
        must(peers[i].fd < 0 || !peers[i].heard || peers[i].said_adopt, "who did not say ADOPT is told nothing");
    }
}

static void leave(struct peer *peer) {
    left_adopted = left_adopted || peer->said_adopt;
    if (peer->fd >= 0) close(peer->fd);
    *peer = (struct peer){.fd = -1};
}

static void come(struct peer *peer, const char *path) {
    leave(peer);
    rounds(); /* so that the one who left is gone */
    bool was_free = spawner->client == CLIENT_NONE && !ended;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, path);
    peer->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (peer->fd < 0) abort();
    bool joined = connect(peer->fd, (struct sockaddr *)&address, sizeof address) == 0;
    must(joined || ended, "the socket takes connections until the end");
    rounds();
    must(!was_free || spawner->client == CLIENT_ASKING, "who comes when there is no client gets in");
}

static void say(struct peer *peer, const uint8_t *bytes, size_t count) {
    if (peer->fd < 0 || count == 0) return;
    ssize_t taken = send(peer->fd, bytes, count, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (taken <= 0) return;
    for (size_t i = 0; i < (size_t)taken && peer->sent + i < sizeof peer->head; i++) peer->head[peer->sent + i] = bytes[i];
    peer->sent += (size_t)taken;
    static const uint8_t zero[3];
    peer->said_adopt = peer->sent >= sizeof peer->head && get_u32(peer->head) == 0 && peer->head[8] == REQUEST_ADOPT && !memcmp(peer->head + 9, zero, 3);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[64];
    snprintf(path, sizeof path, "/tmp/corral-fuzz-%d.s", (int)getpid());
    spawner = calloc(1, sizeof *spawner);
    if (!spawner || loop_open(&spawner->loop) != 0) abort();
    spawner->configured = true;
    spawner->wait_ms = WAIT_MS;
    ended = left_adopted = false;
    for (int i = 0; i < PEERS; i++) peers[i] = (struct peer){.fd = -1};
    must(successors_listen(spawner, path) == 0, "it listens, also where one before it was killed");
    for (size_t at = 0; at < size;) {
        struct peer *peer = &peers[data[at] % PEERS];
        unsigned act = data[at] / PEERS % 4;
        at++;
        if (act == 0) come(peer, path);
        else if (act == 1) leave(peer);
        else if (at < size) {
            size_t count = data[at] < size - at - 1 ? data[at] : size - at - 1;
            say(peer, data + at + 1, count);
            at += 1 + count;
        }
        if (act != 3) rounds(); /* else two acts fall into one round */
    }
    for (int i = 0; i < PEERS; i++) leave(&peers[i]);
    rounds();
    must(ended || spawner->client == CLIENT_NONE, "who has left is no client");
    must(ended == (spawner->listener.fd < 0), "it listens until the end");
    successors_refuse(spawner);
    loop_timer_stop(&spawner->loop, &spawner->asking);
    close(spawner->loop.epoll);
    free(spawner);
    return 0;
}
