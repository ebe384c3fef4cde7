/* The worker `watch`: tells what changes in a directory and, if asked, in all below it, from inotify (PROTOCOL.md, Workers).
 * A directory that appears is watched first and then listed, so what was made in it meanwhile is told; what the queue tells again is left out.
 * Temporary names of files-draft.c are not told: a file that is replaced was modified.
 * Invariant: memory is bounded by MAX_DIRECTORIES and one batch; whatever may have been missed is told as an overflow. */
#define _GNU_SOURCE
#include "watch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "files-path.h"
#include "frame.h"
#include "sys.h"
#include "worker.h"

enum { BATCH_BYTES = 64 * 1024, FLUSH_BYTES = 64 * 1024, MOVE_WAIT_MS = 50, TEMPORARY_LENGTH = 28, FIRST_TOLD = 1024 };
enum answer { READY = 64, EVENT, OVERFLOW, GONE, FAILED };

static const uint32_t wanted = IN_CREATE | IN_MODIFY | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB | IN_DELETE_SELF | IN_ONLYDIR | IN_EXCL_UNLINK;

struct watching {
    struct tree tree;
    struct buffer out;
    bool recursive;
    /* A directory that left its place; the next event says where to. */
    struct node *moving;
    uint32_t moving_cookie, hidden_cookie;
    /* Names told by a listing whose event may still be in the queue. */
    uint64_t *told;
    size_t tolds, told_room;
};

static bool send(struct watching *w, enum answer type, const void *body, size_t length) {
    uint8_t head[FRAME_HEAD_BYTES];
    frame_head_put(head, (uint8_t)type, 0, (uint32_t)length);
    if (!buffer_add(&w->out, head, sizeof head) || !buffer_add(&w->out, body, length)) return false;
    return buffer_length(&w->out) < FLUSH_BYTES || worker_say(&w->out);
}

static bool emit(struct watching *w, enum change kind, const struct node *node, const char *name, bool directory, uint32_t cookie) {
    uint8_t body[8 + 2 * PATH_MAX] = {(uint8_t)kind, directory};
    put_u32(body + 4, cookie);
    size_t length = node_path(node, name, (char *)body + 8, sizeof body - 8);
    /* Longer than any path that could be named: nobody can ask for it. */
    return length == 0 && *name ? true : send(w, EVENT, body, 8 + length);
}

static uint64_t mark_of(const struct node *node, const char *name) {
    uint64_t hash = (14695981039346656037u ^ (uint64_t)(unsigned)node->wd) * 0x9e3779b97f4a7c15u;
    for (; *name; name++) hash = (hash ^ (uint8_t)*name) * 1099511628211u;
    return hash | 1;
}

static void told_put(struct watching *w, uint64_t mark) {
    if (w->tolds * 2 >= w->told_room) {
        size_t room = w->told_room ? w->told_room * 2 : FIRST_TOLD;
        uint64_t *larger = room > MAX_TOLD ? NULL : calloc(room, sizeof *larger);
        if (!larger) return; /* then it is told twice */
        for (size_t i = 0; i < w->told_room; i++) {
            size_t at = w->told[i] % room;
            while (w->told[i] && larger[at]) at = (at + 1) % room;
            if (w->told[i]) larger[at] = w->told[i];
        }
        free(w->told);
        w->told = larger;
        w->told_room = room;
    }
    size_t at = mark % w->told_room;
    while (w->told[at] && w->told[at] != mark) at = (at + 1) % w->told_room;
    w->tolds += w->told[at] == 0;
    w->told[at] = mark;
}

/* Once: the event behind it is another file of that name. A mark that was taken stays as 2, so that the search goes on behind it. */
static bool told_take(struct watching *w, uint64_t mark) {
    if (!w->told) return false;
    for (size_t at = mark % w->told_room, steps = 0; w->told[at] && steps < w->told_room; at = (at + 1) % w->told_room, steps++) {
        if (w->told[at] != mark) continue;
        w->told[at] = 2;
        return true;
    }
    return false;
}

static void told_forget(struct watching *w) {
    free(w->told);
    w->told = NULL;
    w->tolds = w->told_room = 0;
}

static bool temporary(const char *name) {
    size_t length = strlen(name);
    return length == TEMPORARY_LENGTH && memcmp(name, ".corral-", 8) == 0 && strcmp(name + length - 4, ".tmp") == 0;
}

/* A nameless file of files-draft.c: its change of the link count is told under its inode's number. */
static bool nameless(const struct watching *w, const struct node *node, const struct inotify_event *event) {
    struct stat st;
    const char *name = event->name;
    if (!(event->mask & IN_ATTRIB) || name[0] != '#' || !name[1] || name[1 + strspn(name + 1, "0123456789")]) return false;
    int fd = tree_open(&w->tree, node);
    bool there = fd >= 0 && fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (fd >= 0) close(fd);
    return !there;
}

static bool is_directory(int dir, const struct dirent *entry) {
    struct stat st;
    if (entry->d_type != DT_UNKNOWN) return entry->d_type == DT_DIR;
    return fstatat(dir, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

/* Lists `node` and watches its directories. `tell`: what is in it is new. What cannot be opened is not watched. 0 or errno. */
static int scan(struct watching *w, struct node *node, bool tell) {
    int fd = tree_open(&w->tree, node);
    DIR *listing = fd < 0 ? NULL : fdopendir(fd);
    int error = fd == -ESTALE ? ESTALE : 0;
    if (!listing && fd >= 0) close(fd);
    for (struct dirent *entry; listing && !error && (entry = readdir(listing));) {
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || temporary(name)) continue;
        bool directory = is_directory(dirfd(listing), entry);
        if (tell && !emit(w, CHANGE_CREATE, node, name, directory, 0)) error = ENOMEM;
        if (tell) told_put(w, mark_of(node, name));
        if (!error && directory) error = tree_add(&w->tree, node, name, dirfd(listing), wanted);
    }
    if (listing) closedir(listing);
    return error;
}

/* From the `first` node on, those that are found on the way included. */
static int scan_from(struct watching *w, size_t first, bool tell) {
    int error = 0;
    for (size_t i = first; i < w->tree.count && !error; i++) error = scan(w, w->tree.list[i], tell);
    return error;
}

static int appeared(struct watching *w, struct node *parent, const char *name) {
    if (!w->recursive) return 0;
    size_t first = w->tree.count;
    int fd = tree_open(&w->tree, parent);
    if (fd < 0) return fd == -ESTALE ? ESTALE : 0; /* it is gone again, or was moved on: its next event follows */
    int error = tree_add(&w->tree, parent, name, fd, wanted);
    close(fd);
    return error ? error : scan_from(w, first, true);
}

static void settle_move(struct watching *w) {
    if (w->moving) tree_drop(&w->tree, w->moving);
    w->moving = NULL;
}

static int on_move(struct watching *w, struct node *node, const struct inotify_event *event, bool directory) {
    if (event->mask & IN_MOVED_FROM) {
        settle_move(w);
        if (directory && (w->moving = tree_child(&w->tree, node, event->name))) w->moving_cookie = event->cookie;
        return emit(w, CHANGE_MOVE_FROM, node, event->name, directory, event->cookie) ? 0 : ENOMEM;
    }
    if (event->cookie && event->cookie == w->hidden_cookie) return emit(w, CHANGE_MODIFY, node, event->name, directory, 0) ? 0 : ENOMEM;
    if (!emit(w, CHANGE_MOVE_TO, node, event->name, directory, event->cookie)) return ENOMEM;
    if (w->moving && event->cookie == w->moving_cookie) {
        int error = node_place(w->moving, node, event->name);
        w->moving = NULL;
        return error;
    }
    return directory ? appeared(w, node, event->name) : 0;
}

static int on_named(struct watching *w, struct node *node, const struct inotify_event *event) {
    bool directory = (event->mask & IN_ISDIR) != 0;
    if (temporary(event->name)) {
        if (event->mask & IN_MOVED_FROM) w->hidden_cookie = event->cookie;
        return 0;
    }
    if (nameless(w, node, event)) return 0;
    if (event->mask & (IN_MOVED_FROM | IN_MOVED_TO)) return on_move(w, node, event, directory);
    enum change kind = event->mask & IN_CREATE ? CHANGE_CREATE : event->mask & IN_DELETE ? CHANGE_REMOVE : event->mask & IN_MODIFY ? CHANGE_MODIFY : CHANGE_ATTRIB;
    if (kind == CHANGE_CREATE && told_take(w, mark_of(node, event->name))) return 0;
    if (!emit(w, kind, node, event->name, directory, 0)) return ENOMEM;
    return kind == CHANGE_CREATE && directory ? appeared(w, node, event->name) : 0;
}

/* errno, or -1 when the watched directory itself is gone. */
static int on_event(struct watching *w, const struct inotify_event *event) {
    if (event->mask & IN_Q_OVERFLOW) {
        settle_move(w);
        told_forget(w);
        if (!send(w, OVERFLOW, "", 0)) return ENOMEM;
        return w->recursive ? scan_from(w, 0, false) : 0;
    }
    struct node *node = tree_find(&w->tree, event->wd);
    if (!node) return 0;
    if (w->moving && !(event->mask & IN_MOVED_TO && event->cookie == w->moving_cookie)) {
        settle_move(w);
        if (!(node = tree_find(&w->tree, event->wd))) return 0;
    }
    bool root = node == w->tree.list[0];
    if (event->mask & IN_IGNORED) {
        if (root) return -1;
        tree_forget(&w->tree, node);
        return 0;
    }
    if (event->mask & IN_DELETE_SELF) return root ? -1 : 0;
    if (event->len == 0) return 0; /* of the directory itself: its parent tells */
    return on_named(w, node, event);
}

static int read_batch(struct watching *w) {
    _Alignas(8) static uint8_t batch[BATCH_BYTES];
    ssize_t length = read(w->tree.fd, batch, sizeof batch);
    if (length < 0) {
        if (errno == EAGAIN) told_forget(w);
        return errno == EINTR || errno == EAGAIN ? 0 : errno;
    }
    for (ssize_t at = 0; at < length;) {
        const struct inotify_event *event = (const struct inotify_event *)(const void *)(batch + at);
        at += (ssize_t)(sizeof *event + event->len);
        int error = on_event(w, event);
        if (error) return error;
    }
    return worker_say(&w->out) ? 0 : EPIPE;
}

static int loop(struct watching *w) {
    for (;;) {
        struct pollfd ready[] = {{.fd = w->tree.fd, .events = POLLIN}, {.fd = 0, .events = POLLIN}};
        int count = poll(ready, 2, w->moving ? MOVE_WAIT_MS : -1);
        if (count < 0 && errno != EINTR) return errno;
        if (count == 0) settle_move(w);
        if (count <= 0) continue;
        char ignored[64];
        if (ready[1].revents && read(0, ignored, sizeof ignored) <= 0) return 0; /* whoever asked has gone */
        /* Once more when it is empty, which read_batch is to see. */
        for (int i = 0; ready[0].revents && i < 2; i++) {
            int error = read_batch(w);
            if (error) return error;
        }
    }
}

static int begin(struct watching *w, const char *path) {
    int error = tree_begin(&w->tree, path, wanted);
    if (!error && w->recursive) error = scan_from(w, 0, false);
    uint8_t count[4];
    put_u32(count, (uint32_t)w->tree.count);
    return error ? error : send(w, READY, count, sizeof count) && worker_say(&w->out) ? 0 : EPIPE;
}

int watch_main(int argc, char **argv) {
    static struct watching w;
    int error = EINVAL;
    if (argc == 3 && (strcmp(argv[1], "recursive") == 0 || strcmp(argv[1], "flat") == 0)) {
        w.recursive = argv[1][0] == 'r';
        error = begin(&w, argv[2]);
        if (!error) error = loop(&w);
    }
    if (error == 0 || error == EPIPE) return 0;
    if (error == ESTALE) error = -1;
    uint8_t body[4];
    put_u32(body, (uint32_t)error);
    (void)!(send(&w, error < 0 ? GONE : FAILED, body, error < 0 ? 0 : sizeof body) && worker_say(&w.out));
    return error < 0 ? 0 : 1;
}
