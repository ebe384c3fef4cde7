/* Which directory each watch of inotify stands for. A node knows its parent and its name, so a directory that is moved takes all below it along.
 * SAFETY: directories are opened beneath the root without following links, and watched by their descriptor: what a process puts in their place
 * meanwhile is not watched under their name. */
#define _GNU_SOURCE
#include "watch.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>

#include "files-path.h"
#include "sys.h"

enum { BENEATH = 0x08 };

struct node *tree_find(const struct tree *tree, int wd) {
    struct node *node = tree->by_wd[(unsigned)wd % NODE_BUCKETS];
    while (node && node->wd != wd) node = node->next;
    return node;
}

struct node *tree_child(const struct tree *tree, const struct node *parent, const char *name) {
    for (size_t i = 1; i < tree->count; i++)
        if (tree->list[i]->parent == parent && strcmp(tree->list[i]->name, name) == 0) return tree->list[i];
    return NULL;
}

int node_place(struct node *node, struct node *parent, const char *name) {
    char *copy = strdup(name);
    if (!copy) return ENOMEM;
    free(node->name);
    node->name = copy;
    node->parent = parent;
    node->depth = parent ? parent->depth + 1 : 0;
    return 0;
}

/* A watch that is there already belongs to a directory that was moved here. */
static int put(struct tree *tree, int wd, struct node *parent, const char *name) {
    struct node *node = tree_find(tree, wd);
    /* SAFETY: the root has no parent, and a directory is not placed into itself, or a path of it would have no end. */
    if (node) {
        for (const struct node *above = parent; above; above = above->parent)
            if (above == node) return 0;
        return node_place(node, parent, name);
    }
    if (tree->count >= MAX_DIRECTORIES) {
        inotify_rm_watch(tree->fd, wd);
        return ENOSPC;
    }
    if (!tree->list && !(tree->list = calloc(MAX_DIRECTORIES, sizeof *tree->list))) return ENOMEM;
    node = calloc(1, sizeof *node);
    if (!node || node_place(node, parent, name)) {
        free(node);
        return ENOMEM;
    }
    struct node **bucket = &tree->by_wd[(unsigned)wd % NODE_BUCKETS];
    node->wd = wd;
    node->next = *bucket;
    *bucket = node;
    node->index = tree->count;
    tree->list[tree->count++] = node;
    return 0;
}

static int watch(struct tree *tree, int fd, uint32_t events) {
    char path[DESCRIPTOR_PATH_BYTES];
    path_of_descriptor(path, fd);
    return inotify_add_watch(tree->fd, path, events);
}

int tree_begin(struct tree *tree, const char *path, uint32_t events) {
    tree->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (tree->fd < 0) return errno;
    int fd = path_open("", path, O_PATH | O_DIRECTORY);
    if (fd < 0) return -fd;
    int wd = watch(tree, fd, events);
    int error = wd < 0 || fstat(fd, &tree->root) != 0 ? errno : put(tree, wd, NULL, "");
    close(fd);
    tree->path = path;
    return error;
}

/* Opened each time: a descriptor that is held would keep the kernel from telling that it is gone. -ESTALE: another one stands there. */
static int open_root(const struct tree *tree, int flags) {
    struct stat st;
    int fd = path_open("", tree->path, flags | O_DIRECTORY);
    if (fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == tree->root.st_dev && st.st_ino == tree->root.st_ino) return fd;
    if (fd >= 0) close(fd);
    return -ESTALE;
}

int tree_add(struct tree *tree, struct node *parent, const char *name, int dir, uint32_t events) {
    if (parent->depth >= MAX_DEPTH) return 0;
    int fd = openat(dir, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return errno == EMFILE || errno == ENFILE || errno == ENOMEM ? errno : 0;
    int wd = watch(tree, fd, events);
    int error = wd >= 0 ? put(tree, wd, parent, name) : errno == ENOSPC || errno == ENOMEM ? errno : 0;
    close(fd);
    return error;
}

int tree_open(const struct tree *tree, const struct node *node) {
    char path[PATH_MAX];
    if (!node->parent) return open_root(tree, O_RDONLY);
    size_t length = node_path(node->parent, node->name, path, sizeof path - 1);
    if (length == 0) return -ENAMETOOLONG;
    path[length] = 0;
    int root = open_root(tree, O_PATH);
    if (root < 0) return root;
    int fd = sys_openat2(root, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, BENEATH | NO_SYMLINKS | NO_MAGICLINKS);
    int error = errno;
    close(root);
    return fd < 0 ? -error : fd;
}

void tree_forget(struct tree *tree, struct node *node) {
    struct node **place = &tree->by_wd[(unsigned)node->wd % NODE_BUCKETS];
    while (*place && *place != node) place = &(*place)->next;
    if (*place) *place = node->next;
    struct node *last = tree->list[--tree->count];
    last->index = node->index;
    tree->list[node->index] = last;
    /* Nobody may point to it: what is still below is unreachable by name. */
    for (size_t i = 1; i < tree->count; i++)
        if (tree->list[i]->parent == node) tree->list[i]->parent = tree->list[0];
    free(node->name);
    free(node);
}

static bool below(const struct node *node, const struct node *top) {
    while (node && node != top) node = node->parent;
    return node == top;
}

void tree_drop(struct tree *tree, struct node *node) {
    /* From the end: the list moves its last one into the gap, and those were looked at. */
    for (size_t i = tree->count; i-- > 1;) {
        struct node *one = tree->list[i];
        if (one == node || !below(one, node)) continue;
        inotify_rm_watch(tree->fd, one->wd);
        one->depth = -1;
    }
    inotify_rm_watch(tree->fd, node->wd);
    node->depth = -1;
    for (size_t i = tree->count; i-- > 1;)
        if (tree->list[i]->depth < 0) tree_forget(tree, tree->list[i]);
}

size_t node_path(const struct node *node, const char *name, char *out, size_t size) {
    size_t length = strlen(name);
    for (const struct node *above = node; above && above->parent; above = above->parent) length += strlen(above->name) + 1;
    if (length > size) return 0;
    size_t at = length - strlen(name);
    memcpy(out + at, name, strlen(name));
    for (const struct node *above = node; above && above->parent; above = above->parent) {
        out[--at] = '/';
        at -= strlen(above->name);
        memcpy(out + at, above->name, strlen(above->name));
    }
    return length;
}
