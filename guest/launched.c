/* The role `launched`: first program inside a root that a foreign runtime built (launch.c), as PID 1. It does what the runtime does
 * not - devpts, the small files, the masks of step 12, the keyring of step 14 - and becomes `init`.
 *   launched [hide NAME | ro NAME | procfile NAME CONTENT | file TARGET MODE CONTENT | devpts TARGET] …
 * Nothing hostile has run yet; what it was told comes from the server. Its capabilities end in init's step 18.
 * Invariant: init starts with the descriptors of handover.h and no other, or not at all. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "contain.h"
#include "handover.h"
#include "launched.h"
#include "roles.h"
#include "sys.h"

enum { STEP_REQUEST = 0, STEP_NAMESPACES = 7, STEP_MOUNTS = 11, STEP_MASK = 12, STEP_KEYRING = 14, STEP_DESCRIPTORS = 15, STEP_EXEC = 16 };

static void add_proc(struct create *create, enum proc_kind kind, const char *name, const char *content) {
    if (create->procs == PROC_MAX) step_fail(STEP_REQUEST, E2BIG, "too many names of /proc");
    create->proc[create->procs++] = (struct proc_item){.kind = kind, .name = name, .content = content};
}

static void add_mount(struct create *create, struct mount mount) {
    if (create->mounts == MOUNTS_MAX) step_fail(STEP_REQUEST, E2BIG, "too many mounts");
    create->mount[create->mounts++] = mount;
}

/* How many arguments the verb took; 0: not one of ours, or cut off. */
static int take(struct create *create, int left, char **arg) {
    if (left >= 2 && !strcmp(arg[0], "hide")) return add_proc(create, PROC_HIDE, arg[1], NULL), 2;
    if (left >= 2 && !strcmp(arg[0], "ro")) return add_proc(create, PROC_READONLY, arg[1], NULL), 2;
    if (left >= 3 && !strcmp(arg[0], "procfile")) return add_proc(create, PROC_FILE, arg[1], arg[2]), 3;
    if (left >= 2 && !strcmp(arg[0], "devpts")) return add_mount(create, (struct mount){.kind = MOUNT_DEVPTS, .target = arg[1]}), 2;
    if (left < 4 || strcmp(arg[0], "file")) return 0;
    add_mount(create, (struct mount){.kind = MOUNT_FILE, .target = arg[1], .mode = (uint32_t)strtoul(arg[2], NULL, 10), .source = arg[3]});
    return 4;
}

static void parse(struct create *create, int argc, char **argv) {
    for (int i = 1, taken; i < argc; i += taken)
        if (!(taken = take(create, argc - i, argv + i))) step_fail(STEP_REQUEST, EINVAL, "an argument of the launched guest is unknown or cut off");
}

static void attach_all(struct making *making) {
    for (uint32_t i = 0; i < making->create->mounts; i++) {
        const struct mount *mount = &making->create->mount[i];
        int fd = mount->kind == MOUNT_DEVPTS ? devpts_make() : file_make(making, i);
        if (fd < 0) step_fail(STEP_MOUNTS, -fd, mount->target);
        /* SAFETY: the target is the sandbox's: the runtime has left the node's tree before this program ran. */
        if (sys_move_mount(fd, AT_FDCWD, mount->target, 0) != 0) step_fail(STEP_MOUNTS, errno, mount->target);
        close(fd);
    }
}

static void mask(struct making *making) {
    making->proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (making->proc < 0) step_fail(STEP_MASK, errno, "/proc");
    int error = procmask_apply(making, making->proc, making->scratch);
    if (error) step_fail(STEP_MASK, -error, "/proc could not be masked");
}

/* SAFETY: the runtime's own descriptors would be PID 1's; the guest's must close itself in the exec that it serves. */
static void tidy_descriptors(void) {
    if (dup2(STDIN_FILENO, STDERR_FILENO) < 0 || fcntl(LAUNCHED_GUEST, F_SETFD, FD_CLOEXEC) != 0) step_fail(STEP_DESCRIPTORS, errno, "descriptors");
    _Static_assert(LAUNCHED_GUEST == HANDOVER_EGRESS + 1, "nothing lies between what is handed over and the guest");
    if (sys_close_range(LAUNCHED_GUEST + 1, ~0u) != 0)
        step_fail(STEP_DESCRIPTORS, errno, "descriptors");
}

int launched_main(int argc, char **argv) {
    static struct create create;
    struct making making = {.create = &create, .root = -1, .scratch = -1, .proc = -1};
    char *init[] = {(char *)"corral-guest", (char *)"init", NULL}, *env[] = {NULL};
    tidy_descriptors();
    /* SAFETY: in a pid namespace that is not ours the masks would be another's, and PID 1 another program. */
    if (getpid() != 1) step_fail(STEP_NAMESPACES, EINVAL, "the foreign runtime did not make the guest PID 1");
    parse(&create, argc, argv);
    /* On /tmp only while files are cloned from it: taken off again, each lives on where it was laid. */
    int error = scratch_make(&making, "/tmp");
    if (!error) error = scratch_fill(&making);
    if (error) step_fail(STEP_MOUNTS, -error, "the small files could not be made");
    attach_all(&making);
    mask(&making);
    /* SAFETY: left there, it would hide the sandbox's own /tmp and its size. */
    if (sys_umount("/tmp", DETACH) != 0) step_fail(STEP_MOUNTS, errno, "/tmp");
    if (sys_keyctl(JOIN_SESSION_KEYRING, NULL) < 0 && errno != ENOSYS) step_fail(STEP_KEYRING, errno, "a session keyring could not be made");
    if (chdir("/") != 0) step_fail(STEP_DESCRIPTORS, errno, "/");
    close(making.scratch);
    close(making.proc);
    sys_execveat(LAUNCHED_GUEST, init, env);
    step_fail(STEP_EXEC, errno, "the guest program could not be started");
}
