// What the files of the `stage` tool share: the stream in, the stream out, names that stay beneath a root, the plan of a commit.
// It decides no verdict: which entry may be applied was judged before. It trusts neither the delta nor the codebase: between two
// calls another process may exchange any component of any path.
// Invariant: no path is followed through a symbolic link, out of its root or onto another file system.
#ifndef CORRAL_STAGE_H
#define CORRAL_STAGE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

enum {
    STAGE_NAME_MAX = 255,
    STAGE_PATH_MAX = 1 << 16,  /* a tree deeper than PATH_MAX can be made by relative names */
    STAGE_RECORD_MAX = 1 << 18,
    STAGE_CHUNK = 1 << 16,
    STAGE_OPS_MAX = 4000000,
    SYNC_ONE_BY_ONE = 64,      /* above it one syncfs is cheaper than many fsync */
};

struct stage_in {
    int fd;
    size_t at, end;
    uint8_t bytes[STAGE_CHUNK];
};

struct stage_out {
    int fd;
    size_t end;
    uint8_t bytes[STAGE_CHUNK];
};

/* Inode numbers by their lower 53 bits: the server's numbers hold no more, and some file systems use all 64. */
#define INO_BITS ((UINT64_C(1) << 53) - 1)

/* What a path was when it was looked at. */
struct stage_sig {
    uint8_t type; /* 0: nothing there, else f d l o */
    uint32_t mode;
    uint64_t ino, size;
    int64_t mtime, ctime; /* ns */
};

enum op_kind {OP_DELETE = 'D', OP_RMDIR = 'R', OP_MKDIR = 'M', OP_FILE = 'F', OP_LINK = 'L', OP_MODE = 'C'};
enum op_source {SOURCE_NONE, SOURCE_UPPER, SOURCE_BASE};

struct op {
    uint8_t kind, source;
    uint32_t mode;           /* permission bits that the result gets */
    struct stage_sig before; /* what the person's tree held when the sandbox began; anything else is a conflict */
    struct stage_sig from;   /* what the source was when it was judged */
    const char *path, *from_path, *target; /* NUL-terminated, into the plan's bytes */
    struct stage_sig made;   /* the staged entry: its ino tells later whether the operation was done */
};

struct plan {
    uint8_t *bytes;
    size_t length;
    uint64_t root_ino;
    uint32_t count;
    struct op *ops;
};

/* One commit under way: descriptors of the tree, of the staging directory and its halves. */
struct commit {
    int root, upper, stage, fresh, old;
    dev_t dev;
    struct plan plan;
    struct stage_out out;
    uint32_t steps, fail_at;
    int fail_errno; /* 0: be killed at step `fail_at` */
    int wrong;      /* errno of the step that failed */
    const char *what;
    uint32_t wrong_op;
    uint32_t stuck; /* operations that could not be put back */
};

#define NO_OP UINT32_MAX

/* stage.c */
_Noreturn void stage_fail(const char *what, int error);
int stage_take(struct stage_in *in, void *to, size_t length); /* 1, or 0 at a clean end before the first byte */
void stage_put(struct stage_out *out, const void *from, size_t length);
void stage_flush(struct stage_out *out);
uint16_t get16(const uint8_t *at);
uint32_t get32(const uint8_t *at);
uint64_t get64(const uint8_t *at);
void put16(uint8_t *at, uint16_t value);
void put32(uint8_t *at, uint32_t value);
void put64(uint8_t *at, uint64_t value);
int path_plain(const char *path, size_t length);
int open_root(const char *path);
int open_beneath(int root, const char *path, int flags); /* descriptor or -1 */
int open_parent(int root, const char *path, const char **name);
int sig_at(int root, const char *path, struct stage_sig *sig); /* 0 also when nothing is there; -1: errno */
void sig_of(const struct stat *st, struct stage_sig *sig);
int same_thing(const struct stage_sig *a, const struct stage_sig *b); /* type, ino, size, mtime: what a rename keeps */
int64_t nanoseconds(struct timespec time);

/* stage-read.c */
int stage_probe(int argc, char **argv);
int stage_compare(int argc, char **argv);
int stage_cat(int argc, char **argv);

/* stage-plan.c */
void sig_put(uint8_t *at, const struct stage_sig *sig); /* 40 bytes */
int plan_take(struct stage_in *in, struct plan *plan);
int plan_write(struct commit *commit);
int plan_read(struct commit *commit, const char *name);

/* stage-copy.c */
int stage_make(struct commit *commit, uint32_t index);

/* stage-apply.c */
int step(struct commit *commit);
int apply_all(struct commit *commit);
int undo_all(struct commit *commit);
int sync_all(struct commit *commit);
int clean_up(struct commit *commit, const char *name);

/* stage-commit.c */
int stage_apply(int argc, char **argv);
int stage_recover(int argc, char **argv);

#endif
