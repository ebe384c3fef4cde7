/* User and group ids: the maps of a sandbox, the maps of an idmapped layer, and becoming uid 0 of a namespace.
 * Invariant: the owner of base files (0 outside) is in no map that this file writes for a sandbox (parse.c refuses it). */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "contain.h"
#include "sys.h"

enum { MAP_BYTES = IDMAPS_MAX * 36 };

static int write_at(int dir, const char *path, const char *text, size_t length) {
    int fd = openat(dir, path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return -errno;
    ssize_t count = write(fd, text, length);
    int error = count == (ssize_t)length ? 0 : count < 0 ? -errno : -EIO;
    close(fd);
    return error;
}

static int write_map(int proc, pid_t pid, const char *name, const char *text) {
    char path[40];
    snprintf(path, sizeof path, "%d/%s", (int)pid, name);
    return write_at(proc, path, text, strlen(text));
}

/* Step 8: the child waits at the barrier meanwhile, so it has run with no id at all. */
int ids_map(struct making *making) {
    char text[MAP_BYTES];
    size_t length = 0;
    for (uint32_t i = 0; i < making->create->idmaps; i++) {
        const struct idrange *range = &making->create->idmap[i];
        length += (size_t)snprintf(text + length, sizeof text - length, "%u %u %u\n", range->inside, range->outside, range->count);
    }
    pid_t pid = making->sandbox->pid;
    int error = write_map(making->spawner->proc, pid, "uid_map", text);
    return error ? error : write_map(making->spawner->proc, pid, "gid_map", text);
}

/* SAFETY: maps one id and no other, so an idmapped layer shows nobody else's files as the user's.
 * A user namespace with one id mapped, for MOUNT_ATTR_IDMAP. It lives on in its descriptor after its only process is gone. */
static int make_userns(struct spawner *spawner, const struct overlay *overlay) {
    struct clone_request request = {.flags = NEW_USER, .exit_signal = 0};
    int gate[2];
    if (pipe2(gate, O_CLOEXEC) != 0) return -errno;
    pid_t pid = sys_clone3(&request);
    if (pid == 0) {
        /* Does nothing but be: ends when the spawner closes its end, or dies. */
        char byte;
        close(gate[1]);
        ssize_t ignored = read(gate[0], &byte, 1);
        (void)ignored;
        _exit(0);
    }
    int error = pid < 0 ? -errno : 0, fd = -1;
    close(gate[0]);
    char text[36], path[40];
    snprintf(text, sizeof text, "%u %u 1", overlay->from_uid, overlay->to_uid);
    if (!error) error = write_map(spawner->proc, pid, "uid_map", text);
    snprintf(text, sizeof text, "%u %u 1", overlay->from_gid, overlay->to_gid);
    if (!error) error = write_map(spawner->proc, pid, "gid_map", text);
    snprintf(path, sizeof path, "%d/ns/user", (int)pid);
    if (!error && (fd = openat(spawner->proc, path, O_RDONLY | O_CLOEXEC)) < 0) error = -errno;
    close(gate[1]);
    /* exit_signal 0: no SIGCHLD, so the general reaping does not see it; __WCLONE waits for such a child. */
    if (pid > 0) waitpid(pid, NULL, __WCLONE);
    return error ? error : fd;
}

/* From the cache: a codebase has one owner, sandboxes over it are many. The descriptor stays the cache's. */
int idmap_userns(struct spawner *spawner, const struct overlay *overlay) {
    struct idmap_entry *oldest = &spawner->idmaps[0];
    for (int i = 0; i < IDMAP_CACHE; i++) {
        struct idmap_entry *entry = &spawner->idmaps[i];
        if (entry->used < oldest->used) oldest = entry;
        if (!entry->used || entry->from_uid != overlay->from_uid || entry->from_gid != overlay->from_gid ||
            entry->to_uid != overlay->to_uid || entry->to_gid != overlay->to_gid)
            continue;
        entry->used = ++spawner->idmap_clock;
        return entry->userns;
    }
    int userns = make_userns(spawner, overlay);
    if (userns < 0) return userns;
    if (oldest->used) close(oldest->userns);
    *oldest = (struct idmap_entry){.from_uid = overlay->from_uid, .from_gid = overlay->from_gid, .to_uid = overlay->to_uid,
                                   .to_gid = overlay->to_gid, .userns = userns, .used = ++spawner->idmap_clock};
    return userns;
}

int ids_become_root(void) {
    /* SAFETY: all groups and all three ids, or one of the node's stays: as supplementary group, or saved, as a way back. Groups
     * first: afterwards the right to change them may be gone. */
    if (sys_setgroups(0, NULL) != 0 || sys_setresgid(0) != 0 || sys_setresuid(0) != 0) return -errno;
    return 0;
}
