/* Resolution as the kernel does it for the command's user, in its own view: no path is judged here. SAFETY: links of /proc are never
 * followed, they lead to what was opened by somebody else; beneath a base nothing leads out of it.
 * Invariant: no special file is ever opened: what is looked at is held by O_PATH, and opened again by that descriptor once it is a regular file. */
#define _GNU_SOURCE
#include "files-path.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "sys.h"

enum { BENEATH = 0x08, MAX_LINKS = 40 };

struct origin {
    int dir;
    uint64_t resolve;
};

/* The caller closes it by origin_leave. */
static int origin_of(const char *base, const char *path, struct origin *out) {
    *out = (struct origin){AT_FDCWD, NO_MAGICLINKS};
    if (!*base) return *path == '/' ? 0 : -EINVAL;
    if (*base != '/' || *path == '/') return -EINVAL;
    out->dir = sys_openat2(AT_FDCWD, base, O_PATH | O_DIRECTORY | O_CLOEXEC, NO_MAGICLINKS);
    out->resolve = BENEATH | NO_SYMLINKS | NO_MAGICLINKS;
    return out->dir < 0 ? -errno : 0;
}

static void origin_leave(const struct origin *origin) {
    if (origin->dir >= 0) close(origin->dir);
}

int path_open(const char *base, const char *path, int flags) {
    struct origin origin;
    int error = origin_of(base, path, &origin);
    if (error) return error;
    int fd = sys_openat2(origin.dir, *path ? path : ".", (uint64_t)(flags | O_CLOEXEC), origin.resolve);
    if (fd < 0) fd = -errno;
    origin_leave(&origin);
    return fd;
}

/* `text` is cut in two: what comes before the last name, and that. "" for the first means the origin itself. */
static int split(char *text, const char **parent, const char **name) {
    size_t length = strlen(text);
    while (length > 1 && text[length - 1] == '/') text[--length] = 0;
    char *slash = strrchr(text, '/');
    *name = slash ? slash + 1 : text;
    *parent = !slash ? "." : slash == text ? "/" : text;
    if (slash) *slash = 0;
    if (!**name || strcmp(*name, ".") == 0 || strcmp(*name, "..") == 0) return -EISDIR;
    return strlen(*name) > NAME_MAX ? -ENAMETOOLONG : 0;
}

static int place_at(const struct origin *origin, const char *path, struct place *out) {
    char text[PATH_MAX];
    const char *parent, *name;
    size_t length = strlen(path);
    out->dir = -1;
    if (length == 0) return -ENOENT;
    if (length >= sizeof text) return -ENAMETOOLONG;
    memcpy(text, path, length + 1);
    int error = split(text, &parent, &name);
    if (error) return error;
    strcpy(out->name, name);
    out->dir = sys_openat2(origin->dir, parent, O_PATH | O_DIRECTORY | O_CLOEXEC, origin->resolve);
    return out->dir < 0 ? -errno : 0;
}

int path_place(const char *base, const char *path, struct place *out) {
    struct origin origin;
    out->dir = -1;
    int error = origin_of(base, path, &origin);
    if (error) return error;
    error = place_at(&origin, path, out);
    origin_leave(&origin);
    return error;
}

void path_leave(struct place *place) {
    if (place->dir >= 0) close(place->dir);
    place->dir = -1;
}

/* Moves `place` from a link to where it leads. */
static int follow(struct place *place) {
    char target[PATH_MAX];
    struct origin here = {place->dir, NO_MAGICLINKS};
    /* SAFETY: the text of a link of /proc is not where it leads; the kernel says whether it is one. */
    int probe = sys_openat2(place->dir, place->name, O_PATH | O_CLOEXEC, NO_MAGICLINKS);
    if (probe < 0 && errno != ENOENT) return -errno;
    if (probe >= 0) close(probe);
    ssize_t length = readlinkat(place->dir, place->name, target, sizeof target);
    if (length < 0) return -errno;
    if (length == sizeof target) return -ENAMETOOLONG;
    target[length] = 0;
    int error = place_at(&here, target, place);
    close(here.dir);
    return error;
}

int path_place_followed(const char *base, const char *path, struct place *out) {
    int error = path_place(base, path, out);
    for (int links = 0; !error; links++) {
        struct stat st;
        if (fstatat(out->dir, out->name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
            error = errno == ENOENT ? 0 : -errno;
            break;
        }
        if (!S_ISLNK(st.st_mode)) return 0;
        error = *base || links == MAX_LINKS ? -ELOOP : follow(out);
    }
    if (error) path_leave(out);
    return error;
}

/* One directory further down, made when it is not there. Closes `dir`. */
static int step_into(int dir, const char *name, uint64_t resolve) {
    int next = sys_openat2(dir, name, O_PATH | O_DIRECTORY | O_CLOEXEC, resolve);
    if (next < 0 && errno == ENOENT) {
        int made = mkdirat(dir, name, 0777);
        if (made != 0 && errno != EEXIST) next = -errno;
        else next = sys_openat2(dir, name, O_PATH | O_DIRECTORY | O_CLOEXEC, resolve);
    }
    if (next == -1) next = -errno;
    close(dir);
    return next;
}

int path_make(const char *base, const char *path, bool last) {
    char text[PATH_MAX];
    struct origin origin;
    size_t length = strlen(path);
    if (length >= sizeof text) return -ENAMETOOLONG;
    int error = origin_of(base, path, &origin);
    if (error) return error;
    memcpy(text, path, length + 1);
    while (length > 0 && text[length - 1] == '/') text[--length] = 0;
    char *end = last ? text + length : strrchr(text, '/');
    if (end) *end = 0;
    int dir = *base ? origin.dir : open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) return -errno;
    char *rest = NULL;
    for (char *name = end ? strtok_r(text, "/", &rest) : NULL; name && dir >= 0; name = strtok_r(NULL, "/", &rest))
        dir = strlen(name) > NAME_MAX ? (close(dir), -ENAMETOOLONG) : step_into(dir, name, origin.resolve);
    if (dir < 0) return dir;
    close(dir);
    return 0;
}

void path_of_descriptor(char out[DESCRIPTOR_PATH_BYTES], int fd) { snprintf(out, DESCRIPTOR_PATH_BYTES, "/proc/self/fd/%d", fd); }

int path_reopen_file(int fd, int flags, struct stat *st) {
    char path[DESCRIPTOR_PATH_BYTES];
    if (fstat(fd, st) != 0) return -errno;
    if (S_ISDIR(st->st_mode)) return -EISDIR;
    if (S_ISLNK(st->st_mode)) return -ELOOP;
    if (!S_ISREG(st->st_mode)) return -ENXIO;
    path_of_descriptor(path, fd);
    /* SAFETY: O_NONBLOCK, or a lease that somebody inside holds on the file would make us wait for him. */
    int opened = open(path, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    return opened < 0 ? -errno : opened;
}
