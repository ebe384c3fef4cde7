// Puts the staged entries of a commit in place, one rename each, and can take every one of them back.
// Whether an operation was done is read from the disk - where the staged inode lies - so that a crash at any moment can be
// continued by another process. It decides nothing about policy.
// Invariant: nothing of the person's is removed before the whole commit stands: what is replaced or deleted lies in the staging
// directory until then, and what turns out to be another thing than the plan expected goes back at once.
#define _GNU_SOURCE
#include "stage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Before every change of the disk. With --fail-at N the N-th one ends the process, or fails with --fail-errno. */
int step(struct commit *commit) {
    if (++commit->steps != commit->fail_at) return 0;
    if (commit->fail_errno == 0) {
        /* SAFETY: SIGKILL to ourselves alone: the test's stand-in for a machine that stops here. */
        kill(getpid(), SIGKILL);
        for (;;) pause();
    }
    errno = commit->fail_errno;
    return -1;
}

static int sig_named(int dir, const char *name, struct stage_sig *sig) {
    struct stat st;
    *sig = (struct stage_sig){0};
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0) return errno == ENOENT ? 0 : -1;
    sig_of(&st, sig);
    return 0;
}

/* Renames without replacing; where the file system has no such flag, looks first. */
static int move(int from_dir, const char *from, int to_dir, const char *to) {
    struct stage_sig there;
    if (renameat2(from_dir, from, to_dir, to, RENAME_NOREPLACE) == 0) return 0;
    if (errno != EINVAL && errno != ENOSYS) return -1;
    if (sig_named(to_dir, to, &there) < 0) return -1;
    if (there.type != 0) {
        errno = EEXIST;
        return -1;
    }
    return renameat(from_dir, from, to_dir, to);
}

static int is_empty(int parent, const char *name) {
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir) {
        if (fd >= 0) close(fd);
        return 0;
    }
    int entries = 0;
    while (readdir(dir) && entries <= 2) entries++;
    closedir(dir);
    return entries <= 2;
}

/* Deletes: the entry goes to old/N, and back at once when it is not what the plan saw. */
static int do_delete(struct commit *commit, const struct op *op, int parent, const char *name, const char *slot) {
    struct stage_sig now;
    if (sig_named(commit->old, slot, &now) < 0) return -1;
    if (now.type == 0) {
        if (step(commit) < 0 || move(parent, name, commit->old, slot) < 0) return -1;
        if (sig_named(commit->old, slot, &now) < 0) return -1;
    }
    if (same_thing(&now, &op->before) && (op->kind != OP_RMDIR || is_empty(commit->old, slot))) return 0;
    move(commit->old, slot, parent, name);
    errno = ESTALE;
    return -1;
}

/* Where RENAME_EXCHANGE is missing: aside, then in place. Both halves can be continued after a crash. */
static int do_replace_slowly(struct commit *commit, const struct op *op, int parent, const char *name, const char *slot) {
    struct stage_sig now;
    if (sig_named(commit->old, slot, &now) < 0) return -1;
    if (now.type == 0) {
        if (step(commit) < 0 || move(parent, name, commit->old, slot) < 0) return -1;
        if (sig_named(commit->old, slot, &now) < 0) return -1;
    }
    if (!same_thing(&now, &op->before)) {
        move(commit->old, slot, parent, name);
        errno = ESTALE;
        return -1;
    }
    return step(commit) < 0 ? -1 : move(commit->fresh, slot, parent, name);
}

static int do_replace(struct commit *commit, const struct op *op, int parent, const char *name, const char *slot) {
    struct stage_sig now;
    if (sig_named(commit->fresh, slot, &now) < 0) return -1;
    if (now.type != 0 && now.ino == op->made.ino) {
        if (step(commit) < 0) return -1;
        if (renameat2(commit->fresh, slot, parent, name, RENAME_EXCHANGE) < 0) {
            if (errno != EINVAL && errno != ENOSYS) return -1;
            return do_replace_slowly(commit, op, parent, name, slot);
        }
        if (sig_named(commit->fresh, slot, &now) < 0) return -1;
    }
    /* Nothing in the slot: the slow way ended. Otherwise it holds what was replaced. */
    if (now.type == 0 || same_thing(&now, &op->before)) return 0;
    renameat2(commit->fresh, slot, parent, name, RENAME_EXCHANGE);
    errno = ESTALE;
    return -1;
}

static int do_put(struct commit *commit, const struct op *op, int parent, const char *name, const char *slot) {
    struct stage_sig now;
    if (op->before.type != 0 && op->kind != OP_MKDIR) return do_replace(commit, op, parent, name, slot);
    if (sig_named(commit->fresh, slot, &now) < 0) return -1;
    if (now.type == 0) return 0;
    return step(commit) < 0 ? -1 : move(commit->fresh, slot, parent, name);
}

static int do_mode(struct commit *commit, const struct op *op, int back) {
    struct stat st;
    int fd = open_beneath(commit->root, op->path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return -1;
    int result = fstat(fd, &st);
    mode_t want = (st.st_mode & 07000) | ((back ? op->before.mode : op->mode) & 0777);
    if (result == 0 && (st.st_ino & INO_BITS) != op->before.ino) {
        errno = ESTALE;
        result = -1;
    }
    if (result == 0 && (st.st_mode & 07777) != want) result = step(commit) < 0 ? -1 : fchmod(fd, want);
    int error = errno;
    close(fd);
    errno = error;
    return result;
}

/* Done before a crash: asked before the directory above is opened, which may be deleted by now too. */
static int is_deleted(struct commit *commit, const struct op *op, const char *slot) {
    struct stage_sig kept;
    if (sig_named(commit->old, slot, &kept) < 0 || kept.type == 0) return 0;
    return same_thing(&kept, &op->before) && (op->kind != OP_RMDIR || is_empty(commit->old, slot));
}

static int do_op(struct commit *commit, uint32_t index) {
    const struct op *op = &commit->plan.ops[index];
    const char *name;
    char slot[16];
    if (op->kind == OP_MODE) return do_mode(commit, op, 0);
    snprintf(slot, sizeof slot, "%u", index);
    int deletes = op->kind == OP_DELETE || op->kind == OP_RMDIR;
    if (deletes && is_deleted(commit, op, slot)) return 0;
    int parent = open_parent(commit->root, op->path, &name);
    if (parent < 0) return -1;
    int result = deletes ? do_delete(commit, op, parent, name, slot) : do_put(commit, op, parent, name, slot);
    int error = errno;
    close(parent);
    errno = error;
    return result;
}

int apply_all(struct commit *commit) {
    for (uint32_t i = 0; i < commit->plan.count; i++) {
        if (do_op(commit, i) == 0) continue;
        commit->wrong = errno;
        commit->wrong_op = i;
        commit->what = "putting an entry in place";
        return -1;
    }
    return 0;
}

/* Puts old/N back. What another process made in its place meanwhile is not overwritten. */
static int undo_delete(struct commit *commit, int parent, const char *name, const char *slot) {
    struct stage_sig kept;
    if (sig_named(commit->old, slot, &kept) < 0) return -1;
    if (kept.type == 0) return 0;
    return step(commit) < 0 ? -1 : move(commit->old, slot, parent, name);
}

static int undo_put(struct commit *commit, const struct op *op, int parent, const char *name, const char *slot) {
    struct stage_sig slot_now, there;
    if (sig_named(commit->fresh, slot, &slot_now) < 0 || sig_named(parent, name, &there) < 0) return -1;
    if (slot_now.type != 0 && slot_now.ino == op->made.ino) return undo_delete(commit, parent, name, slot);
    /* SAFETY: ours is only what nobody touched since: an edit by the person stays, and is reported as stuck. */
    if (!same_thing(&there, &op->made) || (there.type == 'd' && !is_empty(parent, name))) {
        if (there.type == 0 && slot_now.type == 0) return undo_delete(commit, parent, name, slot);
        errno = ESTALE;
        return -1;
    }
    if (step(commit) < 0) return -1;
    if (slot_now.type != 0) return renameat2(commit->fresh, slot, parent, name, RENAME_EXCHANGE);
    if (move(parent, name, commit->fresh, slot) < 0) return -1;
    return undo_delete(commit, parent, name, slot);
}

static int undo_op(struct commit *commit, uint32_t index) {
    const struct op *op = &commit->plan.ops[index];
    const char *name;
    char slot[16];
    if (op->kind == OP_MODE) return do_mode(commit, op, 1);
    snprintf(slot, sizeof slot, "%u", index);
    int parent = open_parent(commit->root, op->path, &name);
    /* Its directory was never made, or is one of ours that is gone again: then neither was this. */
    if (parent < 0) return errno == ENOENT ? 0 : -1;
    int deletes = op->kind == OP_DELETE || op->kind == OP_RMDIR;
    int result = deletes ? undo_delete(commit, parent, name, slot) : undo_put(commit, op, parent, name, slot);
    close(parent);
    return result;
}

/* Takes back what was done, last first. Returns -1 when something could not be put back (commit->stuck says how many). */
int undo_all(struct commit *commit) {
    commit->stuck = 0;
    for (uint32_t i = commit->plan.count; i-- > 0;) {
        if (undo_op(commit, i) == 0) continue;
        uint8_t head[9] = {'X'};
        commit->stuck++;
        put32(head + 1, i);
        put32(head + 5, (uint32_t)strlen(commit->plan.ops[i].path));
        stage_put(&commit->out, head, sizeof head);
        stage_put(&commit->out, commit->plan.ops[i].path, strlen(commit->plan.ops[i].path));
    }
    return commit->stuck ? -1 : 0;
}

static int sync_parents(struct commit *commit) {
    const char *name;
    for (uint32_t i = 0; i < commit->plan.count; i++) {
        int parent = open_parent(commit->root, commit->plan.ops[i].path, &name);
        /* Gone: a directory that the plan removed; its own removal is in the parent above. */
        if (parent < 0) continue;
        close(parent);
        char *path = strndup(commit->plan.ops[i].path, (size_t)(name - commit->plan.ops[i].path));
        if (!path) return -1;
        if (*path) path[strlen(path) - 1] = 0;
        int fd = open_beneath(commit->root, path, O_RDONLY | O_DIRECTORY);
        free(path);
        if (fd < 0) continue;
        int result = fsync(fd);
        close(fd);
        if (result < 0) return -1;
    }
    return fsync(commit->fresh) < 0 || fsync(commit->old) < 0 || fsync(commit->stage) < 0 ? -1 : 0;
}

int sync_all(struct commit *commit) {
    if (step(commit) < 0) return -1;
    return commit->plan.count <= SYNC_ONE_BY_ONE ? sync_parents(commit) : syncfs(commit->stage);
}

/* Empties n/ and o/ by name, never by descent: a directory that somebody filled meanwhile stays and says so. */
static int empty(struct commit *commit, int dir) {
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), left = 0;
    DIR *list = fd < 0 ? NULL : fdopendir(fd);
    if (!list) return -1;
    for (struct dirent *entry; (entry = readdir(list));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        if (step(commit) < 0) {
            closedir(list);
            return -1;
        }
        if (unlinkat(dir, entry->d_name, 0) == 0) continue;
        if ((errno == EISDIR || errno == EPERM) && unlinkat(dir, entry->d_name, AT_REMOVEDIR) == 0) continue;
        left = errno;
    }
    closedir(list);
    errno = left;
    return left ? -1 : 0;
}

/* Removes the staging directory `name`; its journal goes last but one, so that a crash here is continued too. */
int clean_up(struct commit *commit, const char *name) {
    static const char *const journals[] = {"plan", "go", "undo", "undone", "applied"};
    if (commit->fresh >= 0 && empty(commit, commit->fresh) < 0) return -1;
    if (commit->old >= 0 && empty(commit, commit->old) < 0) return -1;
    if (step(commit) < 0) return -1;
    if (unlinkat(commit->stage, "n", AT_REMOVEDIR) < 0 && errno != ENOENT) return -1;
    if (unlinkat(commit->stage, "o", AT_REMOVEDIR) < 0 && errno != ENOENT) return -1;
    if (step(commit) < 0) return -1;
    for (size_t i = 0; i < sizeof journals / sizeof *journals; i++)
        if (unlinkat(commit->stage, journals[i], 0) < 0 && errno != ENOENT) return -1;
    if (step(commit) < 0) return -1;
    return unlinkat(commit->root, name, AT_REMOVEDIR);
}
