/* Step 11, /dev: null, zero, full, random, urandom, tty, the usual links, and mount points for pts and shm.
 * As root the nodes are made anew on a tmpfs of each sandbox, not bound from the node's: a shared node would carry locks and
 * inotify events between sandboxes. In a user namespace nodes cannot be made, there they are bound.
 * Invariant: the mount is read-only; no other device is reachable. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "contain.h"
#include "sys.h"

static const struct {
    const char *name;
    unsigned major, minor;
} nodes[] = {{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}};

static const char *const links[][2] = {{"pts/ptmx", "ptmx"}, {"/proc/self/fd", "fd"}, {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"}, {"/proc/self/fd/2", "stderr"}};

enum { NODES = sizeof nodes / sizeof *nodes, LINKS = sizeof links / sizeof *links };

static int dev_tmpfs(const char *uid, const char *gid) {
    int context = sys_fsopen("tmpfs");
    if (context < 0) return -errno;
    bool ok = sys_fsconfig(context, FS_SET_STRING, "source", "dev") == 0 && sys_fsconfig(context, FS_SET_STRING, "size", "64k") == 0 &&
              sys_fsconfig(context, FS_SET_STRING, "nr_inodes", "32") == 0 && sys_fsconfig(context, FS_SET_STRING, "mode", "755") == 0 &&
              sys_fsconfig(context, FS_SET_STRING, "uid", uid) == 0 && sys_fsconfig(context, FS_SET_STRING, "gid", gid) == 0 &&
              sys_fsconfig(context, FS_CREATE, NULL, NULL) == 0;
    int fd = ok ? sys_fsmount(context, ATTR_NOSUID | ATTR_NOEXEC) : -1;
    int error = fd < 0 ? -errno : 0;
    close(context);
    return error ? error : fd;
}

static int furnish(int dir) {
    for (int i = 0; i < LINKS; i++)
        if (symlinkat(links[i][0], dir, links[i][1]) != 0) return -errno;
    if (mkdirat(dir, "pts", 0755) != 0 || mkdirat(dir, "shm", 0755) != 0) return -errno;
    return 0;
}

static int seal(int dir) {
    /* SAFETY: writable, uid 0 inside could leave files that another mount of the sandbox's limits does not count. */
    struct attr_request request = {.set = ATTR_RDONLY};
    return sys_mount_setattr(dir, 0, &request) != 0 ? -errno : 0;
}

int dev_make(struct making *making) {
    char uid[16], gid[16];
    snprintf(uid, sizeof uid, "%u", making->owner_uid);
    snprintf(gid, sizeof gid, "%u", making->owner_gid);
    int dir = dev_tmpfs(uid, gid);
    if (dir < 0) return dir;
    int error = furnish(dir);
    for (int i = 0; i < NODES && !error; i++)
        if (mknodat(dir, nodes[i].name, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)) != 0) error = -errno;
    if (!error) error = seal(dir);
    if (error) {
        making->message = "the device nodes could not be made";
        close(dir);
        return error;
    }
    return dir;
}

/* Rootless, in the child: a tree with empty files, to be attached before the nodes are mounted over them. */
int dev_frame(void) {
    int dir = dev_tmpfs("0", "0");
    if (dir < 0) return dir;
    int error = furnish(dir);
    for (int i = 0; i < NODES && !error; i++)
        if (mknodat(dir, nodes[i].name, S_IFREG | 0666, 0) != 0) error = -errno;
    if (!error) return dir;
    close(dir);
    return error;
}

/* SAFETY: single nodes, nosuid and noexec, over files of ours: a whole /dev of the node would bring every disk along. */
int dev_bind(int dir) {
    for (int i = 0; i < NODES; i++) {
        char path[16];
        snprintf(path, sizeof path, "/dev/%s", nodes[i].name);
        int tree = sys_open_tree(AT_FDCWD, path, TREE_CLONE | O_CLOEXEC);
        if (tree < 0) return -errno;
        struct attr_request request = {.set = ATTR_NOSUID | ATTR_NOEXEC};
        if (sys_mount_setattr(tree, 0, &request) != 0 || sys_move_mount(tree, dir, nodes[i].name, 0) != 0) return -errno;
        close(tree);
    }
    return seal(dir);
}
