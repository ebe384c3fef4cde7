// `stage apply` and `stage recover`: the order of a commit, and how one that was cut off ends.
//
//   DIR/NAME/           0700, locked (flock) by the process at work
//     n/ o/             what comes, what went
//     plan -> go -> applied          the journal's name is the state; each rename is made durable before the next thing happens
//             go -> undo -> undone   when an entry could not be put in place
//
// Invariant: before `go` nothing of the codebase was touched; from `go` on either every operation ends done or every one is taken
// back. The staging directory stays until the caller has written down the outcome and asks for --clean.
#define _GNU_SOURCE
#include "stage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

enum outcome {APPLIED = 'A', NOTHING = 'N', STUCK = 'X', BUSY = 'B'};

static struct commit commit = {.root = -1, .upper = -1, .stage = -1, .fresh = -1, .old = -1, .out = {.fd = 1}, .wrong_op = NO_OP};

static int failed(const char *what) {
    commit.wrong = errno;
    commit.what = what;
    return -1;
}

static _Noreturn void finish(enum outcome outcome) {
    uint8_t head[18] = {'E', (uint8_t)outcome};
    const char *what = commit.what ? commit.what : "";
    put32(head + 2, (uint32_t)commit.wrong);
    put32(head + 6, commit.wrong_op);
    put32(head + 10, commit.steps);
    put32(head + 14, (uint32_t)strlen(what));
    stage_put(&commit.out, head, sizeof head);
    stage_put(&commit.out, what, strlen(what));
    stage_flush(&commit.out);
    _exit(0);
}

/* What stands now at every path of the plan: the caller measures later changes against it. */
static void tell_signatures(void) {
    struct stage_sig now;
    for (uint32_t i = 0; i < commit.plan.count; i++) {
        const char *path = commit.plan.ops[i].path;
        uint8_t record[49] = {'S'};
        if (sig_at(commit.root, path, &now) < 0) continue;
        put32(record + 1, i);
        put32(record + 5, (uint32_t)strlen(path));
        sig_put(record + 9, &now);
        stage_put(&commit.out, record, sizeof record);
        stage_put(&commit.out, path, strlen(path));
    }
}

static void parse_flags(int argc, char **argv, int *clean) {
    for (int i = 0; i < argc; i++) {
        if (clean && strcmp(argv[i], "--clean") == 0) *clean = 1;
        else if (i + 1 < argc && strcmp(argv[i], "--fail-at") == 0) commit.fail_at = (uint32_t)strtoul(argv[++i], NULL, 10);
        else if (i + 1 < argc && strcmp(argv[i], "--fail-errno") == 0) commit.fail_errno = (int)strtoul(argv[++i], NULL, 10);
        else stage_fail("unknown flag", 0);
    }
}

/* SAFETY: the name comes from our own caller, but it is joined to a directory of the person's: one plain component of ours only. */
static const char *stage_name(const char *name) {
    if (strncmp(name, ".corral-commit-", 15) != 0 || strchr(name, '/') || strlen(name) > STAGE_NAME_MAX) stage_fail("not the name of a staging directory", 0);
    return name;
}

static int open_dir(int dir, const char *name) {
    return openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static void open_codebase(const char *path) {
    struct stat st;
    commit.root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (commit.root < 0 || fstat(commit.root, &st) < 0) stage_fail("cannot open the codebase", errno);
    commit.dev = st.st_dev;
    if (commit.plan.bytes && (st.st_ino & INO_BITS) != commit.plan.root_ino) {
        errno = ESTALE;
        failed("the codebase directory was replaced by another one");
        finish(NOTHING);
    }
}

static int make_staging(const char *name) {
    if (step(&commit) < 0 || mkdirat(commit.root, name, 0700) < 0) return failed("making the staging directory");
    commit.stage = open_dir(commit.root, name);
    if (commit.stage < 0 || flock(commit.stage, LOCK_EX | LOCK_NB) < 0) return failed("locking the staging directory");
    if (step(&commit) < 0 || mkdirat(commit.stage, "n", 0700) < 0 || mkdirat(commit.stage, "o", 0700) < 0) return failed("making the staging directory");
    commit.fresh = open_dir(commit.stage, "n");
    commit.old = open_dir(commit.stage, "o");
    return commit.fresh < 0 || commit.old < 0 ? failed("opening the staging directory") : 0;
}

/* Whether the codebase still holds at this path what the sandbox began with. */
static int is_unchanged(const struct op *op) {
    struct stage_sig now;
    if (sig_at(commit.root, op->path, &now) < 0) return 0;
    if (!same_thing(&now, &op->before)) return 0;
    return now.type == 0 || (now.mode == op->before.mode && (now.type == 'd' || now.ctime == op->before.ctime));
}

/* A path that this plan itself clears first (a file that becomes a directory) is judged at the operation that clears it. */
static int stage_all(void) {
    for (uint32_t i = 0; i < commit.plan.count; i++) {
        const struct op *op = &commit.plan.ops[i];
        commit.wrong_op = i;
        if (op->before.type != 0 && !is_unchanged(op)) {
            errno = ESTALE;
            return failed("the codebase changed meanwhile");
        }
        if (!strchr("FLM", op->kind)) continue;
        if (step(&commit) < 0 || stage_make(&commit, i) < 0) return failed("staging an entry");
    }
    commit.wrong_op = NO_OP;
    return 0;
}

static int rename_journal(const char *from, const char *to) {
    if (step(&commit) < 0 || renameat(commit.stage, from, commit.stage, to) < 0) return failed("writing the journal");
    return fsync(commit.stage) < 0 ? failed("syncing the journal") : 0;
}

/* After the last line the commit is decided. */
static int decide(void) {
    if (step(&commit) < 0) return failed("syncing what was staged");
    /* The staged content must be on the disk before a journal that points to it. */
    if (commit.plan.count > SYNC_ONE_BY_ONE ? syncfs(commit.stage) < 0 : fsync(commit.fresh) < 0) return failed("syncing what was staged");
    if (step(&commit) < 0 || plan_write(&commit) < 0) return failed("writing the journal");
    if (fsync(commit.stage) < 0 || fsync(commit.root) < 0) return failed("syncing the journal");
    return rename_journal("plan", "go");
}

static enum outcome undo(const char *journal) {
    int wrong = commit.wrong;
    const char *what = commit.what;
    if (strcmp(journal, "undo") != 0 && rename_journal(journal, "undo") < 0) return STUCK;
    /* An error that was asked for by --fail-at comes once; what follows must hold. */
    if (undo_all(&commit) < 0) return STUCK;
    if (sync_all(&commit) < 0 || rename_journal("undo", "undone") < 0) return STUCK;
    tell_signatures();
    commit.wrong = wrong;
    commit.what = what;
    return NOTHING;
}

static enum outcome carry_out(void) {
    if (apply_all(&commit) < 0) return undo("go");
    if (sync_all(&commit) < 0) {
        failed("syncing the codebase");
        return undo("go");
    }
    if (rename_journal("go", "applied") < 0) return undo("go");
    tell_signatures();
    return APPLIED;
}

int stage_apply(int argc, char **argv) {
    static struct stage_in in = {.fd = 0};
    if (argc < 3) stage_fail("usage: apply DIR NAME UPPER [--fail-at N [--fail-errno E]]", 0);
    const char *name = stage_name(argv[1]);
    parse_flags(argc - 3, argv + 3, NULL);
    if (plan_take(&in, &commit.plan) < 0) stage_fail("the plan is malformed", 0);
    open_codebase(argv[0]);
    commit.upper = open_root(argv[2]);
    if (make_staging(name) == 0 && stage_all() == 0 && decide() == 0) finish(carry_out());
    int wrong = commit.wrong;
    /* Another commit's directory of that name is not ours to clean. */
    if (commit.stage >= 0 && clean_up(&commit, name) < 0 && wrong == 0) failed("removing the staging directory");
    finish(NOTHING);
}

/* SAFETY: a directory of that name which somebody else made could hold a journal of their own making. */
static int open_staging(const char *name) {
    struct stat st;
    commit.stage = open_dir(commit.root, name);
    if (commit.stage < 0) return -1;
    if (fstat(commit.stage, &st) < 0 || st.st_uid != geteuid() || (st.st_mode & 0777) != 0700 || st.st_dev != commit.dev)
        stage_fail("the staging directory is not one that Corral made; look at it and remove it by hand", 0);
    if (flock(commit.stage, LOCK_EX | LOCK_NB) < 0) finish(BUSY);
    commit.fresh = open_dir(commit.stage, "n");
    commit.old = open_dir(commit.stage, "o");
    return 0;
}

static enum outcome continue_from(const char *journal) {
    if (plan_read(&commit, journal) < 0) stage_fail("the journal of a commit cannot be read", errno);
    struct stat st;
    if (fstat(commit.root, &st) < 0 || (st.st_ino & INO_BITS) != commit.plan.root_ino) stage_fail("the journal belongs to another directory", 0);
    if (strcmp(journal, "go") == 0) return carry_out();
    if (strcmp(journal, "undo") == 0) return undo("undo");
    tell_signatures();
    return strcmp(journal, "applied") == 0 ? APPLIED : NOTHING;
}

int stage_recover(int argc, char **argv) {
    static const char *const journals[] = {"applied", "undone", "undo", "go"};
    int clean = 0;
    if (argc < 2) stage_fail("usage: recover DIR NAME [--clean]", 0);
    const char *name = stage_name(argv[1]);
    parse_flags(argc - 2, argv + 2, &clean);
    open_codebase(argv[0]);
    if (open_staging(name) < 0) {
        if (errno != ENOENT) stage_fail("cannot open the staging directory", errno);
        finish(NOTHING);
    }
    enum outcome outcome = NOTHING;
    for (size_t i = 0; i < sizeof journals / sizeof *journals; i++) {
        struct stat st;
        if (fstatat(commit.stage, journals[i], &st, AT_SYMLINK_NOFOLLOW) < 0) continue;
        outcome = continue_from(journals[i]);
        break;
    }
    if (clean && outcome != STUCK && clean_up(&commit, name) < 0) failed("removing the staging directory");
    finish(outcome);
}
