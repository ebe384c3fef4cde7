// What the files of the tool `walk` share: options, growing bytes, one listing. Two walkers use them: walk-serial.c goes to any depth
// with few descriptors; walk-ahead.c looks at several directories at a time and writes the same stream.
// Invariant: what stands in the stream depends on the tree alone, not on which walker wrote it.
#ifndef CORRAL_WALK_H
#define CORRAL_WALK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

enum { WALK_OPTIONS = 16 };

struct walk {
    const char *skips[WALK_OPTIONS]; // prefixes of names left out directly below DIR
    const char *xattrs[WALK_OPTIONS];
    int skip_count, xattr_count;
    int codebase; // see steady() and readable() in walk.c
};

struct bytes {
    unsigned char *at;
    size_t used, size;
};

struct name {
    uint32_t offset; // into listing.names
    uint16_t length;
    uint8_t is_dir;
};

struct listing {
    char *names;
    size_t names_used, names_size;
    struct name *entries;
    uint32_t count;
    size_t size;
};

_Noreturn void walk_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
void *walk_grow(void *old, size_t *size, size_t need, size_t unit);

/* Descriptor or -1. No link is followed, and looking leaves no trace where that can be had. */
int walk_open(int at, const char *name);
/* Reads and sorts all names of a directory; 0 or errno. */
int walk_names(const struct walk *w, int fd, int is_root, struct listing *listing);
void walk_forget(struct listing *listing);

void walk_put_dir(struct bytes *to, uint32_t index, uint32_t count, int error);
/* Looks at one name, appends its record, and says in `name` whether it is a directory to enter. */
void walk_put_entry(const struct walk *w, struct bytes *to, int fd, const struct listing *listing, struct name *name);
void walk_put_leave(struct bytes *to);
/* Counts entries and writes to stdout. */
void walk_write(struct bytes *bytes, uint64_t entries);

/* Each writes the listings of DIR, of which `root` is a descriptor. */
void walk_serial(const struct walk *w, int root);
void walk_ahead(const struct walk *w, int root);

int tool_walk(int argc, char **argv);

#endif
