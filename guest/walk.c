// Tool `walk`: one pass over a tree, written to stdout as the walk stream of PROTOCOL.md ("Tools").
// It is not a policy judge and opens no file: regular files, FIFOs, sockets and devices are only looked at, so it never hangs.
// Invariant: no link is followed below DIR, no mount below DIR is entered, and a stream that was cut has no END record.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "walk.h"

enum { REC_ENTRY = 1, REC_DIR = 2, REC_LEAVE = 3, REC_END = 4 };
enum { KIND_FILE = 0, KIND_DIR = 1, KIND_LINK = 2, KIND_OTHER = 3 };
enum { FLAG_MOUNT = 1 };
enum {
    ENTRY_HEAD = 80,
    OPEN_LEVELS = 128,       // directories held open at once; deeper trees are climbed back by ".."
    MAX_XATTR_BYTES = 65536, // the kernel's own bound for a list and for a value
    MAX_OPTIONS = 16,
};

struct name {
    uint32_t offset; // into names
    uint16_t length;
    uint8_t is_dir;
};

struct level {
    int fd; // -1: closed to save descriptors
    dev_t dev;
    ino_t ino;
    char *names;
    size_t names_used, names_size;
    struct name *entries;
    uint32_t count, size;
    uint32_t next; // next entry to look at for descending
};

struct walk {
    const char *skips[MAX_OPTIONS]; // prefixes of names left out directly below DIR
    const char *xattrs[MAX_OPTIONS];
    int skip_count, xattr_count;
    int codebase; // see steady() and readable()
    struct level *levels;
    size_t depth, levels_size;
    uint64_t entries;
    unsigned char *xattr_buf; // encoded xattrs of the entry at hand
    size_t xattr_used;
};

static unsigned char out[1 << 18];
static size_t out_used;

_Noreturn static void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn static void fail(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("walk: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

static void flush(void) {
    size_t done = 0;
    while (done < out_used) {
        ssize_t n = write(1, out + done, out_used - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) fail("output: %s", strerror(errno));
        done += (size_t)n;
    }
    out_used = 0;
}

static void put(const void *bytes, size_t length) {
    const unsigned char *from = bytes;
    while (length > 0) {
        size_t room = sizeof out - out_used, n = length < room ? length : room;
        memcpy(out + out_used, from, n);
        out_used += n, from += n, length -= n;
        if (out_used == sizeof out) flush();
    }
}

static void le16(unsigned char *p, uint16_t v) { memcpy(p, &v, 2); }
static void le32(unsigned char *p, uint32_t v) { memcpy(p, &v, 4); }
static void le64(unsigned char *p, uint64_t v) { memcpy(p, &v, 8); }

static void *grow(void *old, size_t *size, size_t need, size_t unit) {
    if (need <= *size) return old;
    size_t next = *size ? *size * 2 : 64;
    while (next < need) next *= 2;
    void *fresh = realloc(old, next * unit);
    if (!fresh) fail("out of memory");
    *size = next;
    return fresh;
}

// ---- extended attributes -------------------------------------------------------------------------------------------

static int wanted_xattr(const struct walk *w, const char *name) {
    for (int i = 0; i < w->xattr_count; i++)
        if (strncmp(name, w->xattrs[i], strlen(w->xattrs[i])) == 0) return 1;
    return 0;
}

// Reads the wanted xattrs of one entry into w->xattr_buf. The path goes through /proc/self/fd so that a link's own
// attributes are read (l*xattr) without opening the entry: opening would hang on a FIFO and fail on mode 0000.
static int read_xattrs(struct walk *w, int dirfd, const char *name) {
    static char list[MAX_XATTR_BYTES], value[MAX_XATTR_BYTES];
    char path[64 + NAME_MAX + 1];
    w->xattr_used = 0;
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
        if (w->xattr_used + 6 + name_length + (size_t)n > 4 * MAX_XATTR_BYTES) return E2BIG;
        memcpy(w->xattr_buf + w->xattr_used, head, 6);
        memcpy(w->xattr_buf + w->xattr_used + 6, p, name_length);
        memcpy(w->xattr_buf + w->xattr_used + 6 + name_length, value, (size_t)n);
        w->xattr_used += 6 + name_length + (size_t)n;
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

static void put_entry(struct walk *w, const struct statx *s, const char *name, size_t length, const char *target,
                      size_t target_length, int error) {
    unsigned char h[ENTRY_HEAD] = {0};
    h[0] = REC_ENTRY;
    h[1] = kind_of(s->stx_mode);
    le16(h + 2, (uint16_t)length);
    le16(h + 4, (uint16_t)target_length);
    le16(h + 6, (uint16_t)error);
    le32(h + 8, s->stx_mode);
    le32(h + 12, s->stx_uid);
    le32(h + 16, s->stx_gid);
    le32(h + 20, s->stx_nlink);
    le64(h + 24, s->stx_size);
    le64(h + 32, s->stx_ino);
    le64(h + 40, (uint64_t)s->stx_mtime.tv_sec);
    le64(h + 48, (uint64_t)s->stx_ctime.tv_sec);
    le32(h + 56, s->stx_mtime.tv_nsec);
    le32(h + 60, s->stx_ctime.tv_nsec);
    le32(h + 64, s->stx_rdev_major);
    le32(h + 68, s->stx_rdev_minor);
    le32(h + 72, (s->stx_attributes & STATX_ATTR_MOUNT_ROOT) ? FLAG_MOUNT : 0);
    le32(h + 76, (uint32_t)w->xattr_used);
    put(h, sizeof h);
    put(name, length);
    put(target, target_length);
    put(w->xattr_buf, w->xattr_used);
    w->entries++;
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

static void put_dir(uint32_t index, uint32_t count, int error) {
    unsigned char h[12] = {0};
    h[0] = REC_DIR;
    le16(h + 2, (uint16_t)error);
    le32(h + 4, index);
    le32(h + 8, count);
    put(h, sizeof h);
}

static void put_leave(void) {
    unsigned char h[4] = {REC_LEAVE, 0, 0, 0};
    put(h, sizeof h);
}

// ---- directories ---------------------------------------------------------------------------------------------------

// O_NOATIME: a look at a codebase must not change it. It is refused to who does not own the directory: then without.
static int open_dir(int at, const char *name) {
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
    if (w->depth != 1) return 0;
    for (int i = 0; i < w->skip_count; i++)
        if (strncmp(name, w->skips[i], strlen(w->skips[i])) == 0) return 1;
    return 0;
}

// Reads all names of a directory before the first is looked at: the listing is one batch, sorted by bytes, so that the
// stream of an unchanged tree is the same bytes each time.
static int read_names(struct walk *w, struct level *l) {
    static char buf[1 << 16];
    for (;;) {
        long n = syscall(SYS_getdents64, l->fd, buf, sizeof buf);
        if (n < 0) return errno;
        if (n == 0) break;
        for (long at = 0; at < n;) {
            struct dirent64 *d = (struct dirent64 *)(buf + at);
            at += d->d_reclen;
            const char *s = d->d_name;
            if (s[0] == '.' && (s[1] == 0 || (s[1] == '.' && s[2] == 0))) continue;
            if (skipped(w, s)) continue;
            size_t length = strlen(s), size = l->size;
            l->names = grow(l->names, &l->names_size, l->names_used + length + 1, 1);
            l->entries = grow(l->entries, &size, l->count + 1u, sizeof *l->entries);
            l->size = (uint32_t)size;
            memcpy(l->names + l->names_used, s, length + 1);
            l->entries[l->count++] = (struct name){(uint32_t)l->names_used, (uint16_t)length, 0};
            l->names_used += length + 1;
        }
    }
    qsort_r(l->entries, l->count, sizeof *l->entries, compare_names, l->names);
    return 0;
}

static int look(int dirfd, const char *name, struct statx *s) {
    int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (*name ? 0 : AT_EMPTY_PATH);
    return statx(dirfd, name, flags, STATX_BASIC_STATS, s) < 0 ? errno : 0;
}

// Looks at one name and writes its record. A name that vanished since it was listed is written with its error, so that
// the count announced by the DIR record holds.
static void entry(struct walk *w, struct level *l, struct name *n) {
    static char target[PATH_MAX];
    struct statx s;
    const char *name = l->names + n->offset;
    ssize_t target_length = 0;
    w->xattr_used = 0;
    int error = look(l->fd, name, &s);
    if (error) memset(&s, 0, sizeof s);
    if (!error && S_ISLNK(s.stx_mode)) {
        target_length = readlinkat(l->fd, name, target, sizeof target);
        if (target_length < 0) error = errno, target_length = 0;
    }
    if (!error) error = readable(w, l->fd, name, &s);
    if (!error && w->xattr_count) error = read_xattrs(w, l->fd, name);
    steady(w, &s);
    n->is_dir = S_ISDIR(s.stx_mode) && !(s.stx_attributes & STATX_ATTR_MOUNT_ROOT);
    put_entry(w, &s, name, n->length, target, (size_t)target_length, error);
}

static struct level *push(struct walk *w) {
    w->levels = grow(w->levels, &w->levels_size, w->depth + 1, sizeof *w->levels);
    struct level *l = &w->levels[w->depth++];
    memset(l, 0, sizeof *l);
    l->fd = -1;
    return l;
}

static void pop(struct walk *w) {
    struct level *l = &w->levels[--w->depth];
    if (l->fd >= 0) close(l->fd);
    free(l->names);
    free(l->entries);
}

// Opens, lists and writes one directory; it stays on the stack until its subdirectories are done.
static void enter(struct walk *w, int at, const char *name, uint32_t index) {
    struct level *l = push(w);
    l->fd = open_dir(at, name);
    int error = l->fd < 0 ? errno : read_names(w, l);
    struct stat s;
    if (!error && fstat(l->fd, &s) == 0) l->dev = s.st_dev, l->ino = s.st_ino;
    put_dir(index, l->count, error);
    for (uint32_t i = 0; i < l->count; i++) entry(w, l, &l->entries[i]);
    if (w->depth > OPEN_LEVELS) {
        struct level *far = &w->levels[w->depth - OPEN_LEVELS - 1];
        if (far->fd >= 0) close(far->fd);
        far->fd = -1;
    }
}

// Gets the descriptor of a level back that was closed to save descriptors. When the tree was moved meanwhile, ".." is
// another directory: then the rest of that level is told as unreadable (ESTALE) rather than read from elsewhere.
static void reopen(struct walk *w, int child_fd) {
    struct level *l = &w->levels[w->depth - 2];
    struct stat s;
    if (l->fd >= 0 || child_fd < 0) return;
    int fd = open_dir(child_fd, "..");
    if (fd >= 0 && (fstat(fd, &s) < 0 || s.st_dev != l->dev || s.st_ino != l->ino)) close(fd), fd = -1;
    l->fd = fd;
}

static void walk_tree(struct walk *w, int root) {
    enter(w, root, ".", 0);
    while (w->depth > 0) {
        struct level *l = &w->levels[w->depth - 1];
        while (l->next < l->count && !l->entries[l->next].is_dir) l->next++;
        if (l->next < l->count) {
            uint32_t index = l->next++;
            if (l->fd >= 0) {
                enter(w, l->fd, l->names + l->entries[index].offset, index);
            } else {
                put_dir(index, 0, ESTALE);
                put_leave();
            }
            continue;
        }
        if (w->depth >= 2) reopen(w, l->fd);
        pop(w);
        put_leave();
    }
}

static void parse(struct walk *w, int argc, char **argv, const char **dir) {
    *dir = NULL;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--skip") == 0 && i + 1 < argc && w->skip_count < MAX_OPTIONS)
            w->skips[w->skip_count++] = argv[++i];
        else if (strcmp(argv[i], "--xattr") == 0 && i + 1 < argc && w->xattr_count < MAX_OPTIONS)
            w->xattrs[w->xattr_count++] = argv[++i];
        else if (strcmp(argv[i], "--codebase") == 0)
            w->codebase = 1;
        else if (argv[i][0] == '/' && !*dir)
            *dir = argv[i];
        else
            fail("unexpected argument %s; usage: walk [--codebase] [--skip PREFIX]... [--xattr PREFIX]... /DIR", argv[i]);
    }
    if (!*dir) fail("no absolute directory given");
}

int tool_walk(int argc, char **argv) {
    struct walk w = {0};
    const char *dir;
    parse(&w, argc, argv, &dir);
    w.xattr_buf = malloc(4 * MAX_XATTR_BYTES);
    if (!w.xattr_buf) fail("out of memory");
    (void)fcntl(1, F_SETPIPE_SZ, 1 << 20); // fewer switches between writer and reader; only speed

    int root = open_dir(AT_FDCWD, dir);
    struct statx s;
    int error = root < 0 ? errno : look(root, "", &s);
    if (error) memset(&s, 0, sizeof s);
    s.stx_attributes &= ~(uint64_t)STATX_ATTR_MOUNT_ROOT; // DIR itself may be a mount; only those below are refused
    if (!error && w.xattr_count) error = read_xattrs(&w, root, "");
    steady(&w, &s);
    put_entry(&w, &s, "", 0, "", 0, error);
    if (!error) walk_tree(&w, root);

    unsigned char end[12] = {REC_END, 0, 0, 0};
    le64(end + 4, w.entries);
    put(end, sizeof end);
    flush();
    return 0;
}
