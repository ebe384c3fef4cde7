/* A command, from EXEC to EXIT and, when it left something behind that holds its output, beyond. */
#ifndef CORRAL_EXEC_H
#define CORRAL_EXEC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "request.h"
#include "stream.h"

struct guest;
struct client;
struct kept;
struct slot;
struct forker;
struct ends;

enum exit_flag {
    EXIT_TIMED_OUT = 1, EXIT_IDLE = 2, EXIT_TRUNCATED = 4, EXIT_MEMORY_HIT = 8, EXIT_PIDS_HIT = 16, EXIT_CWD = 32,
};
/* Of ANSWER_EXIT. */
enum { EXIT_BYTES = 40 };
enum exec_phase { EXEC_RUNNING, EXEC_ENDED /* reaped, output still to be passed on */, EXEC_LINGERING /* EXIT was told */ };

struct exec {
    struct guest *guest;
    struct client *client; /* NULL: it went away, or EXIT was told */
    struct kept *kept; /* NULL: not asked for, or it has all that this command will write */
    struct exec *next_by_pid, *next_by_id;
    struct exec *older, *newer; /* while lingering */
    struct slot *slot;
    struct forker *forker; /* NULL: it forks no others */
    uint32_t id;
    pid_t pid;
    enum exec_phase phase;
    uint32_t flags, grace_ms, idle_ms;
    struct stream out, err, control;
    struct input in, control_in;
    int again; /* a reading end of its stdin pipe, for exec_stdin_again; -1: none */
    uint32_t uid, gid;
    struct timer deadline, idle, ladder, look;
    int rung; /* of the kill ladder, 0 = not begun */
    uint32_t credit; /* of a kept one: in kept */
    bool capped;
    uint64_t cap_left;
    uint64_t dropped;
    uint64_t last_output;
    uint32_t exit_flags;
    int status;
    uint64_t cpu_us, max_rss;
    uint64_t memory_before, pids_before;
};

/* Starts the command or answers EXIT with startErrno. False: the id is in use, the connection is to be closed. */
bool exec_begin(struct client *client, uint32_t id, const struct exec_request *request);
/* It runs: enters the tables and takes over `ends`. */
void exec_enter(struct exec *exec, uint32_t timeout_ms, struct ends *ends);
/* It never ran: answers so, and frees it. */
void exec_unmake(struct exec *exec, struct ends *ends, int error);
struct exec *exec_find(const struct client *client, uint32_t id);
/* wait4 has returned this pid; unknown ones were orphans. */
void exec_reaped(struct guest *guest, pid_t pid, int status, const struct rusage *usage);
void exec_signal(struct exec *exec, int number, enum signal_scope scope);
/* The ladder: SIGINT, SIGTERM, SIGKILL on the tree. `why`: a flag for EXIT, or 0. */
void exec_stop(struct exec *exec, uint32_t why);
void exec_resize(struct exec *exec, uint16_t rows, uint16_t cols);
/* False: more credit than the window. */
bool exec_credit(struct exec *exec, uint32_t bytes);
void exec_resume(struct exec *exec);
/* Time goes on after loop_hold: no command is charged for what it stood still. */
void exec_release(struct guest *guest);
/* Another connection takes a kept one over. */
void exec_heard_by(struct exec *exec, struct client *client, uint32_t id);
/* Of the credit, what a running command leaves alone: see stream.c. */
uint32_t exec_reserve(const struct exec *exec);
/* Its stdin, which had ended, is empty and takes bytes again; only where there is a control channel. */
void exec_stdin_again(struct exec *exec);
void exec_client_gone(struct client *client);
/* A stream was closed or has no more of the command's bytes. May free the exec. */
void exec_progress(struct exec *exec);

#endif
