/* The role `init`: PID 1 of a sandbox. Containment steps 17 to 23 in order, then the loop. Steps 1 to 16 are the spawner's.
 * Moving a line of contain() needs a new reason beside it.
 * Invariant: no connection is served before every step that was not left out has been done and read back. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "caps.h"
#include "guest.h"
#include "handover.h"
#include "landlock.h"
#include "rlimits.h"
#include "ready.h"
#include "roles.h"
#include "serve.h"

static int given(int fd) { return fcntl(fd, F_GETFD) < 0 ? -1 : fd; }

/* Descriptors came without close-on-exec, or our own exec would have closed them. */
static void take_descriptors(struct guest *guest) {
    /* SAFETY: one that stayed open across an exec would hand the socket, or the cgroup, to a command. */
    for (int fd = HANDOVER_SOCKET; fd <= HANDOVER_EGRESS; fd++)
        if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 && !handover_optional(fd)) step_fail(16, errno, "a descriptor was not handed over");
    /* Asked before anything is opened: what is opened next takes the numbers of those that were not given. */
    guest->trees.work = given(HANDOVER_CGROUP);
    guest->memory_events = given(HANDOVER_MEMORY_EVENTS);
    guest->pids_events = given(HANDOVER_PIDS_EVENTS);
    guest->egress.directory = given(HANDOVER_EGRESS);
}

/* Commands inherit the groups; where one id is mapped the kernel lets nobody empty them, and READY tells how many are left. */
static void empty_groups(const struct facts *facts) {
    if (!facts->several_ids || getgroups(0, NULL) == 0) return;
    /* SAFETY: a group of the node that stays would open its files to every command. */
    if (setgroups(0, NULL) != 0 || getgroups(0, NULL) != 0) step_fail(18, errno, "supplementary groups cannot be emptied");
}

/* SAFETY: a PID 1 that cannot change ids would run commands as itself, one told of a uid it does not have as somebody else. */
static void check_ids(const struct facts *facts) {
    if (facts->several_ids ? geteuid() != 0 : geteuid() != facts->uid || getegid() != facts->gid)
        step_fail(18, EPERM, "PID 1 does not have the ids that the handover says");
}

static void die_with_spawner(void) {
    /* SAFETY: a sandbox that outlives its spawner is one that nobody can destroy. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) step_fail(19, errno, "no death signal");
    /* SAFETY: the spawner may have died before the line above; then no signal comes, but its end of the pipe is closed. */
    struct pollfd barrier = {.fd = HANDOVER_BARRIER, .events = POLLIN};
    if (poll(&barrier, 1, 0) != 0) step_fail(19, EPIPE, "the spawner is gone");
}

static void forbid_new_privileges(void) {
    /* SAFETY: without it a setuid program or file capabilities would raise a command again. */
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) step_fail(20, errno, "no_new_privs");
}

static void contain(struct guest *guest) {
    struct facts *facts = &guest->facts;
    if (!left_out(facts, 24)) oom_open(&guest->oom);             /* before 17: afterwards the file belongs to a root that we are not */
    if (!left_out(facts, 17)) limits_set(facts);                 /* 17, after the exec, which made us dumpable again */
    if (!left_out(facts, 24)) oom_prove(&guest->oom, &guest->loop);
    egress_open(guest);                                          /* before 22, which closes the family that tells whose a socket is */
    bool early = left_out(facts, 20) && !left_out(facts, 22);    /* a control without 20: then only a capability lets the filter in, and 18 takes it */
    if (early) seccomp_install(facts->filter, facts->filter_length, &guest->key);
    check_ids(facts);
    if (!left_out(facts, 18)) empty_groups(facts);               /* needs SETGID, which the next line may take */
    if (!left_out(facts, 18)) caps_drop(facts);                  /* 18: mounts and network are done, nothing of it is needed again */
    if (!left_out(facts, 19)) die_with_spawner();                /* 19, after 18: a change of ids or capabilities may clear the signal */
    if (!left_out(facts, 20)) forbid_new_privileges();           /* 20: condition of 21 and 22 for who has no capabilities */
    if (!left_out(facts, 21)) landlock_restrict(facts);          /* 21: opens paths, which is still allowed */
    if (!left_out(facts, 22) && !early) seccomp_install(facts->filter, facts->filter_length, &guest->key); /* 22, last: forbids what the steps above do */
    trees_open(&guest->trees, guest->trees.work, &guest->key); /* under the filter, as every later command */
    /* SAFETY: with fs.suid_dumpable=1 a child's change of ids would have made us dumpable; asked again after the trial child. */
    if (!left_out(facts, 17) && prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 1) step_fail(17, EPERM, "PID 1 became dumpable");
    int error = egress_start(guest);                             /* under every wall, before anything that could take its places */
    if (error) step_fail(6, -error, "the stub of the egress relay could not be opened");
    ready_collect(guest);                                        /* 23: reads back what the kernel holds of all this */
    free(facts->filter);
    facts->filter = NULL;
}

int init_main(int argc, char **argv) {
    (void)argv;
    static struct guest guest;
    guest.oom.fd = -1; /* until step 24's file is opened */
    if (argc != 1) step_fail(16, EINVAL, "init takes no arguments");
    umask(022);
    take_descriptors(&guest);
    facts_read(&guest.facts);
    serve_prepare(&guest);
    contain(&guest);
    int error = serve(&guest);
    return error == 0 ? 0 : 1;
}
