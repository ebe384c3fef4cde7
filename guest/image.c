/* Mounts a mask image (PROTOCOL.md, `mask`) without a loop device and without a name in any mount namespace.
 * Invariant: only a regular file that nobody but its owner can write is mounted; the mount is read-only, nosuid, nodev, noexec. */
#define _GNU_SOURCE
#include "image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int mount_file(const char *source) {
    int context = (int)syscall(SYS_fsopen, "erofs", FSOPEN_CLOEXEC);
    if (context < 0) return -1;
    int mount = -1;
    if (syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "source", source, 0) == 0 &&
        syscall(SYS_fsconfig, context, FSCONFIG_SET_FLAG, "ro", NULL, 0) == 0 &&
        syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
        /* SAFETY: a layer is read through the overlay alone, whose own flags decide on exec; nothing in an image is a device. */
        mount = (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    int error = errno;
    close(context);
    errno = error;
    return mount;
}

int image_mount(const char *path) {
    char source[32];
    struct stat stat;
    /* SAFETY: the kernel parses what the file holds. One that another user can write would hand that user the parser, and could be
     * changed while it is mounted; the descriptor pins the very file that was looked at. */
    int file = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (file < 0) return -1;
    int mount = -1;
    if (fstat(file, &stat) == 0) {
        if (!S_ISREG(stat.st_mode) || stat.st_uid != geteuid() || (stat.st_mode & 022)) {
            errno = EPERM;
        } else {
            snprintf(source, sizeof source, "/proc/self/fd/%d", file);
            mount = mount_file(source);
        }
    }
    int error = errno;
    close(file);
    errno = error;
    return mount;
}
