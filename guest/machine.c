/* Tool `machine`: tries, in children of its own, what the walls and the view need of this kernel, and says how each went.
 * It leaves nothing behind: every mount is in a mount namespace that ends with its child. It decides nothing; src/runtime/probe.ts does.
 * Invariant: each attempt is the very call that a sandbox will make, so that "ok" is no guess. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "sys.h"
#include "tools.h"

enum { RULESET_VERSION = 1, CREATE_RULESET = 444, NOT_TOLD = 255 };

static int write_text(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return errno;
    int error = write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : errno;
    close(fd);
    return error;
}

/* Root of a namespace of our own, unless we are the machine's. SAFETY: private, or a try would be seen in the node's mounts. */
static int enter(unsigned long spaces) {
    uid_t uid = geteuid();
    gid_t gid = getegid();
    char map[32];
    if (unshare((int)(spaces | (uid ? NEW_USER : 0)))) return errno;
    if (uid) {
        snprintf(map, sizeof map, "0 %u 1", uid);
        int error = write_text("/proc/self/setgroups", "deny");
        if (!error) error = write_text("/proc/self/uid_map", map);
        snprintf(map, sizeof map, "0 %u 1", gid);
        if (!error) error = write_text("/proc/self/gid_map", map);
        if (error) return error;
    }
    return sys_mount(NULL, "/", NULL, RECURSIVE | PRIVATE, NULL) ? errno : 0;
}

static int try_userns(void) { return unshare(NEW_USER) ? errno : 0; }

static int set_all(int context, const char *const (*options)[2]) {
    for (; (*options)[0]; options++)
        if (sys_fsconfig(context, (*options)[1] ? FS_SET_STRING : FS_SET_FLAG, (*options)[0], (*options)[1])) return errno;
    return sys_fsconfig(context, FS_CREATE, NULL, NULL) ? errno : 0;
}

static int new_mount(const char *type, const char *const (*options)[2], int *mount) {
    int context = sys_fsopen(type);
    if (context < 0) return errno;
    int error = set_all(context, options);
    if (!error && (*mount = sys_fsmount(context, ATTR_NOSUID | ATTR_NODEV)) < 0) error = errno;
    close(context);
    return error;
}

/* A tmpfs on /tmp of this child's namespace with a few directories. */
static int make_place(void) {
    static const char *const names[] = {"/tmp/a", "/tmp/b", "/tmp/u", "/tmp/w", NULL}, *const none[][2] = {{NULL, NULL}};
    int mount = -1, error = enter(NEW_NS);
    if (!error) error = new_mount("tmpfs", none, &mount);
    /* SAFETY: in a namespace of our own; the node's /tmp is not covered. */
    if (!error && sys_move_mount(mount, AT_FDCWD, "/tmp", 0)) error = errno;
    for (int i = 0; names[i] && !error; i++)
        if (mkdir(names[i], 0755)) error = errno;
    return error;
}

static int try_overlay_with(const char *lower, bool upper) {
    bool rootless = geteuid() != 0;
    int mount = -1, error = make_place();
    const char *options[8][2] = {{"source", "overlay"}, {"lowerdir", lower}};
    int count = 2;
    if (upper) {
        options[count][0] = "upperdir", options[count++][1] = "/tmp/u";
        options[count][0] = "workdir", options[count++][1] = "/tmp/w";
    }
    if (rootless) options[count][0] = "userxattr", options[count++][1] = NULL;
    options[count][0] = options[count][1] = NULL;
    return error ? error : new_mount("overlay", (const char *const (*)[2])(const void *)options, &mount);
}

static int try_overlay(void) { return try_overlay_with("/tmp/a:/tmp/b", true); }
static int try_overlay_data(void) { return try_overlay_with("/tmp/a::/tmp/b", false); }

static int wait_for(pid_t pid) {
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return errno;
    return WIFEXITED(status) ? WEXITSTATUS(status) : NOT_TOLD;
}

/* A fresh /proc wants a pid namespace, which begins with the next child. */
static int try_proc(void) {
    static const char *const none[][2] = {{NULL, NULL}};
    int mount = -1, error = enter(NEW_NS | NEW_PID);
    if (error) return error;
    pid_t pid = fork();
    if (pid == 0) _exit(new_mount("proc", none, &mount));
    return pid < 0 ? errno : wait_for(pid);
}

static int try_clone3(void) {
    struct clone_request request = {.exit_signal = SIGCHLD};
    /* SAFETY: without a flag: an ordinary child, which ends at once. */
    pid_t pid = sys_clone3(&request);
    if (pid == 0) _exit(0);
    return pid < 0 ? errno : wait_for(pid);
}

static void tell(const char *name, int (*attempt)(void)) {
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) _exit(attempt());
    int error = pid < 0 ? errno : wait_for(pid);
    if (error) printf("%s errno %d\n", name, error);
    else printf("%s ok\n", name);
}

int tool_machine(int argc, char **argv) {
    (void)argv;
    if (argc != 1) {
        fputs("machine: takes no arguments\n", stderr);
        return 1;
    }
    long landlock = syscall(CREATE_RULESET, NULL, 0, RULESET_VERSION);
    printf("landlock %ld\n", landlock < 0 ? 0 : landlock);
    tell("userns", try_userns);
    tell("overlay", try_overlay);
    tell("overlay-data", try_overlay_data);
    tell("proc", try_proc);
    tell("clone3", try_clone3);
    return fflush(stdout) ? 1 : 0;
}
