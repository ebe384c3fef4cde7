/* Starts a command: one clone that shares memory until the exec, so that the cost does not grow with PID 1, onto a stack of its own,
 * so that PID 1 need not trust the child's frames. Step 24, the part inside the child.
 * PID 1 sleeps on the word that the kernel clears when the child lets go of the memory (CLONE_CHILD_CLEARTID), and not in vfork:
 * processes of the command's uid can stop the child between its change of uid and its exec, and vfork would then sleep for ever.
 * Invariant: nobody but the child runs while it shares the memory; it touches only its stack and `struct start`, and calls no libc. */
#define _GNU_SOURCE
#include "start.h"

#include <errno.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "caps.h"
#include "raw.h"

enum { STACK_BYTES = 24 * 1024, WAIT_MS = 20, MAX_WAITS = 1500, MAX_STOPS = 10, CLOSE_RANGE_MARK = 4 };
#define INTO_CGROUP_FLAG 0x200000000ull

/* The kernel's struct, ABI 2; older headers end before `cgroup`. */
struct clone3_args {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

/* One child at a time shares our memory, so one stack is enough. */
static uint8_t stack[STACK_BYTES] __attribute__((aligned(16)));
static uint32_t busy;

/* ASan knows nothing of this stack; every access below is to it or to the struct. */
#define IN_CHILD __attribute__((no_sanitize("address")))

IN_CHILD static _Noreturn void give_up(struct start *start, enum start_stage stage, long result) {
    start->stage = stage;
    start->error = (int)-result;
    for (;;) raw1(SYS_exit_group, 127);
}

IN_CHILD static void set_descriptors(struct start *start) {
    long result = raw0(SYS_setsid);
    for (int fd = 0; fd < start->given_count && result >= 0; fd++) result = raw3(SYS_dup3, start->given[fd], fd, 0);
    /* 0: steal from nobody; the terminal is new and has no session yet. */
    if (result >= 0 && start->terminal) result = raw3(SYS_ioctl, 0, TIOCSCTTY, 0);
    /* SAFETY: belt and braces; all our descriptors are close-on-exec, but one that was forgotten would open PID 1's socket to the command. */
    if (result >= 0) result = raw3(SYS_close_range, start->given_count, ~0u, CLOSE_RANGE_MARK);
    if (result < 0) give_up(start, STAGE_SETUP, result);
}

IN_CHILD static void become_user(struct start *start) {
    struct rlimit files = {.rlim_cur = start->nofile, .rlim_max = start->nofile};
    /* 0: step 17 was left out, nothing is limited. */
    long result = start->nofile ? raw4(SYS_prlimit64, 0, RLIMIT_NOFILE, (long)&files, 0) : 0;
    /* SAFETY: where uid 0 is offered the bounding set is not empty; an ordinary command must not even show it. */
    if (start->empty_bounding)
        for (const int *cap = caps_of_root; *cap >= 0 && result >= 0; cap++) result = raw6(SYS_prctl, PR_CAPBSET_DROP, *cap, 0, 0, 0, 0);
    if (start->change_ids) {
        /* SAFETY: gid first, while we may; supplementary groups are empty since step 18; all three ids, or the saved one would be a way back. */
        if (result >= 0) result = raw3(SYS_setresgid, start->gid, start->gid, start->gid);
        if (result >= 0) result = raw3(SYS_setresuid, start->uid, start->uid, start->uid);
    }
    if (result < 0) give_up(start, STAGE_SETUP, result);
    raw1(SYS_umask, 022);
    /* As the user: root could enter directories that the command may not. */
    result = start->cwd[0] ? raw1(SYS_chdir, (long)start->cwd) : 0;
    if (result < 0) give_up(start, STAGE_CWD, result);
    /* SAFETY: PID 1 blocks every signal; a command that inherited that could not be asked to stop. */
    uint64_t none = 0;
    raw4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&none, 0, sizeof none);
}

/* dir + "/" + name into `out`, or false when too long. An empty dir is the current one. */
IN_CHILD static bool join(char out[PATH_MAX], const char *dir, size_t length, const char *name) {
    size_t at = 0;
    if (length >= PATH_MAX - 2) return false;
    for (; at < length; at++) out[at] = dir[at];
    if (at > 0) out[at++] = '/';
    for (; *name; name++) {
        if (at == PATH_MAX - 1) return false;
        out[at++] = *name;
    }
    out[at] = 0;
    return true;
}

/* execvp's search without its fallback to a shell: the errno is exact, and EACCES anywhere beats ENOENT. */
IN_CHILD static long search(struct start *start) {
    const char *name = start->argv[0];
    if (!*name) return -ENOENT;
    for (const char *c = name; *c; c++)
        if (*c == '/') return raw3(SYS_execve, (long)name, (long)start->argv, (long)start->envp);
    char file[PATH_MAX];
    bool forbidden = false, too_long = false;
    for (const char *dir = start->path;;) {
        size_t length = 0;
        while (dir[length] && dir[length] != ':') length++;
        long result = join(file, dir, length, name) ? raw3(SYS_execve, (long)file, (long)start->argv, (long)start->envp) : -ENAMETOOLONG;
        if (result == -EACCES) forbidden = true;
        else if (result == -ENAMETOOLONG) too_long = true;
        else if (result != -ENOENT && result != -ENOTDIR) return result;
        if (!dir[length]) break;
        dir += length + 1;
    }
    return forbidden ? -EACCES : too_long ? -ENAMETOOLONG : -ENOENT;
}

IN_CHILD static void child(void *context) {
    struct start *start = context;
    set_descriptors(start);
    become_user(start);
    give_up(start, STAGE_EXEC, search(start));
}

IN_CHILD static void trial_child(void *context) {
    (void)context;
    for (;;) raw1(SYS_exit_group, 0);
}

/* clone3 where the filter lets us (or there is none) and a cgroup is to be entered; else clone, which it lets everybody. */
static long clone_child(int cgroup, const struct clone_key *key, void (*run)(void *), void *context) {
    __atomic_store_n(&busy, 1, __ATOMIC_RELEASE);
    if (cgroup >= 0) {
        struct clone3_args clone = {
            .flags = CLONE_VM | CLONE_CHILD_CLEARTID | INTO_CGROUP_FLAG,
            .child_tid = (uint64_t)(uintptr_t)&busy,
            .exit_signal = SIGCHLD,
            .stack = (uint64_t)(uintptr_t)stack,
            .stack_size = sizeof stack,
            .cgroup = (uint64_t)(unsigned)cgroup,
        };
        const long args[6] = {(long)&clone, sizeof clone, (long)key->args[0], (long)key->args[1], (long)key->args[2], (long)key->args[3]};
        return raw_start(SYS_clone3, args, run, context);
    }
    long flags = CLONE_VM | CLONE_CHILD_CLEARTID | SIGCHLD, top = (long)(stack + sizeof stack), word = (long)&busy;
#if defined(__x86_64__)
    const long args[6] = {flags, top, 0, word, 0, 0};
#else
    const long args[6] = {flags, top, 0, 0, word, 0};
#endif
    return raw_start(SYS_clone, args, run, context);
}

static bool was_stopped(pid_t pid) {
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)pid, &info, WSTOPPED | WNOHANG) == 0 && info.si_pid == pid;
}

/* Until the child has let go of our memory. One that somebody stops is woken; one that is stopped again and again, or takes half a minute, is
 * killed (false): meanwhile nothing else in the sandbox is served. */
static bool await(pid_t pid) {
    struct timespec round = {.tv_nsec = WAIT_MS * 1000000L};
    int waits = 0, stops = 0;
    bool killed = false;
    while (__atomic_load_n(&busy, __ATOMIC_ACQUIRE) != 0) {
        /* Not FUTEX_PRIVATE: the kernel wakes the shared form. */
        if (raw6(SYS_futex, (long)&busy, FUTEX_WAIT, 1, (long)&round, 0, 0) != -ETIMEDOUT) continue;
        if (was_stopped(pid)) stops++;
        /* SAFETY: it is our child and not reaped, so the number is its own. */
        killed = killed || ++waits >= MAX_WAITS || stops >= MAX_STOPS;
        kill(pid, killed ? SIGKILL : SIGCONT);
    }
    return !killed;
}

pid_t start_command(struct start *start) {
    start->error = 0;
    start->stage = STAGE_NONE;
    long pid = clone_child(start->cgroup, start->key, child, start);
    if (pid < 0) {
        start->stage = STAGE_SETUP;
        start->error = (int)-pid;
        return 0;
    }
    if (!await((pid_t)pid)) {
        start->stage = STAGE_SETUP;
        start->error = EAGAIN;
    }
    if (__atomic_load_n(&start->error, __ATOMIC_ACQUIRE) == 0) return (pid_t)pid;
    while (waitpid((pid_t)pid, NULL, __WALL) < 0 && errno == EINTR) {}
    return 0;
}

int start_trial(int cgroup, const struct clone_key *key) {
    long pid = clone_child(cgroup, key, trial_child, NULL);
    if (pid < 0) return (int)-pid;
    await((pid_t)pid);
    while (waitpid((pid_t)pid, NULL, __WALL) < 0 && errno == EINTR) {}
    return 0;
}
