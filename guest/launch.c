/* A sandbox whose root a foreign runtime builds (bubblewrap): what the child does for it between step 9 and its exec.
 * The mounts of step 4 were made by the spawner and have no place yet; such a program takes paths. So they are put below a tmpfs on
 * /tmp of this mount namespace, named by their index: CREATE's argv says `--bind /tmp/3 /usr`. launched.c goes on inside.
 * Invariant: what is staged is seen by this mount namespace alone, and goes with the old root when the runtime leaves it. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "contain.h"
#include "handover.h"
#include "launched.h"
#include "sys.h"

enum { NAME_BYTES = 16 };

static int put_in_place(struct making *making, uint32_t index, int mount) {
    struct stat st;
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "%u", index);
    if (fstat(mount, &st) != 0) return -errno;
    /* SAFETY: below a tmpfs of our own: a place of the node would be covered for it too, were this namespace shared. */
    if (S_ISDIR(st.st_mode) ? mkdirat(making->scratch, name, 0755) != 0 : mknodat(making->scratch, name, S_IFREG | 0444, 0) != 0) return -errno;
    return sys_move_mount(mount, making->scratch, name, 0) != 0 ? -errno : 0;
}

static int stage_one(struct making *making, uint32_t index) {
    const struct mount *mount = &making->create->mount[index];
    int fd = making->mount[index];
    bool nodes = mount->kind == MOUNT_DEV && fd < 0;
    if (mount->kind == MOUNT_TMPFS) fd = tmpfs_make(making, mount);
    else if (nodes) fd = dev_frame();
    else if (mount->kind == MOUNT_PROC || mount->kind == MOUNT_DEVPTS || mount->kind == MOUNT_FILE) return 0; /* made inside */
    if (fd < 0) return fd;
    int error = put_in_place(making, index, fd);
    return !error && nodes ? dev_bind(fd) : error;
}

int launch_stage(struct making *making) {
    if (!making->create->launches) return 0;
    making->message = "mounts could not be made private";
    /* SAFETY: without it the stage on /tmp would appear in every namespace that shares mounts with the spawner's. */
    if (sys_mount(NULL, "/", NULL, RECURSIVE | PRIVATE, NULL) != 0) return -errno;
    making->message = "the mounts for the foreign runtime could not be staged on /tmp";
    int error = scratch_make(making, "/tmp");
    for (uint32_t i = 0; i < making->create->mounts && !error; i++) error = stage_one(making, i);
    return error;
}

int launch_execute(struct making *making) {
    char *env[] = {NULL};
    making->message = "the guest program could not be handed to the foreign runtime";
    if (dup2(making->spawner->guest, LAUNCHED_GUEST) < 0) return -errno;
    /* What it complains about is all that tells why it failed; launched.c gives the descriptor back. */
    if (dup2(HANDOVER_FAULT, STDERR_FILENO) < 0) return -errno;
    making->message = "the foreign runtime could not be started";
    execve(making->create->launch[0], (char *const *)(void *)making->create->launch, env);
    return -errno;
}
