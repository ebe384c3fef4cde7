// `corral-guest tool stage SUB …`: reads deltas and changes codebases where Node.js may not (PROTOCOL.md, Tools). This file holds
// the dispatch, the streams and the one way in which a name is opened. Runs with the spawner's rights over hostile names.
// Invariant: see stage.h; every name that came from outside passes path_plain before a system call sees it.
#define _GNU_SOURCE
#include "stage.h"
#include "tools.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

_Noreturn void stage_fail(const char *what, int error) {
    if (error) dprintf(2, "stage: %s: %s\n", what, strerror(error));
    else dprintf(2, "stage: %s\n", what);
    _exit(1);
}

int stage_take(struct stage_in *in, void *to, size_t length) {
    size_t had = 0;
    while (had < length) {
        if (in->at == in->end) {
            ssize_t got = read(in->fd, in->bytes, sizeof in->bytes);
            if (got < 0 && errno == EINTR) continue;
            if (got < 0) stage_fail("cannot read the request", errno);
            if (got == 0 && had == 0) return 0;
            if (got == 0) stage_fail("the request is cut short", 0);
            in->at = 0;
            in->end = (size_t)got;
        }
        size_t part = in->end - in->at;
        if (part > length - had) part = length - had;
        memcpy((uint8_t *)to + had, in->bytes + in->at, part);
        in->at += part;
        had += part;
    }
    return 1;
}

static void put_raw(int fd, const uint8_t *from, size_t length) {
    while (length > 0) {
        ssize_t done = write(fd, from, length);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) stage_fail("cannot write the answer", errno);
        from += done;
        length -= (size_t)done;
    }
}

void stage_flush(struct stage_out *out) {
    put_raw(out->fd, out->bytes, out->end);
    out->end = 0;
}

void stage_put(struct stage_out *out, const void *from, size_t length) {
    if (out->end + length > sizeof out->bytes) stage_flush(out);
    if (length > sizeof out->bytes) {
        put_raw(out->fd, from, length);
        return;
    }
    memcpy(out->bytes + out->end, from, length);
    out->end += length;
}

uint16_t get16(const uint8_t *at) { return (uint16_t)(at[0] | at[1] << 8); }
uint32_t get32(const uint8_t *at) { return get16(at) | (uint32_t)get16(at + 2) << 16; }
uint64_t get64(const uint8_t *at) { return get32(at) | (uint64_t)get32(at + 4) << 32; }
void put16(uint8_t *at, uint16_t value) {
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
}
void put32(uint8_t *at, uint32_t value) {
    put16(at, (uint16_t)value);
    put16(at + 2, (uint16_t)(value >> 16));
}
void put64(uint8_t *at, uint64_t value) {
    put32(at, (uint32_t)value);
    put32(at + 4, (uint32_t)(value >> 32));
}

/* A relative name in normal form: no empty, "." or ".." component, no component that the kernel would refuse. "" is the root. */
int path_plain(const char *path, size_t length) {
    if (length == 0) return 1;
    if (length > STAGE_PATH_MAX || memchr(path, 0, length)) return 0;
    for (size_t at = 0; at <= length;) {
        const char *slash = memchr(path + at, '/', length - at);
        size_t size = slash ? (size_t)(slash - path) - at : length - at;
        if (size == 0 || size > STAGE_NAME_MAX) return 0;
        if (path[at] == '.' && (size == 1 || (size == 2 && path[at + 1] == '.'))) return 0;
        at += size + 1;
    }
    return 1;
}

/* SAFETY: without BENEATH and NO_SYMLINKS a directory that was exchanged for a link leads our writes anywhere on the machine;
 * without NO_XDEV they land in a mount that the sandbox never saw. */
static int open_part(int dir, const char *path, int flags) {
    struct open_how how = {0};
    how.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC | O_NOFOLLOW);
    how.mode = flags & O_CREAT ? 0600 : 0;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV;
    for (int tries = 0;; tries++) {
        long fd = syscall(SYS_openat2, dir, path, &how, sizeof how);
        /* EAGAIN: a rename elsewhere raced with the look-up; the kernel asks to try again. */
        if (fd >= 0 || errno != EAGAIN || tries == 1000) return (int)fd;
    }
}

int open_root(const char *path) {
    int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) stage_fail("cannot open the root directory", errno);
    return fd;
}

/* Opens `path` beneath `root`; names longer than PATH_MAX are walked in pieces. O_PATH alone opens a link itself. */
int open_beneath(int root, const char *path, int flags) {
    char piece[4096];
    int dir = root;
    /* SAFETY: NO_SYMLINKS refuses a link as last component too, unless O_PATH | O_NOFOLLOW asks for the link itself. */
    while (strlen(path) >= sizeof piece) {
        size_t cut = sizeof piece - 1;
        while (cut > 0 && path[cut] != '/') cut--;
        memcpy(piece, path, cut);
        piece[cut] = 0;
        int next = open_part(dir, piece, O_PATH | O_DIRECTORY);
        int error = errno;
        if (dir != root) close(dir);
        errno = error;
        if (next < 0) return -1;
        dir = next;
        path += cut + 1;
    }
    int fd = open_part(dir, *path ? path : ".", flags);
    int error = errno;
    if (dir != root) close(dir);
    errno = error;
    return fd;
}

/* Descriptor (O_PATH) of the directory that holds `path`, and its last name. */
int open_parent(int root, const char *path, const char **name) {
    const char *slash = strrchr(path, '/');
    *name = slash ? slash + 1 : path;
    if (!slash) return open_beneath(root, "", O_PATH | O_DIRECTORY);
    char *above = strndup(path, (size_t)(slash - path));
    if (!above) return -1;
    int fd = open_beneath(root, above, O_PATH | O_DIRECTORY);
    int error = errno;
    free(above);
    errno = error;
    return fd;
}

int64_t nanoseconds(struct timespec time) {
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

void sig_of(const struct stat *st, struct stage_sig *sig) {
    sig->type = S_ISREG(st->st_mode) ? 'f' : S_ISDIR(st->st_mode) ? 'd' : S_ISLNK(st->st_mode) ? 'l' : 'o';
    sig->mode = st->st_mode & 07777;
    sig->ino = st->st_ino & INO_BITS;
    sig->size = (uint64_t)st->st_size;
    sig->mtime = nanoseconds(st->st_mtim);
    sig->ctime = nanoseconds(st->st_ctim);
}

int sig_at(int root, const char *path, struct stage_sig *sig) {
    const char *name;
    struct stat st;
    *sig = (struct stage_sig){0};
    int dir = open_parent(root, path, &name);
    if (dir < 0) return errno == ENOENT || errno == ENOTDIR || errno == ELOOP ? 0 : -1;
    int result = fstatat(dir, name, &st, *name ? AT_SYMLINK_NOFOLLOW : AT_EMPTY_PATH);
    int error = errno;
    close(dir);
    if (result < 0) {
        errno = error;
        return error == ENOENT ? 0 : -1;
    }
    sig_of(&st, sig);
    return 0;
}

int same_thing(const struct stage_sig *a, const struct stage_sig *b) {
    if (a->type != b->type || a->ino != b->ino) return 0;
    /* A directory's size and time move with its entries. */
    return a->type == 'd' || (a->size == b->size && a->mtime == b->mtime);
}

int tool_stage(int argc, char **argv) {
    static const struct {
        const char *name;
        int (*run)(int, char **);
    } subs[] = {
        {"probe", stage_probe}, {"compare", stage_compare}, {"cat", stage_cat},
        {"apply", stage_apply}, {"recover", stage_recover},
    };
    for (size_t i = 0; argc > 1 && i < sizeof subs / sizeof *subs; i++)
        if (strcmp(argv[1], subs[i].name) == 0) return subs[i].run(argc - 2, argv + 2);
    stage_fail("unknown or missing sub-command", 0);
}
