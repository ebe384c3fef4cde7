/* Life of a command: begin, stop, end. Bytes are stream.c's work, processes start.c's and tree.c's.
 * Invariant: every EXEC is answered by exactly one EXIT while its connection lives, after the last byte that the command wrote itself;
 * after the EXIT of a command that was stopped nothing of its tree runs any more. */
#define _GNU_SOURCE
#include "exec.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "count.h"
#include "env.h"
#include "guest.h"
#include "pty.h"
#include "start.h"
#include "worker.h"

enum { EXIT_BYTES = 40, KILL_AGAIN_MS = 50 };

static struct exec **bucket_of(struct exec **buckets, uint32_t key) { return &buckets[key % EXEC_BUCKETS]; }

struct exec *exec_find(const struct client *client, uint32_t id) {
    struct exec *exec = *bucket_of(client->guest->by_id, id);
    while (exec && (exec->id != id || exec->client != client)) exec = exec->next_by_id;
    return exec;
}

static void forget_pid(struct exec *exec) {
    struct exec **place = bucket_of(exec->guest->by_pid, (uint32_t)exec->pid);
    while (*place && *place != exec) place = &(*place)->next_by_pid;
    if (*place) *place = exec->next_by_pid;
}

static void forget_id(struct exec *exec) {
    struct exec **place = bucket_of(exec->guest->by_id, exec->id);
    while (*place && *place != exec) place = &(*place)->next_by_id;
    if (*place) *place = exec->next_by_id;
}

static void answer_exit(struct client *client, uint32_t id, const struct exec *exec, uint32_t start_errno, uint32_t flags) {
    uint8_t body[EXIT_BYTES];
    bool ended = exec && start_errno == 0;
    put_u32(body, ended && WIFEXITED(exec->status) ? (uint32_t)WEXITSTATUS(exec->status) : (uint32_t)-1);
    put_u32(body + 4, ended && WIFSIGNALED(exec->status) ? (uint32_t)WTERMSIG(exec->status) : 0);
    put_u32(body + 8, start_errno);
    put_u32(body + 12, flags);
    put_u64(body + 16, ended ? exec->cpu_us : 0);
    put_u64(body + 24, ended ? exec->max_rss : 0);
    put_u64(body + 32, ended ? exec->dropped : 0);
    conn_send(&client->conn, ANSWER_EXIT, id, body, sizeof body);
}

/* Limits hit since `exec` began: by it, by what it started, or by a command beside it. */
static uint32_t hits(const struct exec *exec) {
    const struct guest *guest = exec->guest;
    uint32_t flags = 0;
    if (count_read(guest->memory_events, "oom_kill") > exec->memory_before) flags |= EXIT_MEMORY_HIT;
    if (count_read(guest->pids_events, "max") > exec->pids_before) flags |= EXIT_PIDS_HIT;
    return flags;
}

static void tree_signal(struct exec *exec, int number) {
    if (exec->slot) slot_signal(exec->slot, number);
    else session_signal(exec->pid, number, exec->guest->running_count <= 1 && !(exec->flags & EXEC_WORKER));
}

static void climb(struct timer *timer) {
    struct exec *exec = CONTAINER_OF(timer, struct exec, ladder);
    static const int rungs[] = {SIGINT, SIGTERM, SIGKILL};
    int number = rungs[exec->rung < 3 ? exec->rung : 2];
    exec->rung++;
    tree_signal(exec, number);
    /* A stopped process takes no signal but SIGKILL before it is continued. */
    if (number != SIGKILL) tree_signal(exec, SIGCONT);
    loop_timer(&exec->guest->loop, timer, in_ms(number == SIGKILL ? KILL_AGAIN_MS : exec->grace_ms));
}

void exec_stop(struct exec *exec, uint32_t why) {
    if (exec->rung > 0) return;
    if (exec->phase == EXEC_RUNNING) {
        exec->exit_flags |= why;
        climb(&exec->ladder);
    } else {
        exec->rung = 1; /* it has ended; what its reader does not take is no longer waited for */
        exec_progress(exec);
    }
}

static void kill_now(struct exec *exec) {
    exec->rung = 2;
    climb(&exec->ladder);
}

static void timed_out(struct timer *timer) { exec_stop(CONTAINER_OF(timer, struct exec, deadline), EXIT_TIMED_OUT); }

static void fell_silent(struct timer *timer) {
    struct exec *exec = CONTAINER_OF(timer, struct exec, idle);
    uint64_t due = exec->last_output + (uint64_t)exec->idle_ms * 1000000u;
    if (now_ns() < due) loop_timer(&exec->guest->loop, timer, due);
    else exec_stop(exec, EXIT_IDLE);
}

static void look_again(struct timer *timer) { exec_resume(CONTAINER_OF(timer, struct exec, again)); }

void exec_resume(struct exec *exec) {
    stream_resume(&exec->out);
    stream_resume(&exec->err);
    if (exec->phase != EXEC_RUNNING) exec_progress(exec); /* may free it */
}

static void unlink_lingering(struct exec *exec) {
    struct guest *guest = exec->guest;
    *(exec->older ? &exec->older->newer : &guest->lingering_first) = exec->newer;
    *(exec->newer ? &exec->newer->older : &guest->lingering_last) = exec->older;
}

static void exec_free(struct exec *exec) {
    struct guest *guest = exec->guest;
    stream_close(&exec->out);
    stream_close(&exec->err);
    loop_timer_stop(&guest->loop, &exec->again);
    if (exec->phase == EXEC_LINGERING) unlink_lingering(exec);
    guest->exec_count--;
    free(exec);
}

static void linger(struct exec *exec) {
    struct guest *guest = exec->guest;
    exec->phase = EXEC_LINGERING;
    exec->older = guest->lingering_last;
    exec->newer = NULL;
    *(exec->older ? &exec->older->newer : &guest->lingering_first) = exec;
    guest->lingering_last = exec;
}

void exec_progress(struct exec *exec) {
    if (exec->phase == EXEC_LINGERING) {
        if (exec->out.watch.fd < 0 && exec->err.watch.fd < 0) exec_free(exec);
        return;
    }
    /* stdout first, both tried: one that is held must not keep the other's bytes back. */
    bool out = stream_finish(&exec->out), err = stream_finish(&exec->err);
    if (!out || !err) return;
    if (exec->client) answer_exit(exec->client, exec->id, exec, 0, exec->exit_flags);
    forget_id(exec);
    exec->client = NULL;
    linger(exec);
    /* Nearly always nobody holds the pipes any more: look once, instead of waiting for the next round. */
    stream_settle(&exec->out);
    stream_settle(&exec->err);
    stream_resume(&exec->out);
    stream_resume(&exec->err);
    if (exec->out.watch.fd < 0 && exec->err.watch.fd < 0) exec_free(exec);
}

void exec_reaped(struct guest *guest, pid_t pid, int status, const struct rusage *usage) {
    struct exec *exec = *bucket_of(guest->by_pid, (uint32_t)pid);
    while (exec && exec->pid != pid) exec = exec->next_by_pid;
    if (!exec) return;
    /* SAFETY: before EXIT, or what ignored the softer signals would outlive the answer that says it was stopped. */
    if (exec->rung > 0) tree_signal(exec, SIGKILL);
    forget_pid(exec);
    guest->running_count -= !(exec->flags & EXEC_WORKER);
    loop_timer_stop(&guest->loop, &exec->deadline);
    loop_timer_stop(&guest->loop, &exec->idle);
    loop_timer_stop(&guest->loop, &exec->ladder);
    exec->phase = EXEC_ENDED;
    exec->status = status;
    exec->cpu_us = (uint64_t)(usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * 1000000u + (uint64_t)(usage->ru_utime.tv_usec + usage->ru_stime.tv_usec);
    exec->max_rss = (uint64_t)usage->ru_maxrss * 1024u;
    exec->exit_flags |= hits(exec);
    if (exec->slot) slot_release(&guest->trees, exec->slot);
    exec->slot = NULL;
    input_close(&exec->in);
    stream_ended(&exec->out);
    stream_ended(&exec->err);
    exec_progress(exec);
}

void exec_signal(struct exec *exec, int number, enum signal_scope scope) {
    /* SAFETY: after the reaping its number may belong to somebody else. */
    if (exec->phase != EXEC_RUNNING) return;
    if (scope == SCOPE_TREE) tree_signal(exec, number);
    else kill(-exec->pid, number);
}

void exec_resize(struct exec *exec, uint16_t rows, uint16_t cols) {
    if (exec->out.terminal && exec->out.watch.fd >= 0) pty_resize(exec->out.watch.fd, rows, cols);
}

bool exec_credit(struct exec *exec, uint32_t bytes) {
    if (bytes > OUTPUT_WINDOW || exec->credit + bytes > OUTPUT_WINDOW) return false;
    exec->credit += bytes;
    exec_resume(exec);
    return true;
}

void exec_release(struct guest *guest) {
    uint64_t now = now_ns(), stood = loop_release(&guest->loop);
    for (int i = 0; i < EXEC_BUCKETS; i++)
        for (struct exec *exec = guest->by_id[i]; exec; exec = exec->next_by_id)
            exec->last_output = exec->last_output + stood < now ? exec->last_output + stood : now;
}

void exec_client_gone(struct client *client) {
    for (int i = 0; i < EXEC_BUCKETS; i++) {
        struct exec *next;
        for (struct exec *exec = client->guest->by_id[i]; exec; exec = next) {
            next = exec->next_by_id;
            if (exec->client != client) continue;
            exec->client = NULL;
            input_close(&exec->in);
            if (exec->phase == EXEC_RUNNING && exec->flags & EXEC_TIED) kill_now(exec);
            exec_resume(exec);
        }
    }
}

/* The two ends of each stream: [0] stays here, [1] goes to the command. -1: none. */
struct ends {
    int in[2], out[2], err[2];
};

static void close_ends(int pair[2]) {
    for (int i = 0; i < 2; i++)
        if (pair[i] >= 0) close(pair[i]);
    pair[0] = pair[1] = -1;
}

static int pipe_from_command(int pair[2]) {
    if (pipe2(pair, O_CLOEXEC) != 0) return errno;
    return fcntl(pair[0], F_SETFL, O_NONBLOCK) == 0 ? 0 : errno;
}

static int pipe_to_command(int pair[2]) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return errno;
    pair[0] = ends[1];
    pair[1] = ends[0];
    return fcntl(pair[0], F_SETFL, O_NONBLOCK) == 0 ? 0 : errno;
}

static int make_ends(struct ends *ends, const struct guest *guest, const struct exec_request *request, const struct start *start) {
    *ends = (struct ends){{-1, -1}, {-1, -1}, {-1, -1}};
    if (request->flags & EXEC_PTY) {
        int error = pty_open(&guest->facts, start->uid, start->gid, request->rows, request->cols, &ends->out[0], &ends->out[1]);
        if (error != 0) {
            ends->out[0] = ends->out[1] = -1;
            return error;
        }
        /* Its own descriptor for writing: epoll takes each only once. */
        ends->in[0] = fcntl(ends->out[0], F_DUPFD_CLOEXEC, 3);
        return ends->in[0] < 0 ? errno : 0;
    }
    int error = pipe_from_command(ends->out);
    if (error == 0 && !(request->flags & EXEC_MERGE)) error = pipe_from_command(ends->err);
    if (error == 0 && request->flags & EXEC_STDIN) error = pipe_to_command(ends->in);
    return error;
}

static void point_stdio(struct start *start, const struct ends *ends, uint32_t flags, int null_fd) {
    start->terminal = (flags & EXEC_PTY) != 0;
    start->stdio[0] = start->terminal ? ends->out[1] : ends->in[1] >= 0 ? ends->in[1] : null_fd;
    start->stdio[1] = ends->out[1];
    start->stdio[2] = ends->err[1] >= 0 ? ends->err[1] : ends->out[1];
}

static void describe(struct start *start, const struct guest *guest, const struct exec_request *request) {
    const struct facts *facts = &guest->facts;
    bool root = (request->flags & EXEC_ROOT) != 0;
    *start = (struct start){
        .cwd = request->cwd,
        .change_ids = facts->several_ids && !root,
        .empty_bounding = facts->root_offered && !root && !left_out(facts, 18),
        .uid = root ? 0 : facts->uid,
        .gid = root ? 0 : facts->gid,
        .nofile = facts->nofile,
        .cgroup = -1,
        .key = &guest->key,
    };
}

static struct exec *make(struct client *client, uint32_t id, const struct exec_request *request) {
    struct exec *exec = calloc(1, sizeof *exec);
    if (!exec) return NULL;
    *exec = (struct exec){
        .guest = client->guest, .client = client, .id = id, .flags = request->flags,
        .grace_ms = request->grace_ms, .idle_ms = request->idle_ms, .credit = OUTPUT_WINDOW,
        .capped = request->output_cap != 0, .cap_left = request->output_cap,
        .deadline = {.fire = timed_out}, .idle = {.fire = fell_silent}, .ladder = {.fire = climb}, .again = {.fire = look_again},
        .memory_before = count_read(client->guest->memory_events, "oom_kill"),
        .pids_before = count_read(client->guest->pids_events, "max"),
    };
    return exec;
}

static void enter(struct exec *exec, const struct exec_request *request, struct ends *ends) {
    struct guest *guest = exec->guest;
    bool terminal = (request->flags & EXEC_PTY) != 0;
    struct exec **by_pid = bucket_of(guest->by_pid, (uint32_t)exec->pid), **by_id = bucket_of(guest->by_id, exec->id);
    exec->next_by_pid = *by_pid;
    *by_pid = exec;
    exec->next_by_id = *by_id;
    *by_id = exec;
    guest->exec_count++;
    guest->running_count += !(exec->flags & EXEC_WORKER);
    uint8_t body[4];
    put_u32(body, (uint32_t)exec->pid);
    conn_send_soon(&exec->client->conn, ANSWER_STARTED, exec->id, body, sizeof body);
    stream_open(&exec->out, exec, ends->out[0], ANSWER_STDOUT, terminal);
    stream_open(&exec->err, exec, ends->err[0], ANSWER_STDERR, false);
    input_open(&exec->in, exec, ends->in[0], terminal);
    exec->last_output = now_ns();
    if (request->timeout_ms) loop_timer(&guest->loop, &exec->deadline, exec->last_output + (uint64_t)request->timeout_ms * 1000000u);
    if (exec->idle_ms) loop_timer(&guest->loop, &exec->idle, exec->last_output + (uint64_t)exec->idle_ms * 1000000u);
    stream_resume(&exec->out);
    stream_resume(&exec->err);
}

/* errno; on success the command runs and `exec` is in the tables. */
static int try_begin(struct exec *exec, const struct exec_request *request, struct start *start) {
    struct guest *guest = exec->guest;
    struct arguments arguments;
    struct ends ends = {{-1, -1}, {-1, -1}, {-1, -1}};
    int error = -arguments_make(&arguments, request, guest->facts.env, guest->facts.envs);
    if (error != 0) return error;
    error = make_ends(&ends, guest, request, start);
    if (error == 0 && guest->trees.work >= 0) {
        exec->slot = slot_take(&guest->trees);
        if (!exec->slot) error = errno;
        else start->cgroup = exec->slot->directory;
    }
    if (error == 0) {
        start->argv = arguments.argv;
        start->envp = arguments.envp;
        start->path = arguments.path;
        point_stdio(start, &ends, request->flags, guest->null_fd);
        oom_raise(&guest->oom);
        exec->pid = request->flags & EXEC_WORKER ? worker_start(start, guest) : start_command(start);
        error = start->error;
    }
    arguments_free(&arguments);
    if (ends.in[1] >= 0) close(ends.in[1]);
    if (ends.out[1] >= 0) close(ends.out[1]);
    if (ends.err[1] >= 0) close(ends.err[1]);
    ends.in[1] = ends.out[1] = ends.err[1] = -1;
    if (error == 0) {
        enter(exec, request, &ends);
        return 0;
    }
    if (exec->slot) slot_release(&guest->trees, exec->slot);
    close_ends(ends.in);
    close_ends(ends.out);
    close_ends(ends.err);
    return error;
}

bool exec_begin(struct client *client, uint32_t id, const struct exec_request *request) {
    struct guest *guest = client->guest;
    if (exec_find(client, id)) return false;
    /* The pipes of the oldest daemon are worth less than a new command: it sees EPIPE at its next write. */
    if (guest->exec_count >= MAX_EXECS && guest->lingering_first) exec_free(guest->lingering_first);
    struct start start;
    describe(&start, guest, request);
    struct exec *exec = NULL;
    int error = 0;
    if (guest->exec_count >= MAX_EXECS) error = EAGAIN;
    else if (request->flags & EXEC_ROOT && !guest->facts.root_offered) error = EPERM;
    else if (request->flags & EXEC_WORKER && (error = worker_check(request->flags, request->argc ? request->argv : ""))) {}
    else if (!(exec = make(client, id, request))) error = ENOMEM;
    else error = try_begin(exec, request, &start);
    if (error == 0) return true;
    uint32_t flags = exec ? hits(exec) : 0;
    if (start.stage == STAGE_CWD) flags |= EXIT_CWD;
    answer_exit(client, id, NULL, (uint32_t)error, flags);
    free(exec);
    return true;
}
