/* A file that is being written by the worker `files` and is not there yet. */
#ifndef CORRAL_FILES_DRAFT_H
#define CORRAL_FILES_DRAFT_H

#include "files-path.h"
#include "files-request.h"

enum draft_kind {
    DRAFT_DIRECT,   /* appended to or written into as it stands */
    DRAFT_NAMELESS, /* a file without a name in the directory, which gets one at the end */
    DRAFT_NAMED,    /* the same under a name of ours, where the file system knows no nameless ones */
    DRAFT_STAGED,   /* aside, and copied at the end into a file whose directory takes no new names */
};

struct draft {
    enum draft_kind kind;
    int fd;
    int target; /* of DRAFT_STAGED, else -1 */
    struct place place;
    char temporary[32];
    bool exists, exclusive, set_mode;
    mode_t mode;
};

/* All: 0 or -errno. A draft that could not be opened is closed. */
int draft_open(struct draft *draft, const struct files_request *request);
int draft_write(const struct draft *draft, const uint8_t *bytes, size_t count);
/* Puts it in place and tells what it is; the draft is to be closed in any case. */
int draft_commit(struct draft *draft, struct stat *st);
/* What was not committed is gone. */
void draft_close(struct draft *draft);

#endif
