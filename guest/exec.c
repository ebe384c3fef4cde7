/* Life of a command: begin, stop, end. Bytes are stream.c's work, processes start.c's and tree.c's.
 * Invariant: every EXEC is answered by exactly one EXIT while its connection lives, after the last byte that the command wrote itself;
 * after the EXIT of a command that was stopped nothing of its tree runs any more. */
#define _GNU_SOURCE
#include "exec.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "count.h"
#include "env.h"
#include "fork.h"
#include "guest.h"
#include "kept.h"
#include "pipes.h"
#include "pty.h"
#include "start.h"
#include "worker.h"

enum { KILL_AGAIN_MS = 50 };

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

static void enter_id(struct exec *exec) {
    struct exec **bucket = bucket_of(exec->guest->by_id, exec->id);
    exec->next_by_id = *bucket;
    *bucket = exec;
}

static void forget_id(struct exec *exec) {
    struct exec **place = bucket_of(exec->guest->by_id, exec->id);
    while (*place && *place != exec) place = &(*place)->next_by_id;
    if (*place) *place = exec->next_by_id;
}

/* What EXIT tells. `exec` NULL or start_errno: it never ran. */
static void put_exit(uint8_t body[EXIT_BYTES], const struct exec *exec, uint32_t start_errno, uint32_t flags) {
    bool ended = exec && start_errno == 0;
    put_u32(body, ended && WIFEXITED(exec->status) ? (uint32_t)WEXITSTATUS(exec->status) : (uint32_t)-1);
    put_u32(body + 4, ended && WIFSIGNALED(exec->status) ? (uint32_t)WTERMSIG(exec->status) : 0);
    put_u32(body + 8, start_errno);
    put_u32(body + 12, flags);
    put_u64(body + 16, ended ? exec->cpu_us : 0);
    put_u64(body + 24, ended ? exec->max_rss : 0);
    put_u64(body + 32, ended ? exec->dropped : 0);
}

static void tell_exit(struct exec *exec) {
    uint8_t body[EXIT_BYTES];
    put_exit(body, exec, 0, exec->exit_flags);
    if (exec->kept) kept_ended(exec->kept, body);
    else if (exec->client) conn_send(&exec->client->conn, ANSWER_EXIT, exec->id, body, sizeof body);
    exec->kept = NULL;
    exec->client = NULL;
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
    bool alone = exec->guest->running_count <= 1 && !(exec->flags & EXEC_WORKER);
    if (exec->slot) slot_signal(exec->slot, number);
    else session_signal(exec->pid, number, alone);
    if (!exec->slot && alone) egress_spare(exec->guest, number);
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

static void look_again(struct timer *timer) { exec_resume(CONTAINER_OF(timer, struct exec, look)); }

void exec_resume(struct exec *exec) {
    stream_resume(&exec->out);
    stream_resume(&exec->err);
    stream_resume(&exec->control);
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
    stream_close(&exec->control);
    loop_timer_stop(&guest->loop, &exec->look);
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
    if (!out || !err || !stream_finish(&exec->control)) return;
    forget_id(exec);
    tell_exit(exec);
    stream_close(&exec->control);
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
    forker_end(exec);
    input_close(&exec->in);
    input_close(&exec->control_in);
    if (exec->again >= 0) close(exec->again);
    exec->again = -1;
    stream_ended(&exec->out);
    stream_ended(&exec->err);
    stream_ended(&exec->control);
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
    fork_client_gone(client);
    for (int i = 0; i < EXEC_BUCKETS; i++) {
        struct exec *next;
        for (struct exec *exec = client->guest->by_id[i]; exec; exec = next) {
            next = exec->next_by_id;
            if (exec->client != client) continue;
            exec->client = NULL;
            if (exec->kept) continue; /* it waits for ATTACH */
            input_close(&exec->in);
            input_close(&exec->control_in);
            if (exec->phase == EXEC_RUNNING && exec->flags & EXEC_TIED) kill_now(exec);
            exec_resume(exec);
        }
    }
    kept_client_gone(client);
}

void exec_heard_by(struct exec *exec, struct client *client, uint32_t id) {
    forget_id(exec);
    exec->client = client;
    exec->id = id;
    enter_id(exec);
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
        .capped = request->output_cap != 0, .cap_left = request->output_cap, .again = -1,
        .deadline = {.fire = timed_out}, .idle = {.fire = fell_silent}, .ladder = {.fire = climb}, .look = {.fire = look_again},
        .memory_before = count_read(client->guest->memory_events, "oom_kill"),
        .pids_before = count_read(client->guest->pids_events, "max"),
    };
    return exec;
}

void exec_enter(struct exec *exec, uint32_t timeout_ms, struct ends *ends) {
    struct guest *guest = exec->guest;
    bool terminal = (exec->flags & EXEC_PTY) != 0;
    struct exec **by_pid = bucket_of(guest->by_pid, (uint32_t)exec->pid);
    exec->next_by_pid = *by_pid;
    *by_pid = exec;
    enter_id(exec);
    guest->exec_count++;
    guest->running_count += !(exec->flags & EXEC_WORKER);
    if (exec->kept) kept_enter(exec->kept);
    uint8_t body[4];
    put_u32(body, (uint32_t)exec->pid);
    conn_send_soon(&exec->client->conn, ANSWER_STARTED, exec->id, body, sizeof body);
    stream_open(&exec->out, exec, ends->out[0], RING_STDOUT, terminal);
    stream_open(&exec->err, exec, ends->err[0], RING_STDERR, false);
    stream_open(&exec->control, exec, ends->control_out[0], RING_CONTROL, false);
    input_open(&exec->in, exec, ends->in[0], ANSWER_STDIN_CREDIT, terminal);
    input_open(&exec->control_in, exec, ends->control_in[0], ANSWER_CONTROL_CREDIT, false);
    exec->again = ends->again;
    exec->last_output = now_ns();
    if (timeout_ms) loop_timer(&guest->loop, &exec->deadline, exec->last_output + (uint64_t)timeout_ms * 1000000u);
    if (exec->idle_ms) loop_timer(&guest->loop, &exec->idle, exec->last_output + (uint64_t)exec->idle_ms * 1000000u);
    stream_resume(&exec->out);
    stream_resume(&exec->err);
    stream_resume(&exec->control);
}

static void undo(struct exec *exec, struct ends *ends) {
    forker_end(exec);
    if (exec->slot) slot_release(&exec->guest->trees, exec->slot);
    kept_unmake(exec->kept);
    ends_close(ends);
}

/* errno; on success the command runs and `exec` is in the tables, or a forker was asked for it. */
static int try_begin(struct exec *exec, const struct exec_request *request, struct start *start) {
    struct guest *guest = exec->guest;
    struct arguments arguments;
    struct ends ends;
    int error = -arguments_make(&arguments, request, guest->facts.env, guest->facts.envs);
    if (error != 0) return error;
    ends_none(&ends);
    error = ends_make(&ends, &guest->facts, request, start);
    if (error == 0 && request->key) exec->kept = kept_make(exec, request, &error);
    if (error == 0 && guest->trees.work >= 0) {
        exec->slot = slot_take(&guest->trees);
        if (!exec->slot) error = errno;
        else start->cgroup = exec->slot->directory;
    }
    if (error == 0) {
        start->argv = arguments.argv;
        start->envp = arguments.envp;
        start->path = arguments.path;
        exec->uid = start->uid;
        exec->gid = start->gid;
        ends_point(&ends, start, request->flags, guest->null_fd);
        oom_raise(&guest->oom);
        if (request->flags & EXEC_FORKER) error = forker_make(exec, start);
    }
    if (error == 0 && request->flags & EXEC_FORKED) {
        error = fork_ask(exec, request, start, &ends);
        arguments_free(&arguments);
        if (error == 0) return 0;
        undo(exec, &ends);
        return error;
    }
    if (error == 0) {
        exec->pid = request->flags & EXEC_WORKER ? worker_start(start, guest) : start_command(start);
        error = start->error;
    }
    arguments_free(&arguments);
    ends_given(&ends);
    forker_given(exec);
    if (error == 0) exec_enter(exec, request->timeout_ms, &ends);
    else undo(exec, &ends);
    return error;
}

/* A command that never ran: its answer is EXIT alone. */
static void refuse(struct client *client, uint32_t id, int error, uint32_t flags) {
    uint8_t body[EXIT_BYTES];
    put_exit(body, NULL, (uint32_t)error, flags);
    conn_send(&client->conn, ANSWER_EXIT, id, body, sizeof body);
}

void exec_unmake(struct exec *exec, struct ends *ends, int error) {
    undo(exec, ends);
    if (exec->client) refuse(exec->client, exec->id, error, hits(exec));
    free(exec);
}

bool exec_begin(struct client *client, uint32_t id, const struct exec_request *request) {
    struct guest *guest = client->guest;
    if (exec_find(client, id) || kept_heard(client, id)) return false;
    /* The pipes of the oldest daemon are worth less than a new command: it sees EPIPE at its next write. */
    if (guest->exec_count >= MAX_EXECS && guest->lingering_first) exec_free(guest->lingering_first);
    struct start start;
    struct exec *exec = NULL;
    int error = 0;
    describe(&start, guest, request);
    if (guest->exec_count >= MAX_EXECS) error = EAGAIN;
    else if (request->flags & EXEC_ROOT && !guest->facts.root_offered) error = EPERM;
    else if (request->flags & EXEC_WORKER && (error = worker_check(request->flags, request->argc ? request->argv : ""))) {}
    else if (!(exec = make(client, id, request))) error = ENOMEM;
    else error = try_begin(exec, request, &start);
    if (error == 0) return true;
    uint32_t flags = exec ? hits(exec) : 0;
    if (start.stage == STAGE_CWD) flags |= EXIT_CWD;
    refuse(client, id, error, flags);
    free(exec);
    return true;
}
