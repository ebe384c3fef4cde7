/* Rootless: the spawner in a user namespace of its own, where the caller is uid 0 and a range of /etc/subuid stands beside it.
 * After it the same code runs as for root; sandboxes nest a further namespace that leaves this 0 unmapped.
 * Invariant: the setuid helpers get a clean environment, fixed paths and numbers alone. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "spawner.h"
#include "sys.h"

enum { HELPER_WORDS = 3 * (IDMAPS_MAX + 1) + 3, NUMBER_BYTES = 12, NO_HELPER = 127, ARGUMENTS_MAX = 64 };

/* Runs newuidmap or newgidmap for `target`; exit status of the helper. */
static int run_helper(const char *name, pid_t target, uint32_t own, const struct idrange *ranges, uint32_t count) {
    char text[HELPER_WORDS][NUMBER_BYTES];
    char *argv[HELPER_WORDS + 1] = {(char *)name};
    uint32_t words = 1;
    uint32_t values[1 + 3 * (IDMAPS_MAX + 1)] = {(uint32_t)target, 0, own, 1};
    for (uint32_t i = 0; i < count; i++) {
        values[4 + 3 * i] = ranges[i].inside;
        values[5 + 3 * i] = ranges[i].outside;
        values[6 + 3 * i] = ranges[i].count;
    }
    for (uint32_t i = 0; i < 4 + 3 * count; i++) {
        snprintf(text[words], NUMBER_BYTES, "%u", values[i]);
        argv[words] = text[words];
        words++;
    }
    argv[words] = NULL;
    char *env[] = {NULL};
    pid_t pid = fork();
    if (pid < 0) return NO_HELPER;
    if (pid == 0) {
        /* SAFETY: fixed directories, or a PATH of the caller's would choose what gets to write id maps. */
        static const char *const places[] = {"/usr/bin/", "/bin/", "/usr/local/bin/"};
        for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
            char path[64];
            snprintf(path, sizeof path, "%s%s", places[i], name);
            execve(path, argv, env);
        }
        _exit(NO_HELPER);
    }
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return NO_HELPER;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

/* Stays outside the new namespace and maps it from there: inside, nobody may write more than one id. */
_Noreturn static void map_parent(int go, pid_t parent, const struct rootless_maps *maps) {
    /* SAFETY: ends with the process it maps for; it must not map for whoever gets that pid next. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    char byte;
    if (read(go, &byte, 1) != 1) _exit(1);
    int result = run_helper("newuidmap", parent, (uint32_t)getuid(), maps->uid, maps->uids);
    if (result == 0) result = run_helper("newgidmap", parent, (uint32_t)getgid(), maps->gid, maps->gids);
    _exit(result == NO_HELPER ? NO_HELPER : result != 0);
}

static int enter(pid_t helper, int go, const char **message) {
    *message = "a user namespace could not be made (is user.max_user_namespaces 0, or an LSM in the way?)";
    /* SAFETY: with a mount namespace of its own, or what is mounted below would have nowhere to be; whoever made a user namespace has
     * every right in it and none outside. */
    if (unshare(NEW_USER | NEW_NS | NEW_IPC) != 0) return -errno;
    if (write(go, "x", 1) != 1) return -errno;
    int status;
    while (waitpid(helper, &status, 0) < 0)
        if (errno != EINTR) return -errno;
    if (WIFEXITED(status) && WEXITSTATUS(status) == NO_HELPER) {
        *message = "newuidmap and newgidmap are not installed (package uidmap)";
        return -ENOENT;
    }
    *message = "newuidmap or newgidmap refused the ranges of /etc/subuid and /etc/subgid";
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) return -EPERM;
    *message = "the ids of the user namespace could not be taken on";
    /* SAFETY: all three ids and no group: an id that is not mapped would keep the right over files it should not have here. */
    if (sys_setresgid(0) != 0 || sys_setresuid(0) != 0 || sys_setgroups(0, NULL) != 0) return -errno;
    *message = "mounts could not be made to stay inside";
    /* SAFETY: receives what the node mounts later, sends nothing. */
    return sys_mount(NULL, "/", NULL, RECURSIVE | SLAVE, NULL) != 0 ? -errno : 0;
}

int rootless_enter(int argc, char **argv, const struct rootless_maps *maps, const char **message) {
    char *again[ARGUMENTS_MAX + 3] = {(char *)"corral-guest"};
    *message = "too many arguments";
    if (argc > ARGUMENTS_MAX) return -E2BIG;
    if (!maps->uids || !maps->gids) {
        *message = "no range of sub-ids was given";
        return -EINVAL;
    }
    int go[2];
    pid_t parent = getpid();
    *message = "a helper process could not be started";
    if (pipe2(go, O_CLOEXEC) != 0) return -errno;
    pid_t helper = fork();
    if (helper < 0) return -errno;
    if (helper == 0) {
        close(go[1]);
        map_parent(go[0], parent, maps);
    }
    close(go[0]);
    int error = enter(helper, go[1], message);
    close(go[1]);
    if (error) return error;
    for (int i = 0; i < argc; i++) again[i + 1] = argv[i];
    again[argc + 1] = (char *)"--inside";
    char *env[] = {NULL};
    /* Executed anew: this process was made non-dumpable by the change of ids, and its /proc files would stay with the old owner. */
    *message = "the program could not be started again";
    execve("/proc/self/exe", again, env);
    return -errno;
}
