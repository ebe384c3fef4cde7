/* The spawner's side of TOOL: starts one process per request and carries its streams. It does not know what a tool does.
 * Invariant: at most STDIN_WINDOW bytes of stdin wait here, and no more of stdout is read than the client gave credit for and the
 * connection has room for. TOOL_END follows the last byte of stdout, always. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "spawner.h"
#include "sys.h"

enum { STDIN_WINDOW = 256 * 1024, STDOUT_WINDOW = 1024 * 1024, CHUNK = 64 * 1024, ERROR_BYTES = 4096, TOOLS_MAX = 64 };

struct toolrun {
    struct toolrun *next;
    struct spawner *spawner;
    uint32_t request;
    pid_t pid;
    struct watch in, out, err; /* fd -1: closed */
    struct buffer waiting;     /* stdin not yet taken */
    bool in_ends, exited;
    bool orphan; /* whoever asked is gone: what it says is read and dropped */
    uint64_t credit;
    int status;
    uint32_t error_bytes;
    char error[ERROR_BYTES];
};

static void close_watch(struct spawner *spawner, struct watch *watch) {
    if (watch->fd < 0) return;
    loop_unwatch(&spawner->loop, watch);
    close(watch->fd);
    watch->fd = -1;
}

static void finish_if_done(struct toolrun *run) {
    struct spawner *spawner = run->spawner;
    if (!run->exited || run->out.fd >= 0 || run->err.fd >= 0) return;
    uint8_t body[8 + ERROR_BYTES];
    put_u32(body, WIFEXITED(run->status) ? (uint32_t)WEXITSTATUS(run->status) : UINT32_MAX);
    put_u32(body + 4, WIFSIGNALED(run->status) ? (uint32_t)WTERMSIG(run->status) : 0);
    memcpy(body + 8, run->error, run->error_bytes);
    if (!run->orphan) answer(spawner, ANSWER_TOOL_END, run->request, body, 8 + run->error_bytes);
    close_watch(spawner, &run->in);
    buffer_free(&run->waiting);
    struct toolrun **place = &spawner->tools;
    while (*place != run) place = &(*place)->next;
    *place = run->next;
    spawner->tool_count--;
    free(run);
    spawner_maybe_exit(spawner);
}

static void watch_out(struct toolrun *run) {
    struct spawner *spawner = run->spawner;
    if (run->out.fd < 0) return;
    /* When the client is gone nobody gives credit: read on, so that the end of the stream is seen. */
    bool room = run->orphan || (run->credit > 0 && conn_backlog(&spawner->conn) < spawner->conn.limit);
    if (room) loop_watch(&spawner->loop, &run->out, EPOLLIN);
    else loop_unwatch(&spawner->loop, &run->out);
}

static void out_ready(struct watch *watch, uint32_t events) {
    (void)events;
    struct toolrun *run = CONTAINER_OF(watch, struct toolrun, out);
    struct spawner *spawner = run->spawner;
    uint8_t sink[CHUNK];
    size_t want = run->credit < CHUNK && !run->orphan ? (size_t)run->credit : CHUNK;
    uint8_t *at = run->orphan ? sink : conn_reserve(&spawner->conn, want);
    if (!at) return;
    ssize_t count = read(watch->fd, at, want);
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (count <= 0) {
        close_watch(spawner, watch);
        finish_if_done(run);
        return;
    }
    if (!run->orphan) {
        conn_commit(&spawner->conn, ANSWER_TOOL_OUT, run->request, (size_t)count);
        run->credit -= (uint64_t)count;
    }
    watch_out(run);
}

static void err_ready(struct watch *watch, uint32_t events) {
    (void)events;
    struct toolrun *run = CONTAINER_OF(watch, struct toolrun, err);
    char sink[512];
    /* The first 4 KiB are kept, the rest is read and dropped: a tool must not hang on its own complaints. */
    bool keep = run->error_bytes < ERROR_BYTES;
    ssize_t count = keep ? read(watch->fd, run->error + run->error_bytes, ERROR_BYTES - run->error_bytes) : read(watch->fd, sink, sizeof sink);
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (count <= 0) {
        close_watch(run->spawner, watch);
        finish_if_done(run);
    } else if (keep) {
        run->error_bytes += (uint32_t)count;
    }
}

static void push_in(struct toolrun *run) {
    struct spawner *spawner = run->spawner;
    size_t taken = 0;
    while (run->in.fd >= 0 && buffer_length(&run->waiting) > 0) {
        ssize_t count = write(run->in.fd, buffer_bytes(&run->waiting), buffer_length(&run->waiting));
        if (count < 0 && errno == EINTR) continue;
        if (count < 0 && errno == EAGAIN) break;
        if (count < 0) {
            close_watch(spawner, &run->in);
            break;
        }
        buffer_drop(&run->waiting, (size_t)count);
        taken += (size_t)count;
    }
    if (run->in.fd < 0) { /* the tool has stopped reading: take it all, or the client waits for credit for ever */
        taken += buffer_length(&run->waiting);
        buffer_free(&run->waiting);
    } else if (buffer_length(&run->waiting) > 0) {
        loop_watch(&spawner->loop, &run->in, EPOLLOUT);
    } else {
        loop_unwatch(&spawner->loop, &run->in);
        buffer_free(&run->waiting);
        if (run->in_ends) close_watch(spawner, &run->in);
    }
    if (!taken || run->orphan) return;
    uint8_t body[4];
    put_u32(body, (uint32_t)taken);
    answer(spawner, ANSWER_TOOL_CREDIT, run->request, body, sizeof body);
}

static void in_ready(struct watch *watch, uint32_t events) {
    (void)events;
    push_in(CONTAINER_OF(watch, struct toolrun, in));
}

_Noreturn static void become_tool(struct spawner *spawner, const struct tool_request *request, int in, int out, int err) {
    /* SAFETY: without it a tool outlives a spawner that was killed, and writes on with nobody to stop it. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    char *argv[TOOL_ARGS_MAX + 3] = {(char *)"corral-guest", (char *)"tool"};
    for (uint32_t i = 0; i <= request->args; i++) argv[2 + i] = (char *)request->arg[i];
    char *env[] = {NULL};
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    /* The pipes' numbers are above 2: 0 to 2 are always open in the spawner. */
    if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0 || chdir("/") != 0) _exit(1);
    sys_execveat(spawner->guest, argv, env);
    static const char message[] = "the guest program cannot be started from memory\n";
    ssize_t ignored = write(2, message, sizeof message - 1);
    (void)ignored;
    _exit(1);
}

static int start(struct spawner *spawner, struct toolrun *run, const struct tool_request *request) {
    int pipes[3][2] = {{-1, -1}, {-1, -1}, {-1, -1}};
    int error = 0;
    for (int i = 0; i < 3 && !error; i++)
        if (pipe2(pipes[i], O_CLOEXEC) != 0) error = -errno;
    if (!error) {
        run->pid = fork();
        if (run->pid == 0) become_tool(spawner, request, pipes[0][0], pipes[1][1], pipes[2][1]);
        if (run->pid < 0) error = -errno;
    }
    int ours[3] = {pipes[0][1], pipes[1][0], pipes[2][0]}, theirs[3] = {pipes[0][0], pipes[1][1], pipes[2][1]};
    for (int i = 0; i < 3; i++) {
        if (theirs[i] >= 0) close(theirs[i]);
        if (error && ours[i] >= 0) close(ours[i]);
        if (!error) fcntl(ours[i], F_SETFL, O_NONBLOCK);
    }
    if (error) return error;
    run->in = (struct watch){.fd = ours[0], .ready = in_ready};
    run->out = (struct watch){.fd = ours[1], .ready = out_ready};
    run->err = (struct watch){.fd = ours[2], .ready = err_ready};
    return 0;
}

void on_tool(struct spawner *spawner, const struct frame *frame) {
    struct tool_request request;
    if (tool_parse(frame->body, frame->length, &request)) {
        answer_error(spawner, frame->id, EINVAL, 0, request.wrong);
        return;
    }
    struct toolrun *run = spawner->tool_count < TOOLS_MAX ? calloc(1, sizeof *run) : NULL;
    if (!run) {
        answer_error(spawner, frame->id, EAGAIN, 0, "too many tools run at once");
        return;
    }
    run->spawner = spawner;
    run->request = frame->id;
    run->credit = STDOUT_WINDOW;
    int error = start(spawner, run, &request);
    if (error) {
        free(run);
        answer_error(spawner, frame->id, -error, 0, "a tool could not be started");
        return;
    }
    run->next = spawner->tools;
    spawner->tools = run;
    spawner->tool_count++;
    watch_out(run);
    loop_watch(&spawner->loop, &run->err, EPOLLIN);
}

/* TOOL_IN, TOOL_EOF, TOOL_KILL, CREDIT. A tool that has ended is no error: the frame crossed its TOOL_END. False: protocol broken. */
bool on_tool_frame(struct spawner *spawner, const struct frame *frame) {
    struct toolrun *run = spawner->tools;
    while (run && (run->orphan || run->request != frame->id)) run = run->next;
    if (!run) return true;
    switch (frame->type) {
    case REQUEST_TOOL_IN:
        if (run->in_ends || buffer_length(&run->waiting) + frame->length > STDIN_WINDOW) return false;
        if (!buffer_add(&run->waiting, frame->body, frame->length)) return false;
        push_in(run);
        return true;
    case REQUEST_TOOL_EOF:
        run->in_ends = true;
        push_in(run);
        return true;
    case REQUEST_TOOL_KILL:
        /* SAFETY: not reaped yet (then the run would be gone or `exited`), so the pid is still its own. */
        if (!run->exited) kill(run->pid, SIGKILL);
        return true;
    default:
        if (frame->length != 4 || run->credit + get_u32(frame->body) > STDOUT_WINDOW) return false;
        run->credit += get_u32(frame->body);
        watch_out(run);
        return true;
    }
}

/* The connection has room again. */
void tools_room(struct spawner *spawner) {
    for (struct toolrun *run = spawner->tools; run; run = run->next) watch_out(run);
}

/* SAFETY: only those not reaped yet, whose pids are still their own. */
void tools_kill(struct spawner *spawner) {
    for (struct toolrun *run = spawner->tools; run; run = run->next)
        if (!run->exited) kill(run->pid, SIGKILL);
}

void tools_orphan(struct spawner *spawner) {
    tools_kill(spawner);
    for (struct toolrun *run = spawner->tools; run; run = run->next) {
        run->orphan = true;
        watch_out(run);
    }
}

bool tool_reaped(struct spawner *spawner, pid_t pid, int status) {
    for (struct toolrun *run = spawner->tools; run; run = run->next) {
        if (run->pid != pid || run->exited) continue;
        run->exited = true;
        run->status = status;
        finish_if_done(run);
        return true;
    }
    return false;
}
