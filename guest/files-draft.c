/* Writing of whole files: what is being written has no name until it is whole, so a reader meets the old file or the new one, and a write that
 * is cut off leaves the old one. Mode and user attributes of a file that is replaced are kept; a second hard link of it keeps the old bytes.
 * A file that may be written in a directory that may not is written in place, from a copy that is whole by then.
 * Invariant: no file is replaced that the user could not have opened for writing. */
#define _GNU_SOURCE
#include "files-draft.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/sendfile.h>
#include <sys/xattr.h>

#include "files-entry.h"
#include "sys.h"

enum { COPY_BYTES = 1 << 20, TRIES = 8, NO_REPLACE = 1 };

static int fresh_name(char out[32]) {
    uint64_t word;
    if (getrandom(&word, sizeof word, 0) != sizeof word) return -errno;
    snprintf(out, 32, ".corral-%016llx.tmp", (unsigned long long)word);
    return 0;
}

/* Into what stands there, or a new file: no draft, since a part of it stays as it is. */
static int open_direct(struct draft *draft, uint32_t flags) {
    const struct place *place = &draft->place;
    struct stat st;
    int held = openat(place->dir, place->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (held >= 0) {
        draft->fd = path_reopen_file(held, O_WRONLY | (flags & FILES_APPEND ? O_APPEND : 0), &st);
        close(held);
        return draft->fd < 0 ? draft->fd : 0;
    }
    if (errno != ENOENT) return -errno;
    draft->fd = openat(place->dir, place->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, draft->set_mode ? draft->mode : 0666);
    return draft->fd < 0 ? -errno : 0;
}

static int look(struct draft *draft) {
    const struct place *place = &draft->place;
    struct stat st;
    if (fstatat(place->dir, place->name, &st, AT_SYMLINK_NOFOLLOW) != 0) return errno == ENOENT ? 0 : -errno;
    draft->exists = true;
    if (draft->exclusive) return -EEXIST;
    if (S_ISDIR(st.st_mode)) return -EISDIR;
    if (!S_ISREG(st.st_mode)) return S_ISLNK(st.st_mode) ? -ELOOP : -ENXIO;
    if (faccessat(place->dir, place->name, W_OK, 0) != 0) return -errno;
    if (!draft->set_mode) draft->mode = st.st_mode & 01777;
    draft->set_mode = true;
    return 0;
}

static int open_staged(struct draft *draft) {
    struct stat st;
    draft->kind = DRAFT_STAGED;
    int held = openat(draft->place.dir, draft->place.name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (held < 0) return -errno;
    draft->target = path_reopen_file(held, O_WRONLY, &st);
    close(held);
    if (draft->target < 0) return draft->target;
    draft->fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    return draft->fd < 0 ? -errno : 0;
}

static int open_beside(struct draft *draft) {
    draft->kind = DRAFT_NAMELESS;
    draft->fd = openat(draft->place.dir, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666);
    if (draft->fd >= 0) return 0;
    if ((errno == EACCES || errno == EPERM || errno == EROFS) && draft->exists) return open_staged(draft);
    if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL && errno != ENOENT) return -errno;
    draft->kind = DRAFT_NAMED;
    int error = fresh_name(draft->temporary);
    if (error) return error;
    draft->fd = openat(draft->place.dir, draft->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (draft->fd >= 0) return 0;
    error = errno;
    draft->temporary[0] = 0;
    return (error == EACCES || error == EPERM || error == EROFS) && draft->exists ? open_staged(draft) : -error;
}

int draft_open(struct draft *draft, const struct files_request *request) {
    *draft = (struct draft){
        .fd = -1, .target = -1, .place = {.dir = -1}, .exclusive = (request->flags & FILES_EXCLUSIVE) != 0,
        .set_mode = (request->flags & FILES_MODE) != 0, .mode = request->mode & 01777,
    };
    int error = request->flags & FILES_PARENTS ? path_make(request->base, request->path, false) : 0;
    if (!error) error = path_place_followed(request->base, request->path, &draft->place);
    if (!error && request->flags & (FILES_APPEND | FILES_AT)) {
        draft->kind = DRAFT_DIRECT;
        error = open_direct(draft, request->flags);
        if (!error && request->flags & FILES_AT && lseek(draft->fd, (off_t)request->offset, SEEK_SET) < 0) error = -errno;
    } else if (!error) {
        error = look(draft);
        if (!error) error = open_beside(draft);
    }
    if (error) draft_close(draft);
    return error;
}

int draft_write(const struct draft *draft, const uint8_t *bytes, size_t count) {
    while (count > 0) {
        ssize_t written = write(draft->fd, bytes, count);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return -errno;
        bytes += written;
        count -= (size_t)written;
    }
    return 0;
}

/* Attributes that somebody set on the file belong to its name, not to its bytes. What cannot be carried over is left. */
static void keep_xattrs(const struct draft *draft) {
    static char names[MAX_XATTR_BYTES], value[MAX_XATTR_BYTES];
    char path[DESCRIPTOR_PATH_BYTES];
    int held = openat(draft->place.dir, draft->place.name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (held < 0) return;
    path_of_descriptor(path, held);
    ssize_t length = listxattr(path, names, sizeof names);
    for (char *name = names; name < names + length; name += strlen(name) + 1) {
        ssize_t size = xattr_ours(name) ? getxattr(path, name, value, sizeof value) : -1;
        if (size >= 0) (void)!fsetxattr(draft->fd, name, value, (size_t)size, 0);
    }
    close(held);
}

static int name_it(const struct draft *draft, const char *name) {
    char path[DESCRIPTOR_PATH_BYTES];
    path_of_descriptor(path, draft->fd);
    return linkat(AT_FDCWD, path, draft->place.dir, name, AT_SYMLINK_FOLLOW) == 0 ? 0 : -errno;
}

static int put_over(struct draft *draft) {
    const struct place *place = &draft->place;
    unsigned flags = draft->exclusive ? NO_REPLACE : 0;
    if (renameat2(place->dir, draft->temporary, place->dir, place->name, flags) != 0) return -errno;
    draft->temporary[0] = 0;
    return 0;
}

static int commit_nameless(struct draft *draft) {
    if (!draft->exists) {
        int error = name_it(draft, draft->place.name);
        if (error != -EEXIST || draft->exclusive) return error;
    }
    for (int tries = 0; tries < TRIES; tries++) {
        int error = fresh_name(draft->temporary);
        if (!error) error = name_it(draft, draft->temporary);
        if (!error) return put_over(draft);
        draft->temporary[0] = 0;
        if (error != -EEXIST) return error;
    }
    return -EEXIST;
}

static int commit_staged(struct draft *draft) {
    off_t at = 0;
    struct stat st;
    if (fstat(draft->fd, &st) != 0 || ftruncate(draft->target, 0) != 0) return -errno;
    while (at < st.st_size) {
        ssize_t copied = sendfile(draft->target, draft->fd, &at, COPY_BYTES);
        if (copied < 0 && errno != EINTR) return -errno;
        if (copied == 0) return -EIO;
    }
    return 0;
}

int draft_commit(struct draft *draft, struct stat *st) {
    int error = 0;
    if (draft->kind == DRAFT_NAMELESS || draft->kind == DRAFT_NAMED) {
        if (draft->exists) keep_xattrs(draft);
        if (draft->set_mode && fchmod(draft->fd, draft->mode) != 0) return -errno;
        error = draft->kind == DRAFT_NAMELESS ? commit_nameless(draft) : put_over(draft);
    } else if (draft->kind == DRAFT_STAGED) {
        error = commit_staged(draft);
    }
    if (!error && fstat(draft->kind == DRAFT_STAGED ? draft->target : draft->fd, st) != 0) error = -errno;
    return error;
}

void draft_close(struct draft *draft) {
    if (draft->temporary[0]) unlinkat(draft->place.dir, draft->temporary, 0);
    draft->temporary[0] = 0;
    if (draft->fd >= 0) close(draft->fd);
    if (draft->target >= 0) close(draft->target);
    draft->fd = draft->target = -1;
    path_leave(&draft->place);
}
