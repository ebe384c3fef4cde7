/* Steps 10 to 13, in the child: the mounts become a tree, the tree becomes the root, the node's tree goes.
 * Targets are resolved inside the new root, by the kernel, before anything hostile runs.
 * Invariant: until the pivot the node's tree is still there, so a path that is followed here is either ours or "/". */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <linux/magic.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "contain.h"
#include "sys.h"

enum { VALUE_BYTES = 32, NAME_BYTES = 16 };

/* A mount point that is missing on a tmpfs that was just made. SAFETY: nowhere else: a tree of the person's, or a template's, gets no directory
 * that nobody asked for; what is not a tmpfs of this sandbox is left as it is. */
static int place_make(const struct making *making, const char *target) {
    char path[PATH_MAX];
    int error = snprintf(path, sizeof path, "%s", target + 1) >= (int)sizeof path ? -ENAMETOOLONG : 0;
    for (char *end = path; end && !error;) {
        struct statfs info;
        if ((end = strchr(end, '/'))) *end = 0;
        const char *last = strrchr(path, '/');
        char above[PATH_MAX];
        snprintf(above, sizeof above, "%.*s", last ? (int)(last - path) : 1, last ? path : ".");
        int dir = sys_openat2(making->root, above, O_PATH | O_DIRECTORY | O_CLOEXEC, IN_ROOT | NO_SYMLINKS | NO_MAGICLINKS);
        if (dir < 0) return -errno;
        if (fstatfs(dir, &info) == 0 && info.f_type == TMPFS_MAGIC && mkdirat(dir, last ? last + 1 : path, 0755) != 0 && errno != EEXIST) error = -errno;
        close(dir);
        if (end) *end++ = '/';
    }
    return error;
}

/* SAFETY: moves a detached mount onto `target`, never out of the new root. IN_ROOT: a link in the template is read as the sandbox would read it. */
static int attach(const struct making *making, int mount, const char *target) {
    int at = sys_openat2(making->root, target[1] ? target + 1 : ".", O_PATH | O_CLOEXEC, IN_ROOT | NO_MAGICLINKS);
    if (at < 0) return -errno;
    int error = sys_move_mount(mount, at, "", MOVE_TO_EMPTY) != 0 ? -errno : 0;
    close(at);
    return error;
}

/* Small files that are laid over others: one tmpfs, read-only once filled, whose files are bound singly. */
int scratch_make(struct making *making, const char *place) {
    int context = sys_fsopen("tmpfs");
    if (context < 0) return -errno;
    bool ok = sys_fsconfig(context, FS_SET_STRING, "source", "files") == 0 && sys_fsconfig(context, FS_SET_STRING, "size", "1m") == 0 &&
              sys_fsconfig(context, FS_SET_STRING, "nr_inodes", "256") == 0 && sys_fsconfig(context, FS_SET_STRING, "mode", "755") == 0 &&
              sys_fsconfig(context, FS_CREATE, NULL, NULL) == 0;
    making->scratch = ok ? sys_fsmount(context, ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC) : -1;
    int error = making->scratch < 0 ? -errno : 0;
    close(context);
    /* SAFETY: inside the child's own mount namespace, below what the pivot takes off. Attached, because a detached tree may not be
     * cloned from on older kernels. */
    if (!error && sys_move_mount(making->scratch, AT_FDCWD, place, 0) != 0) error = -errno;
    return error;
}

static int put_file(int dir, const char *name, uint32_t mode, const char *content) {
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0) return -errno;
    size_t length = strlen(content);
    int error = length && write(fd, content, length) != (ssize_t)length ? -ENOSPC : 0;
    close(fd);
    return error;
}

static void file_name(char *name, uint32_t index) { snprintf(name, NAME_BYTES, "m%u", index); }

int scratch_fill(struct making *making) {
    for (uint32_t i = 0; i < making->create->mounts; i++) {
        const struct mount *mount = &making->create->mount[i];
        char name[NAME_BYTES];
        if (mount->kind != MOUNT_FILE) continue;
        file_name(name, i);
        int error = put_file(making->scratch, name, mount->mode, mount->source);
        if (error) return error;
    }
    int error = procmask_fill(making, making->scratch);
    /* SAFETY: the files that are laid over others stay as they are, also for uid 0 inside. */
    struct attr_request request = {.set = ATTR_RDONLY};
    if (!error && sys_mount_setattr(making->scratch, 0, &request) != 0) error = -errno;
    return error;
}

static int refuse(struct making *making, enum mount_kind kind, int error) {
    static const char *const failed[] = {
        [MOUNT_OVERLAY] = "an overlay could not be attached (is its mount point in the template?)",
        [MOUNT_BIND] = "a bind mount could not be attached (is its mount point in the template?)",
        [MOUNT_TMPFS] = "a tmpfs could not be mounted (is its mount point in the template?)",
        [MOUNT_PROC] = "/proc could not be mounted (inside a container whose /proc is masked the kernel refuses it)",
        [MOUNT_DEVPTS] = "devpts could not be mounted (is its mount point in the template?)",
        [MOUNT_DEV] = "/dev could not be made (is its mount point in the template?)",
        [MOUNT_FILE] = "a small file could not be laid over its target (is the target in the template?)",
    };
    making->message = failed[kind];
    return error;
}

/* Step 10, the namespace. */
int root_private(struct making *making) {
    making->message = "mounts could not be made private";
    /* SAFETY: shared, what is mounted here would appear on the node, and what the node unmounts would go here. */
    if (sys_mount(NULL, "/", NULL, RECURSIVE | PRIVATE, NULL) != 0) return -errno;
    making->message = "the small files could not be made";
    /* Over the old /proc, which nobody needs by path any more, so that it goes with the old root. Never over "/": umount takes the
     * topmost mount of a path, the small files would go in the old root's place, and `/..` inside would be the node. */
    int error = scratch_make(making, "/proc");
    return error ? error : scratch_fill(making);
}

static int new_fs(const char *type, const char *const (*options)[2], uint32_t attributes) {
    int context = sys_fsopen(type);
    if (context < 0) return -errno;
    bool ok = sys_fsconfig(context, FS_SET_STRING, "source", type) == 0;
    for (; ok && (*options)[0]; options++) ok = sys_fsconfig(context, FS_SET_STRING, (*options)[0], (*options)[1]) == 0;
    ok = ok && sys_fsconfig(context, FS_CREATE, NULL, NULL) == 0;
    int fd = ok ? sys_fsmount(context, attributes) : -1;
    int error = fd < 0 ? -errno : 0;
    close(context);
    return error ? error : fd;
}

int tmpfs_make(const struct making *making, const struct mount *mount) {
    char size[VALUE_BYTES], inodes[VALUE_BYTES], mode[VALUE_BYTES], uid[VALUE_BYTES], gid[VALUE_BYTES];
    snprintf(size, sizeof size, "%llu", (unsigned long long)mount->bytes);
    snprintf(inodes, sizeof inodes, "%llu", (unsigned long long)mount->inodes);
    snprintf(mode, sizeof mode, "%o", mount->mode);
    snprintf(uid, sizeof uid, "%u", mount->own ? making->create->uid : 0);
    snprintf(gid, sizeof gid, "%u", mount->own ? making->create->gid : 0);
    /* SAFETY: without size and nr_inodes a sandbox fills the node's memory: half of it is the default of each. */
    const char *const options[][2] = {{"size", size}, {"nr_inodes", inodes}, {"mode", mode}, {"uid", uid}, {"gid", gid}, {NULL, NULL}};
    return new_fs("tmpfs", options, ATTR_NOSUID | ATTR_NODEV);
}

int devpts_make(void) {
    /* SAFETY: newinstance, or the terminals of the node would be listed and, with luck, opened. */
    const char *const options[][2] = {{"ptmxmode", "0666"}, {"mode", "0620"}, {NULL, NULL}};
    return new_fs("devpts", options, ATTR_NOSUID | ATTR_NOEXEC);
}

static int mount_proc(void) {
    static const char *const options[][2] = {{NULL, NULL}};
    return new_fs("proc", options, ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC);
}

int file_make(const struct making *making, uint32_t index) {
    char name[NAME_BYTES];
    file_name(name, index);
    int tree = sys_open_tree(making->scratch, name, TREE_CLONE | O_CLOEXEC);
    return tree < 0 ? -errno : tree;
}

/* Step 11, what belongs to the namespaces of the child. proc gets a place at once, over the old one, because names can be covered
 * only below an attached mount on older kernels; the others wait for the root. */
int root_own(struct making *making) {
    for (uint32_t i = 1; i < making->create->mounts; i++) {
        const struct mount *mount = &making->create->mount[i];
        int fd = 0;
        if (mount->kind == MOUNT_TMPFS) fd = making->mount[i] = tmpfs_make(making, mount);
        else if (mount->kind == MOUNT_DEVPTS) fd = making->mount[i] = devpts_make();
        else if (mount->kind == MOUNT_PROC) fd = making->mount[i] = making->proc = mount_proc();
        if (fd < 0) return refuse(making, mount->kind, fd);
        /* SAFETY: in the child's own mount namespace, on the old tree: seen by nobody else, and moved into the sandbox's. */
        if (mount->kind == MOUNT_PROC && sys_move_mount(fd, AT_FDCWD, "/proc", 0) != 0) return refuse(making, mount->kind, -errno);
    }
    return 0;
}

/* Step 12. */
int root_mask(struct making *making) {
    making->message = "/proc could not be masked";
    return making->proc < 0 ? 0 : procmask_apply(making, making->proc, making->scratch);
}

/* Step 10, the root. */
int root_attach(struct making *making) {
    making->message = "the root could not be attached";
    making->root = making->mount[0];
    /* SAFETY: a mount point of its own, stacked on the old root: pivot_root refuses anything less, and a locked mount. */
    return sys_move_mount(making->root, AT_FDCWD, "/", 0) != 0 ? -errno : 0;
}

static int mount_one(struct making *making, uint32_t index) {
    const struct mount *mount = &making->create->mount[index];
    int fd = making->mount[index];
    bool nodes = mount->kind == MOUNT_DEV && fd < 0;
    if (mount->kind == MOUNT_FILE) fd = file_make(making, index);
    else if (nodes) fd = dev_frame();
    if (fd < 0) return fd;
    int error = attach(making, fd, mount->target);
    if (error == -ENOENT && mount->kind == MOUNT_OVERLAY && !(error = place_make(making, mount->target))) error = attach(making, fd, mount->target);
    return !error && nodes ? dev_bind(fd) : error;
}

/* Step 11, the tree. */
int root_mounts(struct making *making) {
    for (uint32_t i = 1; i < making->create->mounts; i++) {
        int error = mount_one(making, i);
        if (error) return refuse(making, making->create->mount[i].kind, error);
    }
    return 0;
}

/* Whether nothing is stacked on the root: what is would be reached as `/..`. */
static int root_is_bare(void) {
    struct stat here, above;
    if (stat("/", &here) != 0 || stat("/..", &above) != 0) return -errno;
    return here.st_dev == above.st_dev && here.st_ino == above.st_ino ? 0 : -EXDEV;
}

/* Step 13. */
int root_pivot(struct making *making) {
    making->message = "the root could not be exchanged";
    if (fchdir(making->root) != 0) return -errno;
    /* SAFETY: the old root lands on top of the new one and is taken off at once: last use of the node's paths. */
    if (sys_pivot_root(".", ".") != 0 || sys_umount(".", DETACH) != 0 || chdir("/") != 0) return -errno;
    return root_is_bare();
}
