/* The mask as a directory tree: one inode for each entry, content by overlay's metacopy and redirect marks. Where the kernel
 * cannot mount an image (rootless, or before 6.12). Kept across versions: directories whose listing changed are made again
 * beside the old and put in its place; the others stay, or are moved.
 * Invariant: whoever runs this owns OUT alone while it runs (nobody has it mounted); a failure leaves OUT to be thrown away. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "mask.h"
#include "remove.h"

enum { DIR_FLAGS = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, EXCHANGE = 2 };

struct level {
    int fd;   /* the directory as it will be */
    int old;  /* MASK_CHANGED: the directory as it was; else -1 */
    uint8_t state;
    int swap; /* made in the side room, to be exchanged with the old one when it is done */
    char name[NAME_MAX + 1];
};

static struct {
    struct mask_options options;
    const char *metacopy, *redirect;
    struct level *levels;
    size_t depth, size;
    int parent; /* directory that holds OUT */
    const char *parent_name;
    char room_name[NAME_MAX + 1];
    int room; /* side room beside OUT: what is being made, and what is thrown away; -1 until needed */
    uint32_t made;
    char base_name[NAME_MAX + 1];
} tree;

static void side_room(void) {
    if (tree.room >= 0) return;
    snprintf(tree.room_name, sizeof tree.room_name, "%.200s.room", tree.base_name);
    if (mkdirat(tree.parent, tree.room_name, 0700)) mask_fail("cannot make", tree.room_name, errno);
    tree.room = openat(tree.parent, tree.room_name, DIR_FLAGS);
    if (tree.room < 0) mask_fail("cannot open", tree.room_name, errno);
}

void mask_tree_open(const struct mask_options *options) {
    static char dir[PATH_MAX], base[PATH_MAX];
    tree.options = *options;
    tree.metacopy = options->trusted ? "trusted.overlay.metacopy" : "user.overlay.metacopy";
    tree.redirect = options->trusted ? "trusted.overlay.redirect" : "user.overlay.redirect";
    tree.room = -1;
    if (strlen(options->out) >= sizeof dir) mask_fail("OUT is too long", NULL, 0);
    strcpy(dir, options->out);
    strcpy(base, options->out);
    snprintf(tree.base_name, sizeof tree.base_name, "%.250s", basename(base));
    tree.parent_name = dirname(dir);
    tree.parent = open(tree.parent_name, DIR_FLAGS);
    if (tree.parent < 0) mask_fail("cannot open the directory of", options->out, errno);
}

static struct level *push(void) {
    if (tree.depth == tree.size) {
        tree.size = tree.size ? tree.size * 2 : 32;
        tree.levels = realloc(tree.levels, tree.size * sizeof *tree.levels);
        if (!tree.levels) mask_fail("out of memory", NULL, 0);
    }
    struct level *level = &tree.levels[tree.depth++];
    *level = (struct level){.fd = -1, .old = -1};
    return level;
}

static int make_dir(int at, const char *name) {
    if (mkdirat(at, name, 0700)) mask_fail("cannot make", name, errno);
    int fd = openat(at, name, DIR_FLAGS);
    if (fd < 0) mask_fail("cannot open", name, errno);
    return fd;
}

static int open_old(int at, const char *name) {
    int fd = at < 0 ? -1 : openat(at, name, DIR_FLAGS);
    if (fd < 0) mask_fail("the kept mask lacks", name, at < 0 ? 0 : errno);
    return fd;
}

static void keep(const struct level *parent, const char *name) {
    if (!parent || parent->state == MASK_SAME) return;
    if (parent->old < 0 || renameat(parent->old, name, parent->fd, name)) mask_fail("the kept mask lacks", name, errno);
}

static void enter(const struct mask_op *op) {
    const char *name = op->name_length ? op->name : tree.base_name;
    struct level *level = push();
    struct level *parent = tree.depth > 1 ? &tree.levels[tree.depth - 2] : NULL;
    int at = parent ? parent->fd : tree.parent;
    level->state = op->flags;
    strcpy(level->name, name);
    switch (level->state) {
    case MASK_FRESH: level->fd = make_dir(at, name); break;
    case MASK_SAME:
        keep(parent, name);
        level->fd = open_old(at, name);
        break;
    case MASK_CHANGED:
        if (parent && parent->state != MASK_SAME) {
            level->old = open_old(parent->old, name);
            level->fd = make_dir(at, name);
        } else {
            char fresh[16];
            side_room();
            snprintf(fresh, sizeof fresh, "%u", tree.made++);
            level->old = open_old(at, name);
            level->fd = make_dir(tree.room, fresh);
            level->swap = 1;
        }
        break;
    default: mask_fail("the plan enters in an unknown way", NULL, 0);
    }
}

static void times(int at, const char *name, const struct mask_op *op) {
    struct timespec both[2] = {{op->mtime, op->mtime_ns}, {op->mtime, op->mtime_ns}};
    if (name ? utimensat(at, name, both, AT_SYMLINK_NOFOLLOW) : futimens(at, both)) mask_fail("cannot set the times of", op->path, errno);
}

static void leave(const struct mask_op *op) {
    struct level *level = &tree.levels[tree.depth - 1];
    uid_t uid = op->flags & MASK_OWN ? tree.options.uid : 0;
    gid_t gid = op->flags & MASK_OWN ? tree.options.gid : 0;
    if (fchown(level->fd, uid, gid) || fchmod(level->fd, op->mode)) mask_fail("cannot set the owner of", level->name, errno);
    times(level->fd, NULL, op);
    if (level->swap) {
        char fresh[16], path[PATH_MAX + NAME_MAX + 32];
        int at = tree.depth > 1 ? tree.levels[tree.depth - 2].fd : tree.parent;
        snprintf(fresh, sizeof fresh, "%u", --tree.made); /* they nest: the last one begun is the first one done */
        if (syscall(SYS_renameat2, tree.room, fresh, at, level->name, EXCHANGE)) mask_fail("cannot replace", level->name, errno);
        snprintf(path, sizeof path, "%s/%s/%s", tree.parent_name, tree.room_name, fresh);
        int error = tree_remove(path, REMOVE_ALL);
        if (error) mask_fail("cannot remove the old", level->name, -error);
    }
    close(level->fd);
    if (level->old >= 0) close(level->old);
    tree.depth--;
}

static void file(const struct level *level, const struct mask_op *op) {
    int fd = openat(level->fd, op->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, op->mode);
    if (fd < 0) mask_fail("cannot make", op->path, errno);
    if (op->size && ftruncate(fd, (off_t)op->size)) mask_fail("cannot size", op->path, errno);
    /* SAFETY: only what has `read` leads anywhere; without both marks the file is a hole of the right size. */
    if ((op->flags & MASK_CONTENT) &&
        (fsetxattr(fd, tree.redirect, op->lead, op->lead_length, 0) || fsetxattr(fd, tree.metacopy, "", 0, 0)))
        mask_fail("cannot mark", op->path, errno);
    if ((op->flags & MASK_OWN) && fchown(fd, tree.options.uid, tree.options.gid)) mask_fail("cannot give away", op->path, errno);
    times(fd, NULL, op);
    close(fd);
}

void mask_tree_apply(const struct mask_op *op) {
    struct level *level = tree.depth ? &tree.levels[tree.depth - 1] : NULL;
    switch (op->type) {
    case MASK_ENTER: enter(op); break;
    case MASK_LEAVE: leave(op); break;
    case MASK_KEEP: keep(level, op->name); break;
    case MASK_FILE: file(level, op); break;
    case MASK_LINK:
        if (symlinkat(op->target, level->fd, op->name)) mask_fail("cannot make", op->path, errno);
        if ((op->flags & MASK_OWN) && fchownat(level->fd, op->name, tree.options.uid, tree.options.gid, AT_SYMLINK_NOFOLLOW))
            mask_fail("cannot give away", op->path, errno);
        times(level->fd, op->name, op);
        break;
    default: abort();
    }
}

void mask_tree_close(void) {
    if (tree.room >= 0 && unlinkat(tree.parent, tree.room_name, AT_REMOVEDIR)) mask_fail("cannot remove", tree.room_name, errno);
}
