/* Names of the worker `files`: from the bytes of a request to descriptors. */
#ifndef CORRAL_FILES_PATH_H
#define CORRAL_FILES_PATH_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

/* The directory that holds a name, and the name. `dir` is an O_PATH descriptor, -1: none. */
struct place {
    int dir;
    char name[NAME_MAX + 1];
};

enum { DESCRIPTOR_PATH_BYTES = 32 };

/* `base` empty: `path` is absolute. Else `path` is relative and stays beneath `base`, and no link in it is followed. 0, descriptor or -errno. */
int path_open(const char *base, const char *path, int flags);
/* Where the last name of `path` stands, not followed. -EISDIR for a path that ends in no name. */
int path_place(const char *base, const char *path, struct place *out);
/* The same, but a link of that name is followed to where it leads, also when nothing is there. */
int path_place_followed(const char *base, const char *path, struct place *out);
void path_leave(struct place *place);
/* Makes the directories on the way to the last name that are missing; `last`: that one too. */
int path_make(const char *base, const char *path, bool last);
/* The name under /proc of a descriptor, for calls that take none of an O_PATH one. */
void path_of_descriptor(char out[DESCRIPTOR_PATH_BYTES], int fd);
/* Opens what an O_PATH descriptor stands for, when it is a regular file: -EISDIR, -ENXIO for a special one, -ELOOP for a link. */
int path_reopen_file(int fd, int flags, struct stat *st);

#endif
