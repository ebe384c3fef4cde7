/* MOUNT: one overlay more for a sandbox that stands already - the workspace of one that was started before anybody asked for it.
 * It is made as step 4 makes mounts, and moved onto its place inside from within the sandbox's mount namespace.
 * Invariant: the target is resolved by the kernel below the sandbox's own root, and whatever fails, the spawner is back in its own
 * mount namespace and directory, or it is no more. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "contain.h"
#include "sys.h"

static bool same_place(const struct stat *one, const struct stat *other) { return one->st_dev == other->st_dev && one->st_ino == other->st_ino; }

/* In the sandbox's mount namespace. `node`: the root that is ours. */
static int attach_inside(int mount, const char *target, const struct stat *node) {
    struct stat here;
    int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0 || fstat(root, &here) != 0) return -errno;
    /* SAFETY: before its pivot the sandbox still stands in the node's tree; nothing is put there. */
    int error = same_place(&here, node) ? -EAGAIN : 0;
    /* SAFETY: no link is followed, so nothing that ever ran inside chooses the place. */
    int at = error ? -1 : sys_openat2(root, target + 1, O_PATH | O_DIRECTORY | O_CLOEXEC, IN_ROOT | NO_SYMLINKS | NO_MAGICLINKS);
    if (!error && at < 0) error = -errno;
    if (!error && sys_move_mount(mount, at, "", MOVE_TO_EMPTY) != 0) error = -errno;
    if (at >= 0) close(at);
    close(root);
    return error;
}

/* This process has one thread and shares its directory with nobody, which is what setns asks for. */
static int place(struct spawner *spawner, int pidfd, int mount, const char *target) {
    struct stat node;
    int home = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    if (home < 0 || stat("/", &node) != 0) {
        int error = -errno;
        if (home >= 0) close(home);
        return error;
    }
    /* SAFETY: into the mount namespace alone: ids, capabilities and processes stay the spawner's, and no byte of the sandbox is read. */
    int error = setns(pidfd, NEW_NS) != 0 ? -errno : attach_inside(mount, target, &node);
    /* SAFETY: a spawner that is lost in a sandbox's tree would take the next one's paths from there. */
    if (setns(home, NEW_NS) != 0 || fchdir(spawner->proc_fds) != 0) abort();
    close(home);
    return error;
}

void on_mount(struct spawner *spawner, const struct frame *frame) {
    struct create *request = &spawner->request;
    if (mount_parse(frame->body, frame->length, request)) {
        answer_error(spawner, frame->id, EINVAL, 0, request->wrong);
        return;
    }
    struct sandbox *sandbox = sandbox_find(spawner, request->id);
    if (!sandbox || sandbox->state != SANDBOX_LIVE) {
        answer_error(spawner, frame->id, ESRCH, 0, "there is no such sandbox");
        return;
    }
    struct making making;
    memset(&making, 0, sizeof making);
    making.spawner = spawner;
    making.create = request;
    making.sandbox = sandbox;
    const struct mount *wanted = &request->mount[1];
    int mount = mount_make(&making, wanted);
    int error = mount < 0 ? mount : place(spawner, sandbox->pidfd, mount, wanted->target);
    if (mount >= 0) close(mount);
    if (error) answer_error(spawner, frame->id, -error, 4, making.message ? making.message : "the mount could not be put into the sandbox");
    else answer(spawner, ANSWER_OK, frame->id, NULL, 0);
}
