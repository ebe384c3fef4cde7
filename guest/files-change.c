/* Directories, renames, removals, links, modes. Each is one call of the kernel on a directory's descriptor and a name in it, so what a process
 * swaps meanwhile changes which file is meant, never whether the user may. */
#define _GNU_SOURCE
#include "files-change.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>

#include "files-entry.h"
#include "files-path.h"
#include "remove.h"
#include "sys.h"

enum { NO_REPLACE = 1, NANOSECONDS = 1000000000 };

int change_mkdir(const struct files_request *request, struct stat *st) {
    struct place place;
    int error = 0;
    if (request->flags & FILES_PARENTS) error = path_make(request->base, request->path, false);
    if (!error) error = path_place(request->base, request->path, &place);
    if (error) return error == -EISDIR ? -EEXIST : error;
    mode_t mode = request->flags & FILES_MODE ? request->mode & 01777 : 0777;
    if (mkdirat(place.dir, place.name, mode) != 0) error = -errno;
    bool made = !error;
    if (error == -EEXIST && request->flags & FILES_PARENTS) error = 0;
    int fd = error ? -1 : openat(place.dir, place.name, O_PATH | O_DIRECTORY | (*request->base ? O_NOFOLLOW : 0) | O_CLOEXEC);
    if (!error && (fd < 0 || fstat(fd, st) != 0)) error = errno == ENOTDIR || errno == ELOOP ? -EEXIST : -errno;
    /* The mask of the worker is not what was asked for. */
    if (!error && made && request->flags & FILES_MODE && (st->st_mode & 07777) != mode) {
        char path[DESCRIPTOR_PATH_BYTES];
        path_of_descriptor(path, fd);
        error = chmod(path, mode) != 0 || fstat(fd, st) != 0 ? -errno : 0;
    }
    if (fd >= 0) close(fd);
    path_leave(&place);
    return error;
}

/* Two names at once; both are left again by the caller. */
static int two_places(const struct files_request *request, struct place *from, struct place *to) {
    to->dir = -1;
    int error = path_place(request->base, request->path, from);
    if (!error && request->flags & FILES_PARENTS) error = path_make(request->base, request->other, false);
    if (!error) error = path_place(request->base, request->other, to);
    return error;
}

int change_move(const struct files_request *request) {
    struct place from, to;
    int error = two_places(request, &from, &to);
    if (!error && renameat2(from.dir, from.name, to.dir, to.name, request->flags & FILES_EXCLUSIVE ? NO_REPLACE : 0) != 0) error = -errno;
    path_leave(&from);
    path_leave(&to);
    return error;
}

int change_link(const struct files_request *request) {
    struct place from, to;
    int error = two_places(request, &from, &to);
    if (!error && linkat(from.dir, from.name, to.dir, to.name, 0) != 0) error = -errno;
    path_leave(&from);
    path_leave(&to);
    return error;
}

int change_remove(const struct files_request *request) {
    struct place place;
    int error = path_place(request->base, request->path, &place);
    if (error) return error == -EISDIR ? -EBUSY : error;
    if (unlinkat(place.dir, place.name, 0) != 0) error = -errno;
    if (error == -EISDIR || error == -EPERM) error = unlinkat(place.dir, place.name, AT_REMOVEDIR) == 0 ? 0 : errno == ENOTDIR ? error : -errno;
    if ((error == -ENOTEMPTY || error == -EEXIST) && request->flags & FILES_RECURSIVE) error = tree_remove_at(place.dir, place.name, request->count);
    path_leave(&place);
    return error;
}

int change_set(const struct files_request *request, struct stat *st) {
    char path[DESCRIPTOR_PATH_BYTES];
    int fd = path_open(request->base, request->path, O_PATH | (request->flags & FILES_NOFOLLOW ? O_NOFOLLOW : 0));
    if (fd < 0) return fd;
    int error = 0;
    path_of_descriptor(path, fd);
    if (request->flags & FILES_MODE && chmod(path, request->mode) != 0) error = -errno;
    if (!error && request->flags & FILES_MTIME) {
        struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
                                    {.tv_sec = (time_t)(request->offset / NANOSECONDS), .tv_nsec = (long)(request->offset % NANOSECONDS)}};
        if (utimensat(AT_FDCWD, path, times, 0) != 0) error = -errno;
    }
    if (!error && fstat(fd, st) != 0) error = -errno;
    close(fd);
    return error;
}

int change_symlink(const struct files_request *request) {
    struct place place;
    int error = request->flags & FILES_PARENTS ? path_make(request->base, request->path, false) : 0;
    if (!error) error = path_place(request->base, request->path, &place);
    if (error) return error == -EISDIR ? -EEXIST : error;
    if (symlinkat(request->other, place.dir, place.name) != 0) error = -errno;
    path_leave(&place);
    return error;
}

int change_xattr(const struct files_request *request) {
    char path[DESCRIPTOR_PATH_BYTES];
    if (!xattr_ours(request->other)) return -EPERM;
    int fd = path_open(request->base, request->path, O_PATH);
    if (fd < 0) return fd;
    path_of_descriptor(path, fd);
    int failed = request->flags & FILES_UNSET ? removexattr(path, request->other) : setxattr(path, request->other, request->data, request->length, 0);
    int error = failed && !(request->flags & FILES_UNSET && errno == ENODATA) ? -errno : 0;
    close(fd);
    return error;
}
