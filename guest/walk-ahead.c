// The walker for codebases: two threads, each taking the directory that comes next in the stream and is not looked at yet, while
// the first also writes what is done, in order. Most of a walk is waiting in system calls, so two threads take half the time.
// Invariant: a directory is written after its parent and before its next sibling, whoever looked at it; at most AHEAD_BYTES wait.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "walk.h"

enum { AHEAD_BYTES = 32 << 20, FLUSH_BYTES = 1 << 17 };

struct dir {
    struct dir *parent, *next_waiting;
    uint32_t index; // among the parent's entries
    int fd;
    uint32_t unopened;   // subdirectories that still need `fd`
    int done;
    struct listing listing;
    struct bytes out;
    struct dir **dirs;   // subdirectories, in order
    uint32_t dir_count, written; // how many of them are written
};

static struct {
    const struct walk *walk;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct dir *waiting; // not looked at yet, the next of the stream first
    size_t bytes;        // looked at and not written
    int over;
} ahead = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void *zeroed(size_t count, size_t unit) {
    void *fresh = calloc(count ? count : 1, unit);
    if (!fresh) walk_fail("out of memory");
    return fresh;
}

// Called with the lock. A directory is closed when the last of its subdirectories was opened.
static void let_go(struct dir *dir) {
    if (dir->unopened == 0 && dir->fd >= 0) {
        close(dir->fd);
        dir->fd = -1;
    }
}

static int open_below(struct dir *dir) {
    struct dir *parent = dir->parent;
    int fd = walk_open(parent->fd, parent->listing.names + parent->listing.entries[dir->index].offset);
    return fd < 0 ? -errno : fd;
}

// Looks at one directory; without the lock, which is held before and after.
static void look(struct dir *dir) {
    pthread_mutex_unlock(&ahead.lock);
    int error = 0;
    if (dir->parent) {
        dir->fd = open_below(dir);
        if (dir->fd < 0) error = -dir->fd, dir->fd = -1;
    }
    if (!error) error = walk_names(ahead.walk, dir->fd, !dir->parent, &dir->listing);
    if (error) walk_forget(&dir->listing);
    walk_put_dir(&dir->out, dir->index, dir->listing.count, error);
    for (uint32_t i = 0; i < dir->listing.count; i++) {
        walk_put_entry(ahead.walk, &dir->out, dir->fd, &dir->listing, &dir->listing.entries[i]);
        dir->dir_count += dir->listing.entries[i].is_dir;
    }
    dir->dirs = zeroed(dir->dir_count, sizeof *dir->dirs);
    for (uint32_t i = 0, found = 0; i < dir->listing.count; i++) {
        if (!dir->listing.entries[i].is_dir) continue;
        struct dir *child = dir->dirs[found++] = zeroed(1, sizeof *child);
        child->parent = dir;
        child->index = i;
        child->fd = -1;
    }
    pthread_mutex_lock(&ahead.lock);
    dir->unopened = dir->dir_count;
    for (uint32_t i = dir->dir_count; i > 0; i--) {
        dir->dirs[i - 1]->next_waiting = ahead.waiting;
        ahead.waiting = dir->dirs[i - 1];
    }
    if (dir->parent) {
        dir->parent->unopened--;
        let_go(dir->parent);
    }
    let_go(dir);
    dir->done = 1;
    ahead.bytes += dir->out.used;
    pthread_cond_broadcast(&ahead.changed);
}

static struct dir *take(void) {
    struct dir *dir = ahead.waiting;
    if (dir) ahead.waiting = dir->next_waiting;
    return dir;
}

static void *help(void *unused) {
    (void)unused;
    pthread_mutex_lock(&ahead.lock);
    while (!ahead.over) {
        struct dir *dir = ahead.bytes < AHEAD_BYTES ? take() : NULL;
        if (dir) look(dir);
        else pthread_cond_wait(&ahead.changed, &ahead.lock);
    }
    pthread_mutex_unlock(&ahead.lock);
    return NULL;
}

// Called with the lock: looks at directories until this one is done.
static void await(struct dir *dir) {
    while (!dir->done) {
        struct dir *other = take();
        if (other) look(other);
        else pthread_cond_wait(&ahead.changed, &ahead.lock);
    }
}

static void append(struct bytes *to, const struct bytes *from) {
    to->at = walk_grow(to->at, &to->size, to->used + from->used, 1);
    memcpy(to->at + to->used, from->at, from->used);
    to->used += from->used;
}

static struct dir *finish(struct dir *dir) {
    struct dir *parent = dir->parent;
    walk_forget(&dir->listing);
    free(dir->dirs);
    free(dir);
    return parent;
}

// Writes the tree in order, each directory as soon as it and all before it are looked at.
static void write_all(struct dir *dir) {
    struct bytes out = {0};
    uint64_t entries = 0;
    int fresh = 1;
    while (dir) {
        if (fresh) {
            pthread_mutex_lock(&ahead.lock);
            await(dir);
            ahead.bytes -= dir->out.used;
            pthread_cond_broadcast(&ahead.changed);
            pthread_mutex_unlock(&ahead.lock);
            append(&out, &dir->out);
            free(dir->out.at);
            entries += dir->listing.count;
        }
        fresh = dir->written < dir->dir_count;
        if (fresh) {
            dir = dir->dirs[dir->written++];
        } else {
            walk_put_leave(&out);
            dir = finish(dir);
        }
        if (out.used > FLUSH_BYTES) walk_write(&out, entries), entries = 0;
    }
    walk_write(&out, entries);
    free(out.at);
}

void walk_ahead(const struct walk *w, int root) {
    struct rlimit files;
    pthread_t helper;
    // A descriptor is held for each directory above those that are looked at.
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    ahead.walk = w;
    struct dir *top = zeroed(1, sizeof *top);
    top->fd = root;
    ahead.waiting = top;
    int alone = pthread_create(&helper, NULL, help, NULL); // without a helper it takes longer, no more
    write_all(top);
    if (alone) return;
    pthread_mutex_lock(&ahead.lock);
    ahead.over = 1;
    pthread_cond_broadcast(&ahead.changed);
    pthread_mutex_unlock(&ahead.lock);
    pthread_join(helper, NULL);
}
