/* A child of PID 1 that stays the guest: for work that must be done inside, as the command's user, where no program of ours can be seen to
 * execute. Walls, cgroup, limits and streams are those of any command. Not trusted by the host: what it says is as hostile as a command's output.
 * The child is a copy of PID 1, so what it must not have goes first, in the order of enter(): secrets while nobody else has its uid,
 * descriptors, then ids. What stays is the base environment and the bytes of other commands that happened to wait in PID 1: of this sandbox
 * and this uid all of them. SAFETY: it never executes, so it stays not dumpable, and no process of its uid can attach to it, read its memory or
 * open its descriptors; such a process can stop or kill it, which ends the call it served.
 * Invariant: a worker that runs has no capability, no descriptor but 0, 1 and 2, and no key to clone3. */
#define _GNU_SOURCE
#include "worker.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "caps.h"
#include "guest.h"
#include "raw.h"
#include "sys.h"

enum { SET_UP_FAILED = 125, DEAD_STACK_BYTES = 64 * 1024 };

static const struct worker {
    const char *name;
    int (*main)(int argc, char **argv);
} workers[] = {{"files", files_main}, {"watch", watch_main}, {"dial", dial_main}};

static const struct worker *find(const char *name) {
    for (size_t i = 0; i < sizeof workers / sizeof *workers; i++)
        if (strcmp(workers[i].name, name) == 0) return &workers[i];
    return NULL;
}

int worker_check(uint32_t flags, const char *name) {
    /* SAFETY: not as uid 0. A command loses capabilities at its exec, and a worker has none. */
    if (flags & (EXEC_ROOT | EXEC_PTY | EXEC_MERGE | EXEC_KEEP | EXEC_CONTROL)) return EINVAL;
    return find(name) ? 0 : ENOENT;
}

/* What PID 1 left below its present frame: the words of the last clone3 lie there. */
static __attribute__((noinline)) void wipe_dead_stack(void) {
    uint8_t dead[DEAD_STACK_BYTES];
    explicit_bzero(dead, sizeof dead);
}

static bool take_stdio(const struct start *start) {
    if (setsid() < 0) return false;
    for (int fd = 0; fd < 3; fd++)
        if (dup2(start->given[fd], fd) < 0) return false;
    /* SAFETY: PID 1's socket, its cgroup and the pipes of other commands: whoever took the worker over would hold them. */
    return sys_close_range(3, ~0u) == 0;
}

static bool drop_capabilities(void) {
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};
    return syscall(SYS_capset, &head, none) == 0;
}

static bool become_user(const struct start *start) {
    struct rlimit files = {.rlim_cur = start->nofile, .rlim_max = start->nofile};
    if (start->nofile && setrlimit(RLIMIT_NOFILE, &files) != 0) return false;
    /* SAFETY: as start.c does for a command: the bounding set is not even shown, gid before uid, all three ids of each. */
    for (const int *cap = caps_of_root; start->empty_bounding && *cap >= 0; cap++)
        if (prctl(PR_CAPBSET_DROP, *cap, 0, 0, 0) != 0) return false;
    if (start->change_ids && (sys_setresgid(start->gid) != 0 || sys_setresuid(start->uid) != 0)) return false;
    return drop_capabilities();
}

static void default_signals(void) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

void worker_forget(struct guest *guest) {
    explicit_bzero(&guest->key, sizeof guest->key);
    wipe_dead_stack();
}

static _Noreturn void enter(const struct start *start, struct guest *guest) {
    worker_forget(guest);
    if (!take_stdio(start) || !become_user(start)) _exit(SET_UP_FAILED);
    /* SAFETY: a change of ids sets it anew, to what the node's fs.suid_dumpable says. */
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0) _exit(SET_UP_FAILED);
    umask(022);
    if (chdir(start->cwd[0] ? start->cwd : "/") != 0) _exit(SET_UP_FAILED);
    default_signals();
    prctl(PR_SET_NAME, start->argv[0], 0, 0, 0);
    int argc = 0;
    while (start->argv[argc]) argc++;
    _exit(find(start->argv[0])->main(argc, start->argv));
}

pid_t worker_start(struct start *start, struct guest *guest) {
    start->error = 0;
    start->stage = STAGE_NONE;
    struct clone_request clone = {.flags = INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = (uint64_t)(unsigned)start->cgroup};
    const uint64_t *key = start->key->args;
    long pid = start->cgroup < 0 ? raw6(SYS_clone, SIGCHLD, 0, 0, 0, 0, 0)
                                 : raw6(SYS_clone3, (long)&clone, sizeof clone, (long)key[0], (long)key[1], (long)key[2], (long)key[3]);
    if (pid == 0) enter(start, guest);
    if (pid > 0) return (pid_t)pid;
    start->stage = STAGE_SETUP;
    start->error = (int)-pid;
    return 0;
}
