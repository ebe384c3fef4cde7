// Makes one entry of a commit in the staging directory, complete with content, owner and mode, so that putting it in place later is
// one rename. It touches nothing outside the staging directory.
// Invariant: what was copied is what was judged: the source has the same inode, size and times before and after the copy.
#define _GNU_SOURCE
#include "stage.h"

#include "content.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

enum {XATTR_BYTES_MAX = 65536, OVERFLOW_ID = 65534};

static int same_source(int fd, const struct stage_sig *judged) {
    struct stat st;
    struct stage_sig now;
    if (fstat(fd, &st) < 0) return 0;
    sig_of(&st, &now);
    return same_thing(&now, judged) && now.ctime == judged->ctime;
}

/* Whether ids are those of the machine. Inside a user namespace 65534 may be "nobody here" and must not be written down. */
static int ids_are_global(void) {
    char map[64] = {0};
    unsigned inside = 1, outside = 1, count = 0;
    int fd = open("/proc/self/uid_map", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t got = read(fd, map, sizeof map - 1);
    close(fd);
    return got > 0 && sscanf(map, "%u %u %u", &inside, &outside, &count) == 3 && inside == 0 && outside == 0 && count == UINT32_MAX;
}

/* Gives the staged entry the owner of what it replaces, or of the directory it comes to lie in. */
static int own(const struct commit *commit, const char *staged, const struct stat *like, int replaces) {
    struct stat now;
    if (fstatat(commit->fresh, staged, &now, AT_SYMLINK_NOFOLLOW) < 0) return -1;
    uid_t uid = like->st_uid;
    gid_t gid = replaces || (like->st_mode & S_ISGID) || ids_are_global() ? like->st_gid : now.st_gid;
    if (!ids_are_global()) {
        if (uid == OVERFLOW_ID && replaces) {
            errno = EPERM;
            return -1;
        }
        if (uid == OVERFLOW_ID) uid = now.st_uid;
        /* A group we cannot name (the user's supplementary one): the new file gets the user's own. */
        if (gid == OVERFLOW_ID) gid = now.st_gid;
    }
    if (uid == now.st_uid && gid == now.st_gid) return 0;
    return fchownat(commit->fresh, staged, uid, gid, AT_SYMLINK_NOFOLLOW);
}

/* Attributes that stand for access or meaning move to the file that takes the place; capabilities and overlay marks never do. */
static int keeps_xattr(const char *name) {
    return strncmp(name, "user.", 5) == 0 ? strncmp(name, "user.overlay.", 13) != 0
        : strcmp(name, "system.posix_acl_access") == 0 || strcmp(name, "security.selinux") == 0;
}

static int keep_xattrs(int from, int to) {
    static char names[XATTR_BYTES_MAX], value[XATTR_BYTES_MAX];
    ssize_t size = flistxattr(from, names, sizeof names);
    if (size < 0) return errno == EOPNOTSUPP ? 0 : -1;
    for (const char *name = names; name < names + size; name += strlen(name) + 1) {
        if (!keeps_xattr(name)) continue;
        ssize_t length = fgetxattr(from, name, value, sizeof value);
        if (length < 0 && errno == ENODATA) continue;
        if (length < 0 || fsetxattr(to, name, value, (size_t)length, 0) < 0) return -1;
    }
    return 0;
}

/* The entry whose owner the new one gets: the replaced one, else the nearest directory above that is there. */
static int find_like(const struct commit *commit, const struct op *op, struct stat *like, int *replaces) {
    *replaces = op->before.type != 0 && op->kind != OP_MKDIR;
    char *path = strdup(op->path);
    int fd = -1;
    if (!path) return -1;
    if (*replaces) fd = open_beneath(commit->root, path, O_PATH);
    while (!*replaces && fd < 0) {
        char *slash = strrchr(path, '/');
        *(slash ? slash : path) = 0;
        fd = open_beneath(commit->root, path, O_PATH | O_DIRECTORY);
        if (fd < 0 && (*path == 0 || (errno != ENOENT && errno != ENOTDIR && errno != ELOOP))) break;
    }
    free(path);
    if (fd < 0) return -1;
    int result = fstat(fd, like);
    close(fd);
    return result;
}

static int fill_file(const struct commit *commit, const struct op *op, int from, int to) {
    struct stat st;
    if (!same_source(from, &op->from)) {
        errno = ESTALE;
        return -1;
    }
    if (content_copy(from, to, (off_t)op->from.size) < 0) return -1;
    /* SAFETY: a delta or base that changes under the copy would put unjudged or half written bytes into the codebase. */
    if (!same_source(from, &op->from) || fstat(to, &st) < 0 || (uint64_t)st.st_size != op->from.size) {
        errno = ESTALE;
        return -1;
    }
    if (op->before.type != 'f') return 0;
    int old = open_beneath(commit->root, op->path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    if (old < 0) return -1;
    int result = keep_xattrs(old, to);
    int error = errno;
    close(old);
    errno = error;
    return result;
}

static int make_file(const struct commit *commit, const struct op *op, const char *name, const struct stat *like, int replaces) {
    int from = open_beneath(op->source == SOURCE_UPPER ? commit->upper : commit->root, op->from_path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    if (from < 0) return -1;
    int to = openat(commit->fresh, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    int result = to < 0 || fill_file(commit, op, from, to) < 0 || own(commit, name, like, replaces) < 0 ? -1 : 0;
    /* After chown, which clears bits, and after the ACL, whose mask the group bits are. */
    if (result == 0 && fchmod(to, op->mode & 0777) < 0) result = -1;
    if (result == 0 && commit->plan.count <= SYNC_ONE_BY_ONE && fsync(to) < 0) result = -1;
    int error = errno;
    close(from);
    if (to >= 0) close(to);
    errno = error;
    return result;
}

int stage_make(struct commit *commit, uint32_t index) {
    struct op *op = &commit->plan.ops[index];
    char name[16];
    struct stat like, st;
    int replaces, result;
    snprintf(name, sizeof name, "%u", index);
    if (find_like(commit, op, &like, &replaces) < 0) return -1;
    if (op->kind == OP_FILE) result = make_file(commit, op, name, &like, replaces);
    else if (op->kind == OP_LINK) result = symlinkat(op->target, commit->fresh, name) < 0 || own(commit, name, &like, replaces) < 0 ? -1 : 0;
    else {
        /* A directory below one with setgid inherits the bit, as mkdir would have it. */
        mode_t mode = (op->mode & 0777) | (like.st_mode & S_ISGID);
        result = mkdirat(commit->fresh, name, 0700) < 0 || own(commit, name, &like, 0) < 0 || fchmodat(commit->fresh, name, mode, 0) < 0 ? -1 : 0;
    }
    if (result < 0 || fstatat(commit->fresh, name, &st, AT_SYMLINK_NOFOLLOW) < 0) return -1;
    sig_of(&st, &op->made);
    return 0;
}
