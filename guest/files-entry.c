/* Entries and listings. A page of a listing is made anew from the whole directory, so there is no state between two pages and a directory
 * that changes meanwhile gives every name that stood there all the time exactly once.
 * Invariant: memory does not grow with the directory: at most one page of names is held. */
#define _GNU_SOURCE
#include "files-entry.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "files-path.h"
#include "frame.h"

enum { READ_BYTES = 32 * 1024 };

struct kernel_entry {
    uint64_t inode;
    int64_t offset;
    uint16_t length;
    uint8_t type;
    char name[];
};

/* The smallest names so far, the greatest of them on top: a heap of pointers into `text`. */
struct page {
    const char *after;
    size_t most, count;
    bool more;
    char (*text)[NAME_MAX + 1];
    char *heap[MAX_LISTED];
};

static uint8_t kind_of(mode_t mode) {
    if (S_ISREG(mode)) return 0;
    if (S_ISDIR(mode)) return 1;
    if (S_ISLNK(mode)) return 2;
    return S_ISFIFO(mode) ? 3 : S_ISSOCK(mode) ? 4 : S_ISCHR(mode) ? 5 : 6;
}

bool entry_put(struct buffer *out, const struct stat *st, int dir, const char *name) {
    char target[PATH_MAX];
    ssize_t linked = dir >= 0 && S_ISLNK(st->st_mode) ? readlinkat(dir, name, target, sizeof target) : 0;
    size_t names = dir >= 0 ? strlen(name) : 0, targets = linked > 0 ? (size_t)linked : 0;
    uint8_t head[ENTRY_BYTES] = {kind_of(st->st_mode)};
    put_u32(head + 2, (uint32_t)names | (uint32_t)targets << 16);
    put_u32(head + 8, st->st_mode & 07777u);
    put_u32(head + 12, st->st_uid);
    put_u32(head + 16, st->st_gid);
    put_u32(head + 20, (uint32_t)st->st_nlink);
    put_u64(head + 24, (uint64_t)st->st_size);
    put_u64(head + 32, (uint64_t)st->st_mtim.tv_sec);
    put_u32(head + 40, (uint32_t)st->st_mtim.tv_nsec);
    return buffer_add(out, head, sizeof head) && buffer_add(out, name, names) && buffer_add(out, target, targets);
}

static void sink(struct page *page, size_t at) {
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= page->count) return;
        if (child + 1 < page->count && strcmp(page->heap[child + 1], page->heap[child]) > 0) child++;
        if (strcmp(page->heap[at], page->heap[child]) >= 0) return;
        char *held = page->heap[at];
        page->heap[at] = page->heap[child];
        page->heap[child] = held;
        at = child;
    }
}

static void offer(struct page *page, const char *name) {
    if (name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]))) return;
    if (strcmp(name, page->after) <= 0) return;
    if (page->count < page->most) {
        size_t at = page->count++;
        char *held = page->heap[at] = strcpy(page->text[at], name);
        for (; at > 0 && strcmp(held, page->heap[(at - 1) / 2]) > 0; at = (at - 1) / 2) {
            page->heap[at] = page->heap[(at - 1) / 2];
            page->heap[(at - 1) / 2] = held;
        }
        return;
    }
    page->more = true;
    if (strcmp(name, page->heap[0]) >= 0) return;
    strcpy(page->heap[0], name);
    sink(page, 0);
}

static int read_names(struct page *page, int dir) {
    _Alignas(8) uint8_t bytes[READ_BYTES];
    for (;;) {
        long length = syscall(SYS_getdents64, dir, bytes, sizeof bytes);
        if (length <= 0) return length < 0 ? errno : 0;
        for (long at = 0; at < length;) {
            const struct kernel_entry *entry = (const struct kernel_entry *)(const void *)(bytes + at);
            at += entry->length;
            if (strlen(entry->name) <= NAME_MAX) offer(page, entry->name);
        }
    }
}

static int by_bytes(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* A name that cannot be looked at, or has gone meanwhile, tells its errno: whoever pages must know how far this page went. */
static bool put_name(struct buffer *out, int dir, const char *name) {
    struct stat st;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) == 0) return entry_put(out, &st, dir, name);
    uint8_t head[ENTRY_BYTES] = {6};
    put_u32(head + 2, (uint32_t)strlen(name));
    put_u32(head + 6, (uint32_t)errno & 0xffff);
    return buffer_add(out, head, sizeof head) && buffer_add(out, name, strlen(name));
}

int entries_put(struct buffer *out, int dir, const char *after, uint32_t most) {
    size_t from = buffer_length(out);
    struct page *page = calloc(1, sizeof *page);
    if (!page) return ENOMEM;
    page->after = after;
    page->most = most == 0 || most > MAX_LISTED ? MAX_LISTED : most;
    page->text = malloc(page->most * sizeof *page->text);
    uint8_t more = 0;
    int error = !page->text || !buffer_add(out, &more, 1) ? ENOMEM : read_names(page, dir);
    if (!error && page->count) qsort(page->heap, page->count, sizeof *page->heap, by_bytes);
    for (size_t i = 0; i < page->count && !error; i++) {
        if (!put_name(out, dir, page->heap[i])) error = ENOMEM;
        if (buffer_length(out) - from < MAX_LISTED_BYTES || i + 1 == page->count) continue;
        page->more = true;
        break;
    }
    if (!error && page->more) out->memory[out->start + from] = 1;
    free(page->text);
    free(page);
    return error;
}

bool xattr_ours(const char *name) {
    /* SAFETY: of overlay's own marks a delta must hold none that a sandbox wrote. */
    return strncmp(name, "user.", 5) == 0 && name[5] && strncmp(name, "user.overlay.", 13) != 0;
}

int xattrs_put(struct buffer *out, int fd) {
    static char names[MAX_XATTR_BYTES], value[MAX_XATTR_BYTES];
    char path[DESCRIPTOR_PATH_BYTES];
    size_t told = 0;
    path_of_descriptor(path, fd);
    ssize_t length = listxattr(path, names, sizeof names);
    if (length < 0) return errno == EOPNOTSUPP || errno == EPERM || errno == EACCES ? 0 : errno;
    for (char *name = names; name < names + length; name += strlen(name) + 1) {
        if (!xattr_ours(name)) continue;
        ssize_t size = getxattr(path, name, value, sizeof value);
        size_t all = 6 + strlen(name) + (size_t)(size < 0 ? 0 : size);
        if (size < 0 || told + all > MAX_XATTR_BYTES) continue;
        uint8_t head[6] = {(uint8_t)strlen(name), (uint8_t)(strlen(name) >> 8)};
        put_u32(head + 2, (uint32_t)size);
        if (!buffer_add(out, head, sizeof head) || !buffer_add(out, name, strlen(name)) || !buffer_add(out, value, (size_t)size)) return ENOMEM;
        told += all;
    }
    return 0;
}
