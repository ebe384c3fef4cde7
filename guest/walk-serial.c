// The walker for trees that hostile code made: any depth, with at most OPEN_LEVELS directories open.
// Invariant: when a directory above was moved meanwhile, what is left of it is told as unreadable, never read from elsewhere.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "walk.h"

enum {
    OPEN_LEVELS = 128, // directories held open at once; deeper trees are climbed back by ".."
    FLUSH_BYTES = 1 << 18,
};

struct level {
    int fd; // -1: closed to save descriptors
    dev_t dev;
    ino_t ino;
    struct listing listing;
    uint32_t next; // next entry to look at for descending
};

struct stack {
    const struct walk *walk;
    struct level *levels;
    size_t depth, size;
    struct bytes out;
    uint64_t entries;
};

static void flush(struct stack *s) {
    walk_write(&s->out, s->entries);
    s->entries = 0;
}

// Opens, lists and writes one directory; it stays on the stack until its subdirectories are done.
static void enter(struct stack *s, int at, const char *name, uint32_t index) {
    s->levels = walk_grow(s->levels, &s->size, s->depth + 1, sizeof *s->levels);
    struct level *l = &s->levels[s->depth++];
    *l = (struct level){.fd = walk_open(at, name)};
    int error = l->fd < 0 ? errno : walk_names(s->walk, l->fd, s->depth == 1, &l->listing);
    struct stat st;
    if (error) walk_forget(&l->listing);
    else if (fstat(l->fd, &st) == 0) l->dev = st.st_dev, l->ino = st.st_ino;
    walk_put_dir(&s->out, index, l->listing.count, error);
    for (uint32_t i = 0; i < l->listing.count; i++) {
        walk_put_entry(s->walk, &s->out, l->fd, &l->listing, &l->listing.entries[i]);
        s->entries++;
        if (s->out.used > FLUSH_BYTES) flush(s);
    }
    if (s->depth > OPEN_LEVELS) {
        struct level *far = &s->levels[s->depth - OPEN_LEVELS - 1];
        if (far->fd >= 0) close(far->fd);
        far->fd = -1;
    }
}

// Gets the descriptor of the level above back, if it was closed.
static void reopen(struct stack *s, int child) {
    struct level *l = &s->levels[s->depth - 2];
    struct stat st;
    if (l->fd >= 0 || child < 0) return;
    int fd = walk_open(child, "..");
    if (fd >= 0 && (fstat(fd, &st) < 0 || st.st_dev != l->dev || st.st_ino != l->ino)) close(fd), fd = -1;
    l->fd = fd;
}

static void leave(struct stack *s) {
    struct level *l = &s->levels[s->depth - 1];
    if (s->depth >= 2) reopen(s, l->fd);
    l = &s->levels[--s->depth];
    if (l->fd >= 0) close(l->fd);
    walk_forget(&l->listing);
    walk_put_leave(&s->out);
}

void walk_serial(const struct walk *w, int root) {
    struct stack s = {.walk = w};
    enter(&s, root, ".", 0);
    while (s.depth > 0) {
        struct level *l = &s.levels[s.depth - 1];
        while (l->next < l->listing.count && !l->listing.entries[l->next].is_dir) l->next++;
        if (l->next == l->listing.count) {
            leave(&s);
            continue;
        }
        uint32_t index = l->next++;
        if (l->fd >= 0) {
            enter(&s, l->fd, l->listing.names + l->listing.entries[index].offset, index);
        } else {
            walk_put_dir(&s.out, index, 0, ESTALE);
            walk_put_leave(&s.out);
        }
    }
    flush(&s);
    free(s.levels);
    free(s.out.at);
}
