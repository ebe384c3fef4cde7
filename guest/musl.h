/* Put before every file by make.sh --musl: what musl 1.2.3 (Debian 12) lacks of the kernel's interface. Goes when no supported musl lacks it. */
#ifndef CORRAL_MUSL_H
#define CORRAL_MUSL_H

#define _GNU_SOURCE
#include <linux/mount.h>
#include <linux/stat.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static inline int statx(int dir, const char *path, int flags, unsigned mask, struct statx *out) {
    return (int)syscall(SYS_statx, dir, path, flags, mask, out);
}
static inline int renameat2(int from, const char *name, int to, const char *other, unsigned flags) {
    return (int)syscall(SYS_renameat2, from, name, to, other, flags);
}

#endif
