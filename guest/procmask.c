/* Step 12: what of /proc tells about the node, or acts on it, is covered; the four figures that programs read are replaced by the
 * sandbox's own. The lists come from CREATE. /proc is not another user's view: it is the kernel's, the same for all.
 * Invariant: a name that exists and was listed is covered, or readable by nobody inside, when this returns 0; a name this kernel
 * does not have is no error. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "contain.h"
#include "sys.h"

enum { NAME_BYTES = 16 };

static const char empty_file[] = "f", empty_dir[] = "d";

static int write_new(int dir, const char *name, const char *content) {
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
    if (fd < 0) return -errno;
    size_t length = strlen(content);
    int error = length && write(fd, content, length) != (ssize_t)length ? -ENOSPC : 0;
    close(fd);
    return error;
}

int procmask_fill(const struct making *making, int scratch) {
    const struct create *create = making->create;
    int error = create->procs ? write_new(scratch, empty_file, "") : 0;
    if (!error && create->procs && mkdirat(scratch, empty_dir, 0555) != 0) error = -errno;
    for (uint32_t i = 0; i < create->procs && !error; i++) {
        char name[NAME_BYTES];
        if (create->proc[i].kind != PROC_FILE) continue;
        snprintf(name, sizeof name, "p%u", i);
        error = write_new(scratch, name, create->proc[i].content);
    }
    return error;
}

/* SAFETY: the source is a file of the scratch, which is read-only and holds nothing but what CREATE said. */
static int cover(int proc, const char *name, int from, const char *source) {
    int tree = sys_open_tree(from, source, TREE_CLONE | O_CLOEXEC);
    if (tree < 0) return -errno;
    int error = sys_move_mount(tree, proc, name, 0) != 0 ? -errno : 0;
    close(tree);
    return error;
}

/* SAFETY: without it uid 0 inside could try the node's switches below /proc/sys; a fault of the kernel's own checks would be enough. */
static int read_only(int proc, const char *name) {
    int tree = sys_open_tree(proc, name, TREE_CLONE | O_CLOEXEC);
    if (tree < 0) return -errno;
    struct attr_request request = {.set = ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC};
    int error = sys_mount_setattr(tree, 0, &request) != 0 || sys_move_mount(tree, proc, name, 0) != 0 ? -errno : 0;
    close(tree);
    return error;
}

/* What only its owner and group may touch is closed already: both are the node's root, whom no map of ours holds, and over an inode
 * of unmapped owners no capability inside counts. A quarter of the list, and each cover costs a mount. */
static bool closed_to_all(const struct stat *st) { return (st->st_mode & (S_IRWXO)) == 0; }

int procmask_apply(const struct making *making, int proc, int scratch) {
    const struct create *create = making->create;
    /* Read-only directories first: a file below one of them (sys/kernel/random/boot_id) is laid over the copy that shows. */
    for (uint32_t i = 0; i < create->procs; i++) {
        if (create->proc[i].kind != PROC_READONLY) continue;
        int error = read_only(proc, create->proc[i].name);
        if (error && error != -ENOENT) return error;
    }
    for (uint32_t i = 0; i < create->procs; i++) {
        const struct proc_item *item = &create->proc[i];
        struct stat st;
        char name[NAME_BYTES];
        if (item->kind == PROC_READONLY) continue;
        if (fstatat(proc, item->name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
            if (errno == ENOENT) continue;
            return -errno;
        }
        if (item->kind == PROC_HIDE && closed_to_all(&st)) continue;
        snprintf(name, sizeof name, "p%u", i);
        const char *source = item->kind == PROC_FILE ? name : S_ISDIR(st.st_mode) ? empty_dir : empty_file;
        int error = cover(proc, item->name, scratch, source);
        if (error) return error;
    }
    return 0;
}
