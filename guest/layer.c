/* `tool layer copy FROM TO` and `tool layer move FROM TO`: the upper layer of an overlay as a frozen one. Nothing writes to FROM meanwhile:
 * its sandbox stands still or is not there. What is in it was made by hostile code through the kernel.
 * Invariant: no link is followed and no mount is entered; the copy has every name, owner, mode, time, attribute and mark of the original, and
 * names of one file are names of one file in it. TO is whole, or the tool fails and whoever called removes what is there. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "content.h"
#include "sys.h"
#include "tools.h"

enum { DEEPEST = 2000, LIST_BYTES = 65536, VALUE_BYTES = 65536, LINK_BUCKETS = 4096 };

/* A file of several names that was copied already. */
struct link {
    struct link *next;
    ino_t ino;
    char *path; /* below TO */
};

struct copy {
    dev_t device;
    int top; /* TO */
    struct link *links[LINK_BUCKETS];
    char path[PATH_MAX]; /* of the directory at work, below TO; ends in a slash unless it is TO */
    int unnamed;         /* directories on the way whose path is longer than that */
};

struct names {
    char **name;
    size_t count, room;
};

static int add_name(struct names *names, const char *name) {
    if (names->count == names->room) {
        size_t room = names->room ? names->room * 2 : 16;
        char **grown = realloc(names->name, room * sizeof *grown);
        if (!grown) return -ENOMEM;
        names->name = grown;
        names->room = room;
    }
    return (names->name[names->count++] = strdup(name)) ? 0 : -ENOMEM;
}

static void free_names(struct names *names) {
    for (size_t i = 0; i < names->count; i++) free(names->name[i]);
    free(names->name);
}

/* All before the first is copied: a directory is then open once, however deep what is below it. */
static int list(int dir, struct names *names) {
    int copy = fcntl(dir, F_DUPFD_CLOEXEC, 3);
    DIR *listing = copy < 0 ? NULL : fdopendir(copy);
    if (!listing) {
        int error = -errno;
        if (copy >= 0) close(copy);
        return error;
    }
    int error = 0;
    errno = 0;
    for (struct dirent *entry; !error && (entry = readdir(listing));) {
        const char *name = entry->d_name;
        if (name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]))) continue;
        error = add_name(names, name);
    }
    if (!error && errno) error = -errno;
    closedir(listing);
    return error;
}

static int copy_xattrs(int from, int to) {
    static char names[LIST_BYTES], value[VALUE_BYTES];
    ssize_t size = flistxattr(from, names, sizeof names);
    if (size < 0) return errno == EOPNOTSUPP ? 0 : -errno;
    for (const char *name = names; name < names + size; name += strlen(name) + 1) {
        ssize_t length = fgetxattr(from, name, value, sizeof value);
        if (length < 0 || fsetxattr(to, name, value, (size_t)length, 0) != 0) return -errno;
    }
    return 0;
}

/* Owner first: a change of owner takes setuid bits and capabilities away. Times last. */
static int dress(int from, int to, const struct stat *like) {
    if (fchown(to, like->st_uid, like->st_gid) != 0 || fchmod(to, like->st_mode & 07777) != 0) return -errno;
    int error = copy_xattrs(from, to);
    if (error) return error;
    const struct timespec times[2] = {like->st_atim, like->st_mtim};
    return futimens(to, times) != 0 ? -errno : 0;
}

static int copy_file(int from_dir, int to_dir, const char *name, const struct stat *like) {
    int from = openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (from < 0) return -errno;
    int to = openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    int error = to < 0 || content_copy(from, to, like->st_size) != 0 ? -errno : dress(from, to, like);
    close(from);
    if (to >= 0) close(to);
    return error;
}

static int copy_link(int from_dir, int to_dir, const char *name) {
    char target[PATH_MAX];
    ssize_t length = readlinkat(from_dir, name, target, sizeof target - 1);
    if (length < 0) return -errno;
    target[length] = 0;
    return symlinkat(target, to_dir, name) != 0 ? -errno : 0;
}

static int copy_special(int to_dir, const char *name, const struct stat *like) {
    /* SAFETY: a whiteout is the only device that the kernel makes in a delta; another one would open the node's. */
    bool whiteout = S_ISCHR(like->st_mode) && major(like->st_rdev) == 0 && minor(like->st_rdev) == 0;
    if (!whiteout && !S_ISFIFO(like->st_mode) && !S_ISSOCK(like->st_mode)) return -EINVAL;
    return mknodat(to_dir, name, like->st_mode, whiteout ? makedev(0, 0) : 0) != 0 ? -errno : 0;
}

static struct link **bucket(struct copy *copy, ino_t ino) { return &copy->links[ino % LINK_BUCKETS]; }

/* 1: it is a further name of what was copied already, and is made; 0: it is to be copied. */
static int link_again(struct copy *copy, int to_dir, const char *name, const struct stat *like) {
    /* Too deep to be named from the top: each of its names becomes a file of its own. */
    if (like->st_nlink < 2 || copy->unnamed) return 0;
    for (struct link *link = *bucket(copy, like->st_ino); link; link = link->next)
        if (link->ino == like->st_ino) return linkat(copy->top, link->path, to_dir, name, 0) == 0 ? 1 : errno == EMLINK ? 0 : -errno;
    size_t above = strlen(copy->path), own = strlen(name);
    if (above + own >= PATH_MAX) return 0;
    struct link *link = malloc(sizeof *link);
    char *path = malloc(above + own + 1);
    if (!link || !path) {
        free(link);
        free(path);
        return -ENOMEM;
    }
    memcpy(path, copy->path, above);
    memcpy(path + above, name, own + 1);
    *link = (struct link){.next = *bucket(copy, like->st_ino), .ino = like->st_ino, .path = path};
    *bucket(copy, like->st_ino) = link;
    return 0;
}

static int copy_leaf(struct copy *copy, int from_dir, int to_dir, const char *name, const struct stat *like) {
    int again = link_again(copy, to_dir, name, like);
    if (again) return again < 0 ? again : 0;
    if (S_ISREG(like->st_mode)) return copy_file(from_dir, to_dir, name, like);
    int error = S_ISLNK(like->st_mode) ? copy_link(from_dir, to_dir, name) : copy_special(to_dir, name, like);
    if (error) return error;
    const struct timespec times[2] = {like->st_atim, like->st_mtim};
    bool owned = fchownat(to_dir, name, like->st_uid, like->st_gid, AT_SYMLINK_NOFOLLOW) == 0;
    if (owned && !S_ISLNK(like->st_mode)) owned = fchmodat(to_dir, name, like->st_mode & 07777, 0) == 0;
    return owned && utimensat(to_dir, name, times, AT_SYMLINK_NOFOLLOW) == 0 ? 0 : -errno;
}

static int copy_tree(struct copy *copy, int from, int to, const struct stat *like, int depth);

static int copy_directory(struct copy *copy, int from_dir, int to_dir, const char *name, const struct stat *like, int depth) {
    if (depth == DEEPEST) return -ELOOP;
    size_t length = strlen(copy->path), own = strlen(name);
    bool named = !copy->unnamed && length + own + 2 <= sizeof copy->path;
    if (named) {
        memcpy(copy->path + length, name, own);
        memcpy(copy->path + length + own, "/", 2);
    } else {
        copy->unnamed++;
    }
    int from = openat(from_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int error = from < 0 || mkdirat(to_dir, name, 0700) != 0 ? -errno : 0;
    int to = error ? -1 : openat(to_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (!error) error = to < 0 ? -errno : copy_tree(copy, from, to, like, depth + 1);
    if (from >= 0) close(from);
    if (to >= 0) close(to);
    copy->path[length] = 0;
    if (!named) copy->unnamed--;
    return error;
}

static int copy_tree(struct copy *copy, int from, int to, const struct stat *like, int depth) {
    struct names names = {0};
    int error = list(from, &names);
    for (size_t i = 0; !error && i < names.count; i++) {
        const char *name = names.name[i];
        struct stat st;
        if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) != 0) error = -errno;
        /* SAFETY: what is mounted in a delta is none of its files. */
        else if (st.st_dev != copy->device) error = -EXDEV;
        else if (S_ISDIR(st.st_mode)) error = copy_directory(copy, from, to, name, &st, depth);
        else error = copy_leaf(copy, from, to, name, &st);
    }
    free_names(&names);
    return error ? error : dress(from, to, like);
}

static int layer_copy(const char *from_path, const char *to_path) {
    static struct copy copy;
    struct stat like;
    int from = open(from_path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (from < 0 || fstat(from, &like) != 0) return -errno;
    if (mkdir(to_path, 0700) != 0 || (copy.top = open(to_path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) < 0) return -errno;
    copy.device = like.st_dev;
    return copy_tree(&copy, from, copy.top, &like, 0);
}

static int layer_move(const char *from, const char *to) {
    return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 1 /* RENAME_NOREPLACE */) != 0 ? -errno : 0;
}

static bool is_path(const char *text) { return text[0] == '/' && text[1] && !strstr(text, "/../"); }

int tool_layer(int argc, char **argv) {
    bool copies = argc == 4 && !strcmp(argv[1], "copy"), moves = argc == 4 && !strcmp(argv[1], "move");
    if ((!copies && !moves) || !is_path(argv[2]) || !is_path(argv[3])) {
        fputs("layer: wants copy or move, and two absolute paths\n", stderr);
        return 1;
    }
    umask(0);
    int error = copies ? layer_copy(argv[2], argv[3]) : layer_move(argv[2], argv[3]);
    if (error == 0) return 0;
    fprintf(stderr, "layer %s: %s\n", argv[1], strerror(-error));
    return 1;
}
