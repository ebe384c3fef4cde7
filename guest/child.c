/* Steps 5 and 8 to 16, in the clone that becomes PID 1 of a sandbox. It is a copy of the spawner until step 16 replaces it.
 * The order is the argument: each line says why it stands there.
 * Invariant: a step that fails ends the process, with one line to the spawner; nothing is half made and left running. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "contain.h"
#include "handover.h"
#include "roles.h"
#include "sys.h"

enum { OUT_OF_THE_WAY = 64, LEAKED_FD = 12 };

static int join_cgroups(struct making *making) {
    making->message = "the cgroups could not be joined";
    int error = cgroup_join(making);
    if (error || weakened(making, 7)) return error;
    /* SAFETY: only now: the root of a cgroup namespace is where its maker sits, and /proc/self/cgroup inside is to read `/`. */
    making->message = "a cgroup namespace could not be made";
    return unshare(NEW_CGROUP) != 0 ? -errno : 0;
}

static int wait_for_ids(struct making *making) {
    char byte;
    making->message = "the spawner ended before the id maps were written";
    close(making->barrier[1]);
    ssize_t count = read(making->barrier[0], &byte, 1);
    return count == 1 ? 0 : count < 0 ? -errno : -EPIPE;
}

static int become_root(struct making *making) {
    making->message = "uid 0 of the namespace could not be taken on";
    return ids_become_root();
}

static int name_and_keys(struct making *making) {
    const char *name = making->create->hostname;
    making->message = "the host name could not be set";
    /* SAFETY: without a UTS namespace of its own (weaken 7) this would rename the node. */
    if (!weakened(making, 7) && sethostname(name, strlen(name)) != 0) return -errno;
    making->message = "a session keyring could not be made";
    /* ENOSYS: a kernel without keys has none to leak. */
    return sys_keyctl(JOIN_SESSION_KEYRING, NULL) < 0 && errno != ENOSYS ? -errno : 0;
}

/* SAFETY: a descriptor of the node that stays open is a way out (CVE-2024-21626): all but what handover.h lists go. */
static int arrange_descriptors(struct making *making) {
    int from[] = {making->listener, making->facts, making->barrier[0], making->cgroup.work, making->cgroup.memory_events, making->cgroup.pids_events, making->fault[1], making->egress};
    making->message = "the descriptors could not be arranged";
    int null = open("/dev/null", O_RDWR);
    if (null < 0) return -errno;
    for (int i = 0; i <= HANDOVER_EGRESS - HANDOVER_SOCKET; i++)
        if (from[i] >= 0 && (from[i] = fcntl(from[i], F_DUPFD_CLOEXEC, OUT_OF_THE_WAY)) < 0) return -errno;
    null = fcntl(null, F_DUPFD_CLOEXEC, OUT_OF_THE_WAY);
    int guest = fcntl(making->spawner->guest, F_DUPFD_CLOEXEC, OUT_OF_THE_WAY);
    int leak = fcntl(making->spawner->proc, F_DUPFD_CLOEXEC, OUT_OF_THE_WAY);
    if (null < 0 || guest < 0 || leak < 0) return -errno;
    making->spawner->guest = guest;
    for (int fd = 0; fd < HANDOVER_SOCKET; fd++)
        if (dup2(null, fd) < 0) return -errno;
    for (int i = 0; i <= HANDOVER_EGRESS - HANDOVER_SOCKET; i++) {
        int to = HANDOVER_SOCKET + i;
        if (from[i] >= 0 ? dup2(from[i], to) < 0 : close(to) != 0 && errno != EBADF) return -errno;
    }
    making->fault[1] = HANDOVER_FAULT;
    if (weakened(making, 15)) return dup2(leak, LEAKED_FD) < 0 ? -errno : 0;
    /* The guest program's own goes by close-on-exec. */
    if (guest > HANDOVER_EGRESS + 1 && sys_close_range(HANDOVER_EGRESS + 1, (unsigned)guest - 1) != 0) return -errno;
    return sys_close_range((unsigned)guest + 1, ~0u) != 0 ? -errno : 0;
}

static int execute(struct making *making) {
    char *argv[] = {(char *)"corral-guest", (char *)"init", NULL};
    char *env[] = {NULL};
    if (making->create->launches) return launch_execute(making);
    making->message = "the guest program could not be started";
    if (weakened(making, 16)) {
        /* SAFETY: a negative control, never without --allow-weaken. Without the exec the change of ids has left /proc/self to the
         * spawner's owner, and init could not even start. */
        prctl(PR_SET_DUMPABLE, 1);
        _exit(init_main(1, argv + 1));
    }
    sys_execveat(making->spawner->guest, argv, env);
    return -errno;
}

struct child_step {
    uint32_t number;
    bool foreign; /* also when a foreign runtime is launched, which does the rest of 7 to 13 itself */
    int (*run)(struct making *making);
};

static const struct child_step steps[] = {
    {5, true, join_cgroups},       /* first: not a page and not a process before the limits hold */
    {8, true, wait_for_ids},       /* nothing runs unmapped */
    {9, true, become_root},        /* entered as the node's root, a later change of uid would keep every capability */
    {10, false, root_private},     /* before any mount: none may travel outward */
    {11, false, root_own},         /* proc needs the pid namespace; capabilities are still held */
    {12, false, root_mask},        /* before the sandbox's tree has a /proc: it never stands there bare */
    {11, true, mounts_take},       /* the spawner has made them meanwhile */
    {10, false, root_attach},      /* a root of its own: locked mounts refuse pivot_root otherwise */
    {11, false, root_mounts},      /* all in the order of CREATE; sources are still reachable */
    {11, true, launch_stage},      /* for a foreign runtime alone: places from which it takes the mounts */
    {13, false, root_pivot},       /* last use of the node's paths, before the first hostile byte */
    {14, false, name_and_keys},    /* before the filter of step 22 forbids keyctl */
    {15, true, arrange_descriptors}, /* once nothing needs the node's descriptors any more */
    {16, true, execute},           /* drops heap, command line and layout of the spawner */
};

_Noreturn static void fail_step(const struct making *making, uint32_t number, int error) {
    char line[512];
    int length = snprintf(line, sizeof line, "%u %d %s\n", number, -error, making->message ? making->message : "");
    if (length >= (int)sizeof line) length = (int)sizeof line - 1;
    ssize_t ignored = write(making->fault[1], line, (size_t)length);
    (void)ignored;
    _exit(1);
}

_Noreturn void child_run(struct making *making) {
    const struct spawner *spawner = making->spawner;
    /* SAFETY: if the spawner is killed now, nobody else would end this process. Set again after each change of ids. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setsid();
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        const struct child_step *step = &steps[i];
        if (making->create->launches && !step->foreign) continue;
        bool left_out = weakened(making, step->number) && (step->number == 9 || step->number == 12);
        making->message = "";
        int error = spawner->fail_step == step->number ? -(int)spawner->fail_errno : left_out ? 0 : step->run(making);
        if (error) fail_step(making, step->number, error);
        if (step->number == 9) prctl(PR_SET_PDEATHSIG, SIGKILL);
    }
    _exit(1);
}
