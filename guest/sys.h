/* System calls and constants that the libc headers of our oldest build machine lack or spell in conflict with the kernel's.
 * Thin: one function per call, errno as the kernel gave it. No policy, no retry. */
#ifndef CORRAL_SYS_H
#define CORRAL_SYS_H

#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

enum {
    FS_SET_FLAG = 0,
    FS_SET_STRING = 1,
    FS_CREATE = 6,
    FS_CLOEXEC = 1,
    ATTR_RDONLY = 0x1,
    ATTR_NOSUID = 0x2,
    ATTR_NODEV = 0x4,
    ATTR_NOEXEC = 0x8,
    ATTR_IDMAP = 0x100000,
    MOVE_FROM_EMPTY = 0x4,
    MOVE_TO_EMPTY = 0x40,
    TREE_CLONE = 1,
    TREE_RECURSIVE = 0x8000,
    BIND = 4096,
    RECURSIVE = 16384,
    PRIVATE = 1 << 18,
    SLAVE = 1 << 19,
    DETACH = 2,
    NEW_NS = 0x00020000,
    NEW_CGROUP = 0x02000000,
    NEW_UTS = 0x04000000,
    NEW_IPC = 0x08000000,
    NEW_USER = 0x10000000,
    NEW_PID = 0x20000000,
    NEW_NET = 0x40000000,
    WANT_PIDFD = 0x00001000,
    NO_MAGICLINKS = 0x02,
    NO_SYMLINKS = 0x04,
    IN_ROOT = 0x10,
    JOIN_SESSION_KEYRING = 1,
};
#define INTO_CGROUP 0x200000000ull

struct clone_request {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};
struct open_request {
    uint64_t flags, mode, resolve;
};
struct attr_request {
    uint64_t set, clear, propagation, userns_fd;
};

static inline int sys_fsopen(const char *type) { return (int)syscall(SYS_fsopen, type, FS_CLOEXEC); }
static inline int sys_fsconfig(int fd, unsigned command, const char *key, const char *value) {
    return (int)syscall(SYS_fsconfig, fd, command, key, value, 0);
}
static inline int sys_fsmount(int fd, unsigned attributes) { return (int)syscall(SYS_fsmount, fd, FS_CLOEXEC, attributes); }
static inline int sys_open_tree(int dir, const char *path, unsigned flags) { return (int)syscall(SYS_open_tree, dir, path, flags); }
static inline int sys_move_mount(int from, int to_dir, const char *to, unsigned flags) {
    return (int)syscall(SYS_move_mount, from, "", to_dir, to, flags | MOVE_FROM_EMPTY);
}
static inline int sys_mount_setattr(int fd, unsigned flags, struct attr_request *attributes) {
    return (int)syscall(SYS_mount_setattr, fd, "", flags | 0x1000u /* AT_EMPTY_PATH */, attributes, sizeof *attributes);
}
static inline int sys_mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data) {
    return (int)syscall(SYS_mount, source, target, type, flags, data);
}
static inline int sys_umount(const char *target, int flags) { return (int)syscall(SYS_umount2, target, flags); }
static inline int sys_pivot_root(const char *to, const char *old) { return (int)syscall(SYS_pivot_root, to, old); }
static inline pid_t sys_clone3(struct clone_request *request) { return (pid_t)syscall(SYS_clone3, request, sizeof *request); }
static inline int sys_openat2(int dir, const char *path, uint64_t flags, uint64_t resolve) {
    struct open_request request = {.flags = flags, .resolve = resolve};
    return (int)syscall(SYS_openat2, dir, path, &request, sizeof request);
}
static inline int sys_close_range(unsigned first, unsigned last) { return (int)syscall(SYS_close_range, first, last, 0); }
static inline int sys_pidfd_kill(int pidfd, int signal) { return (int)syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0); }
static inline long sys_keyctl(int command, const char *name) { return syscall(SYS_keyctl, command, name, 0, 0, 0); }
static inline int sys_execveat(int fd, char *const *argv, char *const *env) {
    return (int)syscall(SYS_execveat, fd, "", argv, env, 0x1000 /* AT_EMPTY_PATH */);
}
static inline int sys_memfd(const char *name, unsigned flags) { return (int)syscall(SYS_memfd_create, name, flags); }
/* The raw calls: libc's wrappers would run them on every thread and keep ids of their own. */
static inline int sys_setgroups(size_t count, const gid_t *groups) { return (int)syscall(SYS_setgroups, count, groups); }
static inline int sys_setresuid(uid_t id) { return (int)syscall(SYS_setresuid, id, id, id); }
static inline int sys_setresgid(gid_t id) { return (int)syscall(SYS_setresgid, id, id, id); }

#endif
