/* Tool `usage MAX_BYTES MAX_ENTRIES /DIR` (PROTOCOL.md, "Tools"): what a delta takes on disk, for the watcher of its quota.
 * It opens directories alone and may run while a sandbox writes, moves and removes there. Stops as soon as a bound is passed.
 * Invariant: no link is followed, no mount is entered, descriptors and memory are bounded by depth and by MAX_ENTRIES;
 * what it could not count for a race is told ("partial"), never guessed. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tools.h"

enum { OPEN_LEVELS = 256, LIST_BYTES = 32768, BLOCK = 512 };

struct level {
    int fd; /* -1: closed to save descriptors, found again by ".." */
    dev_t dev;
    ino_t ino;
    char *names; /* subdirectories still to enter, NUL-terminated one after another */
    size_t used, size, next;
};

struct count {
    uint64_t bytes, entries, max_bytes, max_entries;
    int partial;
    dev_t dev;
    struct level *levels;
    size_t depth, size;
};

struct listed {
    uint64_t inode;
    int64_t offset;
    uint16_t length;
    uint8_t type;
    char name[];
};

static int over(const struct count *c) { return c->bytes > c->max_bytes || c->entries > c->max_entries; }

static void *grown(void *old, size_t *size, size_t need) {
    if (need <= *size) return old;
    size_t next = *size ? *size * 2 : 256;
    while (next < need) next *= 2;
    void *fresh = realloc(old, next);
    if (!fresh) {
        fputs("usage: out of memory\n", stderr);
        exit(1);
    }
    *size = next;
    return fresh;
}

static void add(struct count *c, struct level *l, const char *name) {
    struct stat st;
    c->entries++;
    if (fstatat(l->fd, name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) != 0) return; /* gone meanwhile: takes nothing */
    /* A file of several names is counted in parts, so that together they count once. */
    uint64_t bytes = (uint64_t)st.st_blocks * BLOCK;
    c->bytes += S_ISDIR(st.st_mode) || st.st_nlink < 2 ? bytes : bytes / st.st_nlink + 1;
    if (!S_ISDIR(st.st_mode) || st.st_dev != c->dev) return;
    size_t length = strlen(name) + 1;
    l->names = grown(l->names, &l->size, l->used + length);
    memcpy(l->names + l->used, name, length);
    l->used += length;
}

static void list(struct count *c, struct level *l) {
    _Alignas(8) static char buffer[LIST_BYTES];
    for (;;) {
        long n = syscall(SYS_getdents64, l->fd, buffer, sizeof buffer);
        if (n < 0) c->partial = 1;
        if (n <= 0) return;
        for (long at = 0; at < n;) {
            const struct listed *entry = (const struct listed *)(const void *)(buffer + at);
            at += entry->length;
            const char *name = entry->name;
            if (name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]))) continue;
            add(c, l, name);
            if (over(c)) return;
        }
    }
}

/* SAFETY: NOFOLLOW, or a link put in a directory's place after it was listed would lead out of the delta. */
static int open_below(int at, const char *name) {
    return openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
}

static void enter(struct count *c, int at, const char *name) {
    struct stat st;
    int fd = open_below(at, name);
    if (fd < 0 || fstat(fd, &st) != 0 || (c->depth > 0 && st.st_dev != c->dev)) {
        if (fd >= 0) close(fd);
        else if (errno != ENOENT) c->partial = 1;
        return;
    }
    size_t bytes = c->size * sizeof *c->levels;
    c->levels = grown(c->levels, &bytes, (c->depth + 1) * sizeof *c->levels);
    c->size = bytes / sizeof *c->levels;
    struct level *l = &c->levels[c->depth++];
    *l = (struct level){.fd = fd, .dev = st.st_dev, .ino = st.st_ino};
    c->dev = st.st_dev;
    list(c, l);
    if (c->depth > OPEN_LEVELS) {
        struct level *far = &c->levels[c->depth - OPEN_LEVELS - 1];
        if (far->fd >= 0) close(far->fd);
        far->fd = -1;
    }
}

/* Leaves the deepest level. Where the one above was closed, ".." finds it again unless it was moved: then its rest is not counted. */
static void leave(struct count *c) {
    struct level *l = &c->levels[--c->depth];
    struct level *above = c->depth > 0 ? &c->levels[c->depth - 1] : NULL;
    if (above && above->fd < 0) {
        struct stat st;
        int fd = l->fd < 0 ? -1 : open_below(l->fd, "..");
        if (fd >= 0 && (fstat(fd, &st) != 0 || st.st_dev != above->dev || st.st_ino != above->ino)) close(fd), fd = -1;
        above->fd = fd;
        if (fd < 0) c->partial = 1, above->next = above->used;
    }
    if (l->fd >= 0) close(l->fd);
    free(l->names);
}

int tool_usage(int argc, char **argv) {
    if (argc != 4 || argv[3][0] != '/') {
        fputs("usage: wants MAX_BYTES MAX_ENTRIES /DIR\n", stderr);
        return 1;
    }
    struct count c = {.max_bytes = strtoull(argv[1], NULL, 10), .max_entries = strtoull(argv[2], NULL, 10)};
    enter(&c, AT_FDCWD, argv[3]);
    while (c.depth > 0 && !over(&c)) {
        struct level *l = &c.levels[c.depth - 1];
        if (l->next >= l->used) {
            leave(&c);
            continue;
        }
        const char *name = l->names + l->next;
        l->next += strlen(name) + 1;
        /* The list of names may move when a level is added: the name is copied first. */
        char copy[256];
        snprintf(copy, sizeof copy, "%s", name);
        enter(&c, l->fd, copy);
    }
    while (c.depth > 0) leave(&c);
    free(c.levels);
    printf("%" PRIu64 " %" PRIu64 " %s\n", c.bytes, c.entries, c.partial ? "partial" : "whole");
    return fflush(stdout) == 0 ? 0 : 1;
}
