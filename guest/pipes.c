/* Pipes of pipes.h. They belong to the command's user, so that a command can open /dev/stdout and its like.
 * Invariant: every descriptor made here is close-on-exec; the ends that PID 1 keeps never block it, those of the command do. */
#define _GNU_SOURCE
#include "pipes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "fsids.h"
#include "pty.h"

/* The control pipes must not lie on the numbers that the command gets them by. */
enum { ABOVE_CONTROL = 6, DRAIN_READS = 64 };

void ends_none(struct ends *ends) { *ends = (struct ends){{-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}, -1}; }

static void close_one(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

void ends_given(struct ends *ends) {
    int *theirs[] = {&ends->in[1], &ends->out[1], &ends->err[1], &ends->control_in[1], &ends->control_out[1]};
    for (size_t i = 0; i < sizeof theirs / sizeof *theirs; i++) close_one(theirs[i]);
}

void ends_close(struct ends *ends) {
    int *ours[] = {&ends->in[0], &ends->out[0], &ends->err[0], &ends->control_in[0], &ends->control_out[0], &ends->again};
    ends_given(ends);
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++) close_one(ours[i]);
}

/* `kept`: which end of the pipe stays here, 0 to read, 1 to write. */
static int make_pipe(int pair[2], int kept) {
    int made[2];
    if (pipe2(made, O_CLOEXEC) != 0) return errno;
    pair[0] = made[kept];
    pair[1] = made[!kept];
    return fcntl(pair[0], F_SETFL, O_NONBLOCK) == 0 ? 0 : errno;
}

static int move_up(int *fd) {
    int moved = fcntl(*fd, F_DUPFD_CLOEXEC, ABOVE_CONTROL);
    if (moved < 0) return errno;
    close(*fd);
    *fd = moved;
    return 0;
}

/* By our own descriptor's name: a second opening of the same pipe, whose flags are not shared with the command. */
static int open_own(int fd, int flags) {
    char name[32];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    return open(name, flags | O_NONBLOCK | O_CLOEXEC);
}

static int make_control(struct ends *ends, bool stdin_too) {
    int error = make_pipe(ends->control_in, 1);
    if (error == 0) error = make_pipe(ends->control_out, 0);
    if (error == 0) error = move_up(&ends->control_in[1]);
    if (error == 0) error = move_up(&ends->control_out[1]);
    if (error != 0 || !stdin_too) return error;
    ends->again = open_own(ends->in[1], O_RDONLY);
    return ends->again < 0 ? errno : 0;
}

static int make_pipes(struct ends *ends, uint32_t flags) {
    int error = make_pipe(ends->out, 0);
    if (error == 0 && !(flags & EXEC_MERGE)) error = make_pipe(ends->err, 0);
    if (error == 0 && flags & EXEC_STDIN) error = make_pipe(ends->in, 1);
    if (error == 0 && flags & EXEC_CONTROL) error = make_control(ends, (flags & EXEC_STDIN) != 0);
    return error;
}

int ends_make(struct ends *ends, const struct facts *facts, const struct exec_request *request, const struct start *start) {
    if (request->flags & EXEC_PTY) {
        int error = pty_open(facts, start->uid, start->gid, request->rows, request->cols, &ends->out[0], &ends->out[1]);
        if (error != 0) {
            ends->out[0] = ends->out[1] = -1;
            return error;
        }
        /* Its own descriptor for writing: epoll takes each only once. */
        ends->in[0] = fcntl(ends->out[0], F_DUPFD_CLOEXEC, 3);
        return ends->in[0] < 0 ? errno : 0;
    }
    struct fsids own = fsids_take(facts, start->uid, start->gid);
    int error = make_pipes(ends, request->flags);
    fsids_back(&own);
    return error;
}

void ends_point(const struct ends *ends, struct start *start, uint32_t flags, int null_fd) {
    start->terminal = (flags & EXEC_PTY) != 0;
    start->given[0] = start->terminal ? ends->out[1] : ends->in[1] >= 0 ? ends->in[1] : null_fd;
    start->given[1] = ends->out[1];
    start->given[2] = ends->err[1] >= 0 ? ends->err[1] : ends->out[1];
    start->given[3] = ends->control_in[1];
    start->given[4] = ends->control_out[1];
    start->given_count = flags & EXEC_CONTROL ? 5 : 3;
}

int pipe_open_again(const struct facts *facts, uint32_t uid, uint32_t gid, int again) {
    static uint8_t nowhere[4096];
    /* Bounded: a command may write into its own stdin as fast as this reads. */
    for (int reads = 0; reads < DRAIN_READS && read(again, nowhere, sizeof nowhere) > 0; reads++) {}
    struct fsids own = fsids_take(facts, uid, gid);
    int fd = open_own(again, O_WRONLY);
    fsids_back(&own);
    return fd;
}
