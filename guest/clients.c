/* Whom the spawner serves: the client it was started by, and on a server one successor after the other.
 * A successor connects to the socket of `--listen` and says ADOPT first; until then it is nobody. No policy and no sandbox is made here.
 * Invariant: one client at a time. What an earlier one asked is never answered to a later one, and when there is none for `wait_ms`,
 * everything ends. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "listen.h"
#include "spawner.h"
#include "sys.h"

enum { BACKLOG = 4, ASK_MS = 2000, ACCEPT_AGAIN_MS = 100 };

void answer(struct spawner *spawner, uint8_t type, uint32_t request, const void *body, size_t length) {
    if (spawner->client == CLIENT_SERVED) conn_send(&spawner->conn, type, request, body, length);
}

static void put_sandboxes(struct spawner *spawner, struct buffer *out, bool *ok) {
    for (struct sandbox *sandbox = spawner->sandboxes; sandbox && *ok; sandbox = sandbox->next) {
        if (sandbox->state != SANDBOX_LIVE) continue;
        *ok = record_put(out, "sandbox") && record_put(out, sandbox->id) && record_put_number(out, (uint64_t)sandbox->pid);
    }
}

/* Its answer is all that a successor knows of us. */
static bool on_adopt(struct spawner *spawner, const struct frame *frame) {
    if (frame->type != REQUEST_ADOPT || frame->length != 0 || spawner->closing) return false;
    loop_timer_stop(&spawner->loop, &spawner->asking);
    loop_timer_stop(&spawner->loop, &spawner->waiting);
    spawner->client = CLIENT_SERVED;
    struct buffer out = {0};
    bool ok = facts_put(&out) && record_put(&out, "pid") && record_put_number(&out, (uint64_t)getpid());
    ok = ok && record_put(&out, "mark") && record_put(&out, spawner->mark) && parents_put(&spawner->cgroups, &out);
    put_sandboxes(spawner, &out, &ok);
    ok = ok && buffer_length(&out) <= MAX_FRAME_BYTES;
    if (ok) answer(spawner, ANSWER_OK, frame->id, buffer_bytes(&out), buffer_length(&out));
    else answer_error(spawner, frame->id, ENOMEM, 0, "out of memory, or more sandboxes than an answer holds");
    buffer_free(&out);
    return true;
}

static bool on_frame(struct conn *conn, const struct frame *frame) {
    struct spawner *spawner = CONTAINER_OF(conn, struct spawner, conn);
    if (spawner->client == CLIENT_ASKING) return on_adopt(spawner, frame);
    if (frame->type == REQUEST_CONFIGURE) {
        on_configure(spawner, frame);
        return true;
    }
    if (!spawner->configured) return false;
    switch (frame->type) {
    case REQUEST_CREATE: on_create(spawner, frame); return true;
    case REQUEST_DESTROY: on_destroy(spawner, frame); return true;
    case REQUEST_TOOL: on_tool(spawner, frame); return true;
    case REQUEST_STATS: on_stats(spawner, frame); return true;
    case REQUEST_FREEZE: on_freeze(spawner, frame); return true;
    case REQUEST_MOUNT: on_mount(spawner, frame); return true;
    case REQUEST_END: close_down(spawner); return frame->length == 0;
    case REQUEST_TOOL_IN:
    case REQUEST_TOOL_EOF:
    case REQUEST_TOOL_KILL:
    case REQUEST_CREDIT: return on_tool_frame(spawner, frame);
    default: return false;
    }
}

static void waited(struct timer *timer) { close_down(CONTAINER_OF(timer, struct spawner, waiting)); }

static void on_close(struct conn *conn) {
    struct spawner *spawner = CONTAINER_OF(conn, struct spawner, conn);
    bool was_client = spawner->client == CLIENT_SERVED;
    spawner->client = CLIENT_NONE;
    loop_timer_stop(&spawner->loop, &spawner->asking);
    if (!was_client) return; /* the wait for a successor goes on */
    tools_orphan(spawner);
    sandboxes_orphan(spawner);
    if (spawner->listener.fd < 0 || !spawner->configured) {
        close_down(spawner);
        return;
    }
    spawner->waiting.fire = waited;
    loop_timer(&spawner->loop, &spawner->waiting, in_ms(spawner->wait_ms));
}

static void on_room(struct conn *conn) { tools_room(CONTAINER_OF(conn, struct spawner, conn)); }

int client_open(struct spawner *spawner, int fd, enum client_state state) {
    spawner->conn = (struct conn){.on_frame = on_frame, .on_close = on_close, .on_room = on_room};
    int error = conn_open(&spawner->conn, &spawner->loop, fd);
    if (!error) spawner->client = state;
    return error;
}

/* Silence is no successor: whoever is in earnest comes after it. */
static void asked_nothing(struct timer *timer) { conn_close(&CONTAINER_OF(timer, struct spawner, asking)->conn); }

/* It has closed its end, which we may not have read yet. */
static bool has_left(const struct conn *conn) {
    struct pollfd poll_fd = {.fd = conn->watch.fd, .events = POLLRDHUP};
    return conn->dead || (poll(&poll_fd, 1, 0) > 0 && (poll_fd.revents & (POLLRDHUP | POLLHUP | POLLERR)));
}

static void accept_again(struct timer *timer) {
    struct spawner *spawner = CONTAINER_OF(timer, struct spawner, accept_again);
    loop_watch(&spawner->loop, &spawner->listener, EPOLLIN);
}

static void on_connection(struct watch *watch, uint32_t events) {
    (void)events;
    struct spawner *spawner = CONTAINER_OF(watch, struct spawner, listener);
    bool taken = spawner->client != CLIENT_NONE;
    if (taken && has_left(&spawner->conn)) return; /* read to its end within a few rounds; the newcomer stays in the queue until then */
    int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        if (errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM) return;
        /* Asking again at once would only spin. */
        loop_unwatch(&spawner->loop, watch);
        spawner->accept_again.fire = accept_again;
        loop_timer(&spawner->loop, &spawner->accept_again, in_ms(ACCEPT_AGAIN_MS));
        return;
    }
    if (taken || !local_is_own_user(fd)) {
        close(fd);
        return;
    }
    if (client_open(spawner, fd, CLIENT_ASKING) != 0) return;
    spawner->asking.fire = asked_nothing;
    loop_timer(&spawner->loop, &spawner->asking, in_ms(ASK_MS));
}

int successors_listen(struct spawner *spawner, const char *path) {
    int error = local_clear(path);
    if (error) return error;
    int fd = local_listen(path, BACKLOG);
    if (fd < 0) return fd;
    strcpy(spawner->socket, path);
    spawner->listener = (struct watch){.fd = fd, .ready = on_connection};
    return loop_watch(&spawner->loop, &spawner->listener, EPOLLIN);
}

void successors_refuse(struct spawner *spawner) {
    loop_timer_stop(&spawner->loop, &spawner->waiting);
    loop_timer_stop(&spawner->loop, &spawner->accept_again);
    if (spawner->listener.fd < 0) return;
    loop_unwatch(&spawner->loop, &spawner->listener);
    close(spawner->listener.fd);
    spawner->listener.fd = -1;
    unlink(spawner->socket);
}
