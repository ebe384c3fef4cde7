/* Connections of conn.h.
 * Invariant: a dead connection sends, reads and delivers nothing; it is given back to its owner exactly once. */
#define _GNU_SOURCE
#include "conn.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

static void want(struct conn *conn) {
    uint32_t events = 0;
    if (conn_backlog(conn) < conn->limit) events |= EPOLLIN;
    if (conn->blocked) events |= EPOLLOUT;
    if (loop_watch(conn->loop, &conn->watch, events) != 0) conn_close(conn);
}

static void flush(struct conn *conn) {
    bool was_full = conn_backlog(conn) >= conn->limit;
    loop_timer_stop(conn->loop, &conn->soon);
    conn->blocked = false;
    while (conn_backlog(conn) > 0) {
        /* SAFETY: MSG_NOSIGNAL, or a peer that left would end this process by SIGPIPE. */
        ssize_t count = send(conn->watch.fd, buffer_bytes(&conn->out), conn_backlog(conn), MSG_NOSIGNAL);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0 && errno == EAGAIN) {
            conn->blocked = true;
            break;
        }
        if (count < 0) {
            conn_close(conn);
            return;
        }
        buffer_drop(&conn->out, (size_t)count);
    }
    /* An idle connection holds no memory; a busy one keeps a small piece. */
    if (conn_backlog(conn) == 0 && conn->out.size > 256 * 1024) buffer_free(&conn->out);
    want(conn);
    bool has_room = was_full ? conn_backlog(conn) < conn->limit : conn->wants_room && conn_backlog(conn) <= conn->limit / 2;
    if (!has_room || conn->dead) return;
    conn->wants_room = false;
    if (conn->on_room) conn->on_room(conn);
}

static void run_later(struct later *later) {
    struct conn *conn = CONTAINER_OF(later, struct conn, later);
    if (!conn->dead) {
        flush(conn); /* when this closes it, it is queued again and ended then */
        return;
    }
    close(conn->watch.fd);
    conn->watch.fd = -1;
    conn->later.queued = true; /* nothing may queue it again: the owner is about to free it */
    frame_reader_free(&conn->in);
    buffer_free(&conn->out);
    conn->on_close(conn);
}

void conn_close(struct conn *conn) {
    if (conn->dead) return;
    conn->dead = true;
    loop_unwatch(conn->loop, &conn->watch);
    loop_timer_stop(conn->loop, &conn->soon);
    loop_later(conn->loop, &conn->later);
}

static void deliver(struct conn *conn) {
    struct frame frame;
    while (!conn->dead) {
        enum frame_verdict verdict = frame_next(&conn->in, &frame);
        if (verdict == FRAME_MORE) return;
        if (verdict == FRAME_BROKEN || !conn->on_frame(conn, &frame)) conn_close(conn);
    }
}

static void ready(struct watch *watch, uint32_t events) {
    struct conn *conn = CONTAINER_OF(watch, struct conn, watch);
    if (events & EPOLLOUT) loop_later(conn->loop, &conn->later);
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR))) return;
    if (conn_backlog(conn) >= conn->limit) {
        /* Reading is held back; a peer that has gone shows in the write. */
        loop_later(conn->loop, &conn->later);
        return;
    }
    size_t room;
    uint8_t *at = frame_room(&conn->in, &room);
    ssize_t count = at ? read(watch->fd, at, room) : -1;
    if (at && count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (count <= 0) {
        conn_close(conn);
        return;
    }
    frame_took(&conn->in, (size_t)count);
    deliver(conn);
    if (!conn->dead) want(conn);
}

static void flush_soon(struct timer *timer) {
    struct conn *conn = CONTAINER_OF(timer, struct conn, soon);
    loop_later(conn->loop, &conn->later);
}

int conn_open(struct conn *conn, struct loop *loop, int fd) {
    conn->loop = loop;
    conn->watch = (struct watch){.fd = fd, .ready = ready};
    conn->later = (struct later){.run = run_later};
    conn->soon = (struct timer){.fire = flush_soon};
    if (!conn->limit) conn->limit = MAX_FRAME_BYTES;
    int flags = fcntl(fd, F_GETFL);
    int error = flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ? -errno : loop_watch(loop, &conn->watch, EPOLLIN);
    if (error != 0) close(fd);
    return error;
}

uint8_t *conn_reserve(struct conn *conn, size_t length) {
    if (conn->dead) return NULL;
    uint8_t *at = buffer_room(&conn->out, FRAME_HEAD_BYTES + length, NULL);
    if (!at) {
        conn_close(conn);
        return NULL;
    }
    return at + FRAME_HEAD_BYTES;
}

static void put_frame(struct conn *conn, uint8_t type, uint32_t id, size_t length) {
    uint8_t *head = buffer_room(&conn->out, FRAME_HEAD_BYTES + length, NULL);
    if (!head) return; /* cannot be: conn_reserve has made this room */
    frame_head_put(head, type, id, (uint32_t)length);
    buffer_took(&conn->out, FRAME_HEAD_BYTES + length);
}

void conn_commit(struct conn *conn, uint8_t type, uint32_t id, size_t length) {
    put_frame(conn, type, id, length);
    loop_later(conn->loop, &conn->later);
}

void conn_send_soon(struct conn *conn, uint8_t type, uint32_t id, const void *body, size_t length) {
    uint8_t *at = conn_reserve(conn, length);
    if (!at) return;
    if (length) __builtin_memcpy(at, body, length);
    put_frame(conn, type, id, length);
    if (!conn->soon.armed && !conn->later.queued) loop_timer(conn->loop, &conn->soon, in_ms(1));
}

void conn_send(struct conn *conn, uint8_t type, uint32_t id, const void *body, size_t length) {
    uint8_t *at = conn_reserve(conn, length);
    if (!at) return;
    if (length) __builtin_memcpy(at, body, length);
    conn_commit(conn, type, id, length);
}
