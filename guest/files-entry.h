/* What the worker `files` tells of a name: entries, listings, extended attributes. */
#ifndef CORRAL_FILES_ENTRY_H
#define CORRAL_FILES_ENTRY_H

#include <stdbool.h>
#include <sys/stat.h>

#include "buffer.h"

enum { ENTRY_BYTES = 48, MAX_LISTED = 1000, MAX_LISTED_BYTES = 512 * 1024, MAX_XATTR_BYTES = 64 * 1024 };

/* `name` in `dir`; `dir` -1: `st` alone, without a link's target. False: no memory. */
bool entry_put(struct buffer *out, const struct stat *st, int dir, const char *name);
/* u8 more, then the first `most` entries behind `after` in the order of their bytes. 0 or errno. */
int entries_put(struct buffer *out, int dir, const char *after, uint32_t most);
/* The attributes `user.*` of what an O_PATH descriptor stands for, those of overlay left out; as many as MAX_XATTR_BYTES take. 0 or errno. */
int xattrs_put(struct buffer *out, int fd);
/* Whether the worker sets and tells an attribute of this name. */
bool xattr_ours(const char *name);

#endif
