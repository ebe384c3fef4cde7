/* What the host may ask of the worker `files`, as structs. Pure: the fuzzer drives it.
 * Invariant: a request that files_parse accepted points only into its frame, and each of its strings ends inside it. */
#ifndef CORRAL_FILES_REQUEST_H
#define CORRAL_FILES_REQUEST_H

#include "frame.h"

enum files_op {
    FILES_STAT = 1, FILES_LIST, FILES_GET, FILES_READ, FILES_CLOSE, FILES_PUT, FILES_CREATE, FILES_WRITE, FILES_COMMIT, FILES_MKDIR, FILES_MOVE,
    FILES_REMOVE, FILES_SET, FILES_SYMLINK, FILES_LINK, FILES_SETXATTR,
};
enum files_answer { FILES_OK = 64, FILES_ERROR };
enum files_flag {
    FILES_NOFOLLOW = 1, FILES_XATTRS = 2, FILES_KEEP = 4, FILES_EXCLUSIVE = 8, FILES_PARENTS = 16, FILES_MODE = 32, FILES_APPEND = 64, FILES_AT = 128,
    FILES_RECURSIVE = 256, FILES_MTIME = 512, FILES_UNSET = 1024, FILES_ALL_FLAGS = 2047,
};
enum { FILES_HEAD_BYTES = 24 };

struct files_request {
    uint8_t op;
    uint32_t id;
    uint32_t flags, mode, count, handle;
    uint64_t offset;
    const char *base, *path, *other;
    const uint8_t *data;
    uint32_t length;
};

/* False: not a request of this protocol; the worker ends. */
bool files_parse(const struct frame *frame, struct files_request *out);

#endif
