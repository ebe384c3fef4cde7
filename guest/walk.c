// Tool `walk`: one pass over a tree, written to stdout as the walk stream of PROTOCOL.md ("Tools"). This file makes the records and
// the listings; the order of directories is the walkers' (walk.h).
// It is not a policy judge and opens no file: regular files, FIFOs, sockets and devices are only looked at, so it never hangs.
// Invariant: no link is followed below DIR, no mount below DIR is entered, and a stream that was cut has no END record.
#define _GNU_SOURCE
#include "walk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tools.h"

enum { REC_ENTRY = 1, REC_DIR = 2, REC_LEAVE = 3, REC_END = 4 };
enum { KIND_FILE = 0, KIND_DIR = 1, KIND_LINK = 2, KIND_OTHER = 3 };
enum { FLAG_MOUNT = 1 };
enum {
    ENTRY_HEAD = 80,
    MAX_XATTR_BYTES = 65536, // the kernel's own bound for a list and for a value
};

static uint64_t written;

_Noreturn void walk_fail(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("walk: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

void *walk_grow(void *old, size_t *size, size_t need, size_t unit) {
    if (need <= *size) return old;
    size_t next = *size ? *size * 2 : 64;
    while (next < need) next *= 2;
    void *fresh = realloc(old, next * unit);
    if (!fresh) walk_fail("out of memory");
    *size = next;
    return fresh;
}

void walk_write(struct bytes *bytes, uint64_t entries) {
    for (size_t done = 0; done < bytes->used;) {
        ssize_t n = write(1, bytes->at + done, bytes->used - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) walk_fail("output: %s", strerror(errno));
        done += (size_t)n;
    }
    bytes->used = 0;
    written += entries;
}

static void put(struct bytes *to, const void *from, size_t length) {
    if (length == 0) return;
    to->at = walk_grow(to->at, &to->size, to->used + length, 1);
    memcpy(to->at + to->used, from, length);
    to->used += length;
}

static void le16(unsigned char *p, uint16_t v) { memcpy(p, &v, 2); }
static void le32(unsigned char *p, uint32_t v) { memcpy(p, &v, 4); }
static void le64(unsigned char *p, uint64_t v) { memcpy(p, &v, 8); }

// ---- extended attributes -------------------------------------------------------------------------------------------

static int wanted_xattr(const struct walk *w, const char *name) {
    for (int i = 0; i < w->xattr_count; i++)
        if (strncmp(name, w->xattrs[i], strlen(w->xattrs[i])) == 0) return 1;
    return 0;
}

// Appends the wanted xattrs of one entry. The path goes through /proc/self/fd so that a link's own
// attributes are read (l*xattr) without opening the entry: opening would hang on a FIFO and fail on mode 0000.
static int put_xattrs(const struct walk *w, struct bytes *to, int dirfd, const char *name) {
    static _Thread_local char list[MAX_XATTR_BYTES], value[MAX_XATTR_BYTES];
    char path[64 + NAME_MAX + 1];
    if (*name)
        snprintf(path, sizeof path, "/proc/self/fd/%d/%s", dirfd, name);
    else
        snprintf(path, sizeof path, "/proc/self/fd/%d/.", dirfd);
    ssize_t length = llistxattr(path, list, sizeof list);
    if (length < 0) return errno == ENOTSUP || errno == ENOENT ? 0 : errno;
    for (char *p = list; p < list + length; p += strlen(p) + 1) {
        if (!wanted_xattr(w, p)) continue;
        ssize_t n = lgetxattr(path, p, value, sizeof value);
        if (n < 0 && (errno == ENODATA || errno == ENOENT)) continue;
        if (n < 0) return errno;
        size_t name_length = strlen(p);
        unsigned char head[6];
        le16(head, (uint16_t)name_length);
        le32(head + 2, (uint32_t)n);
        put(to, head, sizeof head);
        put(to, p, name_length);
        put(to, value, (size_t)n);
    }
    return 0;
}

// ---- records -------------------------------------------------------------------------------------------------------

static uint8_t kind_of(uint16_t mode) {
    if (S_ISREG(mode)) return KIND_FILE;
    if (S_ISDIR(mode)) return KIND_DIR;
    if (S_ISLNK(mode)) return KIND_LINK;
    return KIND_OTHER;
}

// What of a directory moves when an entry comes or goes is left out: then an entry that --skip leaves out changes nothing.
static void steady(const struct walk *w, struct statx *s) {
    if (!w->codebase || !S_ISDIR(s->stx_mode)) return;
    s->stx_size = 0;
    s->stx_nlink = 0;
    s->stx_mtime.tv_sec = s->stx_ctime.tv_sec = 0;
    s->stx_mtime.tv_nsec = s->stx_ctime.tv_nsec = 0;
}

// A file that we cannot read would be a file that no sandbox can read, whatever its policy says. Asked only where the mode
// leaves a doubt.
static int readable(const struct walk *w, int dirfd, const char *name, const struct statx *s) {
    if (!w->codebase || !S_ISREG(s->stx_mode) || (s->stx_mode & S_IROTH)) return 0;
    return faccessat(dirfd, name, R_OK, AT_EACCESS | AT_SYMLINK_NOFOLLOW) < 0 ? errno : 0;
}

// `name` is empty for the directory `fd` itself. Returns whether it is a directory to enter.
static int put_entry(const struct walk *w, struct bytes *to, int fd, const char *name, size_t length) {
    static _Thread_local char target[PATH_MAX];
    unsigned char h[ENTRY_HEAD] = {0};
    struct statx s;
    ssize_t target_length = 0;
    int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (length ? 0 : AT_EMPTY_PATH);
    int error = fd < 0 ? errno : statx(fd, name, flags, STATX_BASIC_STATS, &s) < 0 ? errno : 0;
    if (error) memset(&s, 0, sizeof s);
    if (!error && S_ISLNK(s.stx_mode)) {
        target_length = readlinkat(fd, name, target, sizeof target);
        if (target_length < 0) error = errno, target_length = 0;
    }
    if (!error) error = readable(w, fd, name, &s);
    steady(w, &s);
    // DIR itself may be a mount; only those below are not entered.
    int mounted = length && (s.stx_attributes & STATX_ATTR_MOUNT_ROOT);

    size_t head = to->used;
    put(to, h, sizeof h);
    put(to, name, length);
    put(to, target, (size_t)target_length);
    size_t xattrs = to->used;
    if (!error && w->xattr_count) {
        error = put_xattrs(w, to, fd, name);
        if (error) to->used = xattrs;
    }
    h[0] = REC_ENTRY;
    h[1] = kind_of(s.stx_mode);
    le16(h + 2, (uint16_t)length);
    le16(h + 4, (uint16_t)target_length);
    le16(h + 6, (uint16_t)error);
    le32(h + 8, s.stx_mode);
    le32(h + 12, s.stx_uid);
    le32(h + 16, s.stx_gid);
    le32(h + 20, s.stx_nlink);
    le64(h + 24, s.stx_size);
    le64(h + 32, s.stx_ino);
    le64(h + 40, (uint64_t)s.stx_mtime.tv_sec);
    le64(h + 48, (uint64_t)s.stx_ctime.tv_sec);
    le32(h + 56, s.stx_mtime.tv_nsec);
    le32(h + 60, s.stx_ctime.tv_nsec);
    le32(h + 64, s.stx_rdev_major);
    le32(h + 68, s.stx_rdev_minor);
    le32(h + 72, mounted ? FLAG_MOUNT : 0);
    le32(h + 76, (uint32_t)(to->used - xattrs));
    memcpy(to->at + head, h, sizeof h);
    return S_ISDIR(s.stx_mode) && !mounted;
}

void walk_put_entry(const struct walk *w, struct bytes *to, int fd, const struct listing *listing, struct name *name) {
    name->is_dir = (uint8_t)put_entry(w, to, fd, listing->names + name->offset, name->length);
}

void walk_put_dir(struct bytes *to, uint32_t index, uint32_t count, int error) {
    unsigned char h[12] = {0};
    h[0] = REC_DIR;
    le16(h + 2, (uint16_t)error);
    le32(h + 4, index);
    le32(h + 8, count);
    put(to, h, sizeof h);
}

void walk_put_leave(struct bytes *to) {
    unsigned char h[4] = {REC_LEAVE, 0, 0, 0};
    put(to, h, sizeof h);
}

// ---- listings ------------------------------------------------------------------------------------------------------

// O_NOATIME: a look at a codebase must not change it. It is refused to who does not own the directory: then without.
int walk_open(int at, const char *name) {
    int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK;
    int fd = openat(at, name, flags | O_NOATIME);
    if (fd < 0 && errno == EPERM) fd = openat(at, name, flags);
    return fd;
}

static int compare_names(const void *a, const void *b, void *arena) {
    const struct name *x = a, *y = b;
    const char *names = arena;
    size_t shorter = x->length < y->length ? x->length : y->length;
    int order = memcmp(names + x->offset, names + y->offset, shorter);
    return order ? order : (int)x->length - (int)y->length;
}

static int skipped(const struct walk *w, const char *name) {
    for (int i = 0; i < w->skip_count; i++)
        if (strncmp(name, w->skips[i], strlen(w->skips[i])) == 0) return 1;
    return 0;
}

// All names are read before the first is looked at: the listing is one batch, sorted by bytes, so that the stream of an unchanged
// tree is the same bytes each time.
int walk_names(const struct walk *w, int fd, int is_root, struct listing *l) {
    static _Thread_local char buf[1 << 16];
    for (;;) {
        long n = syscall(SYS_getdents64, fd, buf, sizeof buf);
        if (n < 0) return errno;
        if (n == 0) break;
        for (long at = 0; at < n;) {
            struct dirent64 *d = (struct dirent64 *)(buf + at);
            at += d->d_reclen;
            const char *s = d->d_name;
            if (s[0] == '.' && (s[1] == 0 || (s[1] == '.' && s[2] == 0))) continue;
            if (is_root && skipped(w, s)) continue;
            size_t length = strlen(s);
            if (l->count == UINT32_MAX || l->names_used + length >= UINT32_MAX) return EFBIG;
            l->names = walk_grow(l->names, &l->names_size, l->names_used + length + 1, 1);
            l->entries = walk_grow(l->entries, &l->size, l->count + 1u, sizeof *l->entries);
            memcpy(l->names + l->names_used, s, length + 1);
            l->entries[l->count++] = (struct name){(uint32_t)l->names_used, (uint16_t)length, 0};
            l->names_used += length + 1;
        }
    }
    if (l->count > 1) qsort_r(l->entries, l->count, sizeof *l->entries, compare_names, l->names);
    return 0;
}

void walk_forget(struct listing *l) {
    free(l->names);
    free(l->entries);
    memset(l, 0, sizeof *l);
}

// ---- the tool ------------------------------------------------------------------------------------------------------

static void parse(struct walk *w, int argc, char **argv, const char **dir) {
    *dir = NULL;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--skip") == 0 && i + 1 < argc && w->skip_count < WALK_OPTIONS)
            w->skips[w->skip_count++] = argv[++i];
        else if (strcmp(argv[i], "--xattr") == 0 && i + 1 < argc && w->xattr_count < WALK_OPTIONS)
            w->xattrs[w->xattr_count++] = argv[++i];
        else if (strcmp(argv[i], "--codebase") == 0)
            w->codebase = 1;
        else if (argv[i][0] == '/' && !*dir)
            *dir = argv[i];
        else
            walk_fail("unexpected argument %s; usage: walk [--codebase] [--skip PREFIX]... [--xattr PREFIX]... /DIR", argv[i]);
    }
    if (!*dir) walk_fail("no absolute directory given");
}

int tool_walk(int argc, char **argv) {
    struct walk w = {0};
    struct bytes bytes = {0};
    const char *dir;
    parse(&w, argc, argv, &dir);
    (void)fcntl(1, F_SETPIPE_SZ, 1 << 20); // fewer switches between writer and reader; only speed

    int root = walk_open(AT_FDCWD, dir);
    int found = put_entry(&w, &bytes, root, "", 0);
    walk_write(&bytes, 1);
    // A codebase is a person's, so its depth is bounded by what a person can make; a delta is made by hostile code.
    if (found) (w.codebase ? walk_ahead : walk_serial)(&w, root);

    unsigned char end[12] = {REC_END, 0, 0, 0};
    le64(end + 4, written);
    put(&bytes, end, sizeof end);
    walk_write(&bytes, 0);
    free(bytes.at);
    return 0;
}
