/* A connection: frames in, frames out, both bounded. Used by the spawner for its one socket and by PID 1 for its eight.
 * Not a dispatcher: what a frame means is the owner's.
 * Invariant: no frame is read while `limit` bytes or more wait to be written, so a peer that does not read costs no memory.
 * Descriptors sent along (SCM_RIGHTS) never arrive: reads carry no control buffer and the kernel closes them. */
#ifndef CORRAL_CONN_H
#define CORRAL_CONN_H

#include "frame.h"
#include "loop.h"

struct conn {
    struct watch watch;
    struct later later;
    struct timer soon;
    struct loop *loop;
    struct frame_reader in;
    struct buffer out;
    size_t limit;
    bool dead;
    bool blocked; /* the socket took less than it was given */
    bool wants_room; /* set by the owner: call on_room when at most half of `limit` waits */
    /* false: the frame breaks the protocol, the connection is closed. May call conn_close itself. */
    bool (*on_frame)(struct conn *conn, const struct frame *frame);
    /* Called once, at the end of the round in which it closed; may free the connection. */
    void (*on_close)(struct conn *conn);
    /* NULL, or called when fewer than `limit` bytes wait again, and once for each time that wants_room was set; must not send from here. */
    void (*on_room)(struct conn *conn);
};

/* Takes over `fd` (made non-blocking) in a zeroed struct whose callbacks are set. 0 or -errno; on error fd is closed. */
int conn_open(struct conn *conn, struct loop *loop, int fd);
/* Written at the end of the round. No memory: the connection closes, since an answer was lost. */
void conn_send(struct conn *conn, uint8_t type, uint32_t id, const void *body, size_t length);
/* The same, but it may wait a moment for something that follows: a short command's STARTED and EXIT then cost its reader one wake-up. */
void conn_send_soon(struct conn *conn, uint8_t type, uint32_t id, const void *body, size_t length);
/* To read straight into the connection: room for a body of `length`, then conn_commit with how much of it is used. NULL: no memory, closed. */
uint8_t *conn_reserve(struct conn *conn, size_t length);
void conn_commit(struct conn *conn, uint8_t type, uint32_t id, size_t length);
/* Bytes that wait to be written. */
static inline size_t conn_backlog(const struct conn *conn) { return buffer_length(&conn->out); }
void conn_close(struct conn *conn);

#endif
