/* The directories that the worker `watch` watches. */
#ifndef CORRAL_WATCH_H
#define CORRAL_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

/* MAX_TOLD: see watch.c. */
enum { MAX_DIRECTORIES = 8192, MAX_DEPTH = 256, MAX_TOLD = 1 << 17, NODE_BUCKETS = 1024 };

enum change { CHANGE_CREATE = 1, CHANGE_MODIFY, CHANGE_REMOVE, CHANGE_MOVE_FROM, CHANGE_MOVE_TO, CHANGE_ATTRIB };

struct node {
    int wd;
    int depth;
    size_t index; /* in the list */
    struct node *parent, *next;
    char *name;
};

struct tree {
    int fd;   /* inotify's */
    const char *path;
    struct stat root; /* what stood there at first */
    struct node **list; /* the root first */
    size_t count;
    struct node *by_wd[NODE_BUCKETS];
};

/* 0 or errno, here and below. */
int tree_begin(struct tree *tree, const char *path, uint32_t events);
/* Watches `name` in the directory `dir`, which is `parent`. One that cannot be opened, is a link or lies too deep is left out; ENOSPC: too many. */
int tree_add(struct tree *tree, struct node *parent, const char *name, int dir, uint32_t events);
struct node *tree_find(const struct tree *tree, int wd);
struct node *tree_child(const struct tree *tree, const struct node *parent, const char *name);
/* A descriptor for reading it, or -errno; -ESTALE: the root is no longer where it was. */
int tree_open(const struct tree *tree, const struct node *node);
/* It and all below it are no longer watched. */
void tree_drop(struct tree *tree, struct node *node);
/* The kernel no longer watches it. */
void tree_forget(struct tree *tree, struct node *node);
int node_place(struct node *node, struct node *parent, const char *name);
/* The path of `name` in `node` below the root, without a NUL; its length, 0: the root itself, or longer than `size`. */
size_t node_path(const struct node *node, const char *name, char *out, size_t size);

#endif
