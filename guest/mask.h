/* What the files of the tool `mask` share: one record of a plan, and the two forms a mask can take.
 * A mask decides no verdict: which entry is in it, with which mode and owner, was decided by src/view/plan.ts.
 * Invariant: a mask holds no content; a file of it leads to the codebase's file of the same path or of the place that the plan says,
 * or nowhere. */
#ifndef CORRAL_MASK_H
#define CORRAL_MASK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum mask_type { MASK_FILE = 1, MASK_LINK = 2, MASK_ENTER = 3, MASK_LEAVE = 4, MASK_KEEP = 5, MASK_END = 6 };
/* PLACED comes with CONTENT: the content lies elsewhere than at the file's own path. */
enum mask_flag { MASK_OWN = 1, MASK_CONTENT = 2, MASK_PLACED = 4 };
/* Of ENTER: a directory the mask does not have; one it has with another listing; one whose own listing stays. */
enum mask_state { MASK_FRESH = 0, MASK_CHANGED = 1, MASK_SAME = 2 };

/* One record of a plan. Strings are NUL-terminated and live until the next record. */
struct mask_op {
    uint8_t type, flags;
    uint32_t mode;
    uint64_t size;
    int64_t mtime;
    uint32_t mtime_ns;
    const char *name, *target;
    size_t name_length, target_length;
    const char *path; /* of `name` in the codebase, beginning with '/' */
    size_t path_length;
    const char *lead; /* of a file with CONTENT: where its content lies, beginning with '/' */
    size_t lead_length;
};

struct mask_options {
    uid_t uid; /* of what the sandbox may write; everything else belongs to 0 */
    gid_t gid;
    int trusted; /* trusted.overlay.* rather than user.overlay.* */
    const char *out;
};

_Noreturn void mask_fail(const char *what, const char *name, int error);

/* mask-tree.c: a directory tree, an inode for each entry. */
void mask_tree_open(const struct mask_options *options);
void mask_tree_apply(const struct mask_op *op);
void mask_tree_close(void);

/* mask-image.c: one file, an EROFS image. */
void mask_image_open(const struct mask_options *options);
void mask_image_apply(const struct mask_op *op);
void mask_image_close(void);

int tool_mask(int argc, char **argv);

#endif
