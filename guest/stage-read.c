// Reading for `stage`: what stands at a path (probe), whether two files hold the same bytes (compare), what a file holds (cat).
// One process serves any number of requests from stdin. It writes nothing and follows nothing.
// Invariant: one answer per request, in order; a file that cannot be read is an answer with an errno, never a silent gap.
#define _GNU_SOURCE
#include "stage.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A path of the request: u16 length and bytes. Valid until the next call. */
static const char *take_path(struct stage_in *in, char *path, size_t length) {
    if (length > 0 && !stage_take(in, path, length)) stage_fail("the request is cut short", 0);
    path[length] = 0;
    if (!path_plain(path, length)) stage_fail("a path of the request is not in normal form", 0);
    return path;
}

int stage_probe(int argc, char **argv) {
    static struct stage_in in = {.fd = 0};
    static struct stage_out out = {.fd = 1};
    uint8_t length[2], answer[56];
    if (argc != 1) stage_fail("usage: probe ROOT", 0);
    int root = open_root(argv[0]);
    static char path[STAGE_PATH_MAX + 1];
    for (;;) {
        /* Before it may block for more requests, what was answered must be on its way. */
        if (in.at == in.end) stage_flush(&out);
        if (!stage_take(&in, length, sizeof length)) break;
        take_path(&in, path, get16(length));
        struct stage_sig sig = {0};
        struct stat st = {0};
        int error = 0;
        const char *name;
        int dir = open_parent(root, path, &name);
        if (dir < 0 || fstatat(dir, name, &st, *name ? AT_SYMLINK_NOFOLLOW : AT_EMPTY_PATH) < 0) error = errno;
        else sig_of(&st, &sig);
        if (dir >= 0) close(dir);
        memset(answer, 0, sizeof answer);
        answer[0] = sig.type;
        answer[1] = (uint8_t)error;
        put32(answer + 4, sig.mode);
        put32(answer + 8, st.st_uid);
        put32(answer + 12, st.st_gid);
        put64(answer + 16, sig.ino);
        put64(answer + 24, sig.size);
        put64(answer + 32, (uint64_t)sig.mtime);
        put64(answer + 40, (uint64_t)sig.ctime);
        put64(answer + 48, st.st_nlink);
        stage_put(&out, answer, sizeof answer);
    }
    stage_flush(&out);
    return 0;
}

/* Opens a regular file for reading. SAFETY: O_NONBLOCK, or a FIFO that took the file's place blocks us for ever. */
static int open_file(int root, const char *path, struct stat *st) {
    int fd = open_beneath(root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return -1;
    if (fstat(fd, st) == 0 && S_ISREG(st->st_mode)) return fd;
    close(fd);
    errno = ESTALE;
    return -1;
}

static ssize_t read_full(int fd, uint8_t *to, size_t length) {
    size_t had = 0;
    while (had < length) {
        ssize_t got = read(fd, to + had, length - had);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return -1;
        if (got == 0) break;
        had += (size_t)got;
    }
    return (ssize_t)had;
}

static int link_target(int root, const char *path, char *target) {
    int fd = open_beneath(root, path, O_PATH);
    if (fd < 0) return -1;
    ssize_t length = readlinkat(fd, "", target, PATH_MAX);
    int error = errno;
    close(fd);
    /* ENOENT is what the kernel says to an empty name of a descriptor that is no link. */
    errno = error == ENOENT ? ESTALE : error;
    return (int)length;
}

/* 0: the same bytes, 1: not, else an errno. */
static int compare_files(int first, int second) {
    static uint8_t one[STAGE_CHUNK], two[STAGE_CHUNK];
    for (;;) {
        ssize_t a = read_full(first, one, sizeof one), b = read_full(second, two, sizeof two);
        if (a < 0 || b < 0) return errno;
        if (a != b || memcmp(one, two, (size_t)a) != 0) return 1;
        if (a == 0) return 0;
    }
}

static int compare(int upper, const char *first, int base, const char *second) {
    static char one[PATH_MAX], two[PATH_MAX];
    struct stat st;
    int a = open_file(upper, first, &st);
    if (a < 0 && (errno == ELOOP || errno == ESTALE)) {
        int size = link_target(upper, first, one), other = link_target(base, second, two);
        if (size < 0 || other < 0) return errno == ESTALE || errno == ENOENT ? 1 : errno;
        return size == other && memcmp(one, two, (size_t)size) == 0 ? 0 : 1;
    }
    if (a < 0) return errno;
    int b = open_file(base, second, &st);
    int result = b < 0 ? (errno == ENOENT || errno == ESTALE || errno == ELOOP || errno == ENOTDIR ? 1 : errno) : compare_files(a, b);
    close(a);
    if (b >= 0) close(b);
    return result;
}

int stage_compare(int argc, char **argv) {
    static struct stage_in in = {.fd = 0};
    static struct stage_out out = {.fd = 1};
    uint8_t lengths[4];
    if (argc != 2) stage_fail("usage: compare UPPER BASE", 0);
    int upper = open_root(argv[0]), base = open_root(argv[1]);
    static char first[STAGE_PATH_MAX + 1], second[STAGE_PATH_MAX + 1];
    for (;;) {
        if (in.at == in.end) stage_flush(&out);
        if (!stage_take(&in, lengths, sizeof lengths)) break;
        take_path(&in, first, get16(lengths));
        take_path(&in, second, get16(lengths + 2));
        uint8_t answer = (uint8_t)compare(upper, first, base, second);
        stage_put(&out, &answer, 1);
    }
    stage_flush(&out);
    return 0;
}

/* Header: u8 errno, u8 type, u16 0, u32 mode, u64 size, i64 mtime, u64 ino. */
static void cat_header(struct stage_out *out, int error, const struct stage_sig *sig) {
    uint8_t head[32] = {0};
    head[0] = (uint8_t)error;
    head[1] = sig->type;
    put32(head + 4, sig->mode);
    put64(head + 8, sig->size);
    put64(head + 16, (uint64_t)sig->mtime);
    put64(head + 24, sig->ino);
    stage_put(out, head, sizeof head);
}

static void cat_chunk(struct stage_out *out, const void *bytes, size_t length) {
    uint8_t size[4];
    put32(size, (uint32_t)length);
    stage_put(out, size, sizeof size);
    stage_put(out, bytes, length);
}

static void cat_end(struct stage_out *out, int error) {
    uint8_t end[8] = {0};
    put32(end + 4, (uint32_t)error);
    stage_put(out, end, sizeof end);
}

static void cat_file(struct stage_out *out, int fd, uint64_t most) {
    static uint8_t bytes[STAGE_CHUNK / 2];
    int error = 0;
    while (most > 0) {
        ssize_t got = read_full(fd, bytes, most < sizeof bytes ? (size_t)most : sizeof bytes);
        if (got < 0) error = errno;
        if (got <= 0) break;
        cat_chunk(out, bytes, (size_t)got);
        most -= (uint64_t)got;
    }
    cat_end(out, error);
}

static void cat(struct stage_out *out, int root, const char *path, uint64_t most) {
    static char target[PATH_MAX];
    struct stage_sig sig = {0};
    struct stat st;
    int fd = open_file(root, path, &st);
    if (fd >= 0) {
        sig_of(&st, &sig);
        cat_header(out, 0, &sig);
        cat_file(out, fd, most);
        close(fd);
        return;
    }
    int error = errno;
    int length = error == ELOOP || error == ESTALE ? link_target(root, path, target) : -1;
    if (length < 0) {
        cat_header(out, error, &sig);
        return;
    }
    sig.type = 'l';
    sig.size = (uint64_t)length;
    cat_header(out, 0, &sig);
    cat_chunk(out, target, (size_t)length < most ? (size_t)length : (size_t)most);
    cat_end(out, 0);
}

int stage_cat(int argc, char **argv) {
    static struct stage_in in = {.fd = 0};
    static struct stage_out out = {.fd = 1};
    uint8_t head[12];
    int roots[2];
    if (argc < 1 || argc > 2) stage_fail("usage: cat ROOT [ROOT]", 0);
    for (int i = 0; i < argc; i++) roots[i] = open_root(argv[i]);
    static char path[STAGE_PATH_MAX + 1];
    for (;;) {
        if (in.at == in.end) stage_flush(&out);
        if (!stage_take(&in, head, sizeof head)) break;
        take_path(&in, path, get16(head + 2));
        if (head[0] >= argc) stage_fail("the request names a root that was not given", 0);
        cat(&out, roots[head[0]], path, get64(head + 4));
    }
    stage_flush(&out);
    return 0;
}
