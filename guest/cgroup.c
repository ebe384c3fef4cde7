/* Step 5: one directory per sandbox below each parent that CONFIGURE named, with its limits set before anybody is in it.
 * v1: PID 1 and all commands share it. v2: limits stand on the sandbox's directory, PID 1 sits in it, commands in `work/N` below,
 * which have no controllers: so PID 1 is cloned into place, and no migration happens on the way to a first command.
 * Invariant: nothing but `work` and the right to move processes below the sandbox's directory is given to the sandbox's ids. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "contain.h"
#include "sys.h"

/* PID 1 and what it needs to answer stand beside the commands in a v2 directory; the limit asked for is the commands'. */
enum { GUEST_PIDS = 1, SLOTS_MAX = 2048, VALUE_BYTES = 64, IO_STAT_BYTES = 8192 };

/* A foreign runtime keeps a process of its own beside PID 1, and so does egress. */
static uint64_t guest_pids(const struct create *create) { return GUEST_PIDS + (create->launches ? 1 : 0) + (create->egress_dir ? 1 : 0); }

int cgroup_write(int dir, const char *name, const char *value) {
    int fd = openat(dir, name, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return -errno;
    ssize_t count = write(fd, value, strlen(value));
    int error = count < 0 ? -errno : 0;
    close(fd);
    return error;
}

static int write_number(int dir, const char *name, uint64_t number) {
    char value[VALUE_BYTES];
    snprintf(value, sizeof value, "%llu", (unsigned long long)number);
    return cgroup_write(dir, name, value);
}

static int limit_v1_memory(struct making *making, int dir) {
    uint64_t bytes = making->create->memory;
    if (!bytes) return 0;
    int error = write_number(dir, "memory.limit_in_bytes", bytes);
    if (error) return error;
    /* Where swap is not counted the file is missing; then swappiness 0 is all there is, and the node's doctor names it. */
    error = write_number(dir, "memory.memsw.limit_in_bytes", bytes);
    if (error && error != -ENOENT) return error;
    error = cgroup_write(dir, "memory.swappiness", "0");
    return error == -ENOENT ? 0 : error;
}

static int limit_v1(struct making *making, const char *controller, int dir) {
    const struct create *create = making->create;
    if (!strcmp(controller, "memory")) return limit_v1_memory(making, dir);
    if (!strcmp(controller, "pids") && create->pids) return write_number(dir, "pids.max", guest_pids(create) + create->pids);
    if (strcmp(controller, "cpu") || !create->cpu_quota) return 0;
    int error = write_number(dir, "cpu.cfs_period_us", create->cpu_period);
    return error ? error : write_number(dir, "cpu.cfs_quota_us", create->cpu_quota);
}

static int make_v1(struct making *making, uint32_t index) {
    struct cgroup_parents *parents = &making->spawner->cgroups;
    const char *controller = parents->v1[index].name;
    if (!strcmp(controller, "cpu") && !making->create->cpu_quota) return 0; /* nothing to hold, and each directory costs */
    if (mkdirat(parents->v1[index].dir, making->create->id, 0755) != 0) return -errno;
    int dir = openat(parents->v1[index].dir, making->create->id, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) return -errno;
    int error = limit_v1(making, controller, dir);
    /* `tasks`, not `cgroup.procs`: a thread that moves itself alone takes no lock of the whole system, whose tail is 10-20 ms. */
    if (!error && (making->cgroup.join[index] = openat(dir, "tasks", O_WRONLY | O_CLOEXEC)) < 0) error = -errno;
    if (!error && !strcmp(controller, "memory")) making->cgroup.memory_events = openat(dir, "memory.oom_control", O_RDONLY | O_CLOEXEC);
    if (!error && !strcmp(controller, "pids")) making->cgroup.pids_events = openat(dir, "pids.events", O_RDONLY | O_CLOEXEC);
    close(dir);
    return error;
}

static int limit_v2(struct making *making, int dir) {
    const struct cgroup_parents *parents = &making->spawner->cgroups;
    const struct create *create = making->create;
    int error = 0;
    if (parents->v2_memory && create->memory) {
        error = write_number(dir, "memory.max", create->memory);
        /* SAFETY: swap would let a sandbox take twice what it may, of a disk that everybody shares. Absent: no swap accounting. */
        if (!error && (error = cgroup_write(dir, "memory.swap.max", "0")) == -ENOENT) error = 0;
    }
    if (!error && parents->v2_pids && create->pids) error = write_number(dir, "pids.max", guest_pids(create) + create->pids);
    if (!error && parents->v2_cpu && create->cpu_quota) {
        char value[VALUE_BYTES];
        snprintf(value, sizeof value, "%llu %llu", (unsigned long long)create->cpu_quota, (unsigned long long)create->cpu_period);
        error = cgroup_write(dir, "cpu.max", value);
    }
    return error;
}

/* `work` and the right to move processes within the sandbox's own directory, for PID 1. */
static int delegate_v2(struct making *making, int dir) {
    uint32_t uid = making->owner_uid, gid = making->owner_gid;
    if (mkdirat(dir, "work", 0755) != 0) return -errno;
    /* SAFETY: a taken guest may make cgroups; without bounds it fills kernel memory with them. Absent before 4.14. */
    int error = write_number(dir, "cgroup.max.descendants", SLOTS_MAX);
    if (error) return error;
    write_number(dir, "cgroup.max.depth", 2);
    if (fchownat(dir, "work", uid, gid, 0) != 0 || fchownat(dir, "work/cgroup.procs", uid, gid, 0) != 0 ||
        fchownat(dir, "cgroup.procs", uid, gid, 0) != 0)
        return -errno;
    /* SAFETY: a mount of its own, detached: from a plain descriptor `..` would lead a taken guest through the node's cgroups. */
    making->cgroup.work = sys_open_tree(dir, "work", TREE_CLONE | O_CLOEXEC);
    return making->cgroup.work < 0 ? -errno : 0;
}

static int make_v2(struct making *making) {
    const struct cgroup_parents *parents = &making->spawner->cgroups;
    if (mkdirat(parents->v2, making->create->id, 0755) != 0) return -errno;
    int dir = openat(parents->v2, making->create->id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) return -errno;
    making->cgroup.v2 = dir;
    int error = limit_v2(making, dir);
    if (!error) error = delegate_v2(making, dir);
    if (!error && parents->v2_memory) making->cgroup.memory_events = openat(dir, "memory.events", O_RDONLY | O_CLOEXEC);
    if (!error && parents->v2_pids) making->cgroup.pids_events = openat(dir, "pids.events", O_RDONLY | O_CLOEXEC);
    return error;
}

int cgroup_make(struct making *making) {
    const struct cgroup_parents *parents = &making->spawner->cgroups;
    if (weakened(making, 5)) return 0;
    making->cgroup.made = true;
    int error = parents->v2 >= 0 ? make_v2(making) : 0;
    for (uint32_t i = 0; i < parents->v1_count && !error; i++) error = make_v1(making, i);
    return error;
}

static void close_one(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

void cgroup_close(struct making *making) {
    close_one(&making->cgroup.v2);
    close_one(&making->cgroup.work);
    close_one(&making->cgroup.memory_events);
    close_one(&making->cgroup.pids_events);
    for (int i = 0; i < CG1_MAX; i++) close_one(&making->cgroup.join[i]);
}

/* In the child, first of all. v2 was joined by the clone itself. */
int cgroup_join(const struct making *making) {
    for (int i = 0; i < CG1_MAX; i++)
        if (making->cgroup.join[i] >= 0 && write(making->cgroup.join[i], "0", 1) != 1) return -errno;
    return 0;
}

/* Ends whoever is left: a process of a foreign runtime that outlived the one we were told to kill. */
static void kill_left(int parent, const char *id) {
    char path[ID_MAX + 32], text[4096];
    snprintf(path, sizeof path, "%s/cgroup.kill", id);
    if (cgroup_write(parent, path, "1") == 0) return;
    snprintf(path, sizeof path, "%s/cgroup.procs", id);
    int fd = openat(parent, path, O_RDONLY | O_CLOEXEC);
    ssize_t count = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    if (fd >= 0) close(fd);
    text[count > 0 ? count : 0] = 0;
    for (char *at = text, *end; *at; at = *end ? end + 1 : end) {
        long pid = strtol(at, &end, 10);
        /* SAFETY: 0 and negative numbers would signal a whole group. */
        if (end == at) break;
        if (pid > 1) kill((pid_t)pid, SIGKILL);
    }
}

static int remove_v1(int parent, const char *id) {
    if (unlinkat(parent, id, AT_REMOVEDIR) == 0 || errno == ENOENT) return 0;
    int error = -errno;
    if (error == -EBUSY) kill_left(parent, id);
    return error;
}

/* Slots that PID 1 made: empty, one level deep. Deeper ones (a taken guest) end in EBUSY here and are told. */
static void remove_children(int dir) {
    int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = copy < 0 ? NULL : fdopendir(copy);
    if (!list) {
        if (copy >= 0) close(copy);
        return;
    }
    for (struct dirent *entry; (entry = readdir(list));)
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.') unlinkat(dir, entry->d_name, AT_REMOVEDIR);
    closedir(list);
}

static int remove_v2(int parent, const char *id) {
    char path[ID_MAX + 8];
    snprintf(path, sizeof path, "%s/work", id);
    int work = openat(parent, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (work >= 0) {
        remove_children(work);
        close(work);
        unlinkat(parent, path, AT_REMOVEDIR);
    }
    if (unlinkat(parent, id, AT_REMOVEDIR) == 0 || errno == ENOENT) return 0;
    int error = -errno;
    if (error == -EBUSY) kill_left(parent, id);
    return error;
}

/* 0, or the errno of the first that would not go; the others are gone then. */
int cgroup_remove(struct spawner *spawner, const char *id) {
    const struct cgroup_parents *parents = &spawner->cgroups;
    int error = parents->v2 >= 0 ? remove_v2(parents->v2, id) : 0;
    for (uint32_t i = 0; i < parents->v1_count; i++) {
        int one = remove_v1(parents->v1[i].dir, id);
        if (!error) error = one;
    }
    return error;
}

bool cgroup_read(int parent, const char *id, const char *file, char *text, size_t size) {
    char path[ID_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", id, file);
    int fd = openat(parent, path, O_RDONLY | O_CLOEXEC);
    ssize_t count = fd < 0 ? -1 : read(fd, text, size - 1);
    if (fd >= 0) close(fd);
    if (count < 0) return false;
    text[count] = 0;
    return true;
}

/* One number of a cgroup file: the file's only one (`key` NULL), or that of the line `key N`. Absent: the record is left out. */
static void put_stat(struct buffer *out, const char *record, int parent, const char *id, const char *file, const char *key, uint64_t unit) {
    char text[1024];
    if (!cgroup_read(parent, id, file, text, sizeof text)) return;
    const char *at = text;
    if (key) {
        size_t length = strlen(key);
        while (at && !(strncmp(at, key, length) == 0 && at[length] == ' ')) at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL;
        if (!at) return;
        at += length + 1;
    }
    record_put(out, record);
    record_put_number(out, strtoull(at, NULL, 10) / unit);
}

/* Traffic of all devices: a line each, `8:0 rbytes=1 wbytes=2 rios=…`. A list that is longer than the buffer is left out: a part would be wrong. */
static void put_io(struct buffer *out, int parent, const char *id) {
    char text[IO_STAT_BYTES];
    if (!cgroup_read(parent, id, "io.stat", text, sizeof text) || strlen(text) == sizeof text - 1) return;
    uint64_t moved[2] = {0, 0};
    static const char *const keys[2] = {" rbytes=", " wbytes="};
    for (int i = 0; i < 2; i++)
        for (const char *at = text; (at = strstr(at, keys[i])); at++) moved[i] += strtoull(at + strlen(keys[i]), NULL, 10);
    record_put(out, "io-read");
    record_put_number(out, moved[0]);
    record_put(out, "io-written");
    record_put_number(out, moved[1]);
}

static void stats_v1(struct buffer *out, const char *controller, int dir, const char *id) {
    if (!strcmp(controller, "memory")) {
        put_stat(out, "memory-bytes", dir, id, "memory.usage_in_bytes", NULL, 1);
        put_stat(out, "memory-peak", dir, id, "memory.max_usage_in_bytes", NULL, 1);
        put_stat(out, "memory-events", dir, id, "memory.oom_control", "oom_kill", 1);
    } else if (!strcmp(controller, "pids")) {
        put_stat(out, "pids", dir, id, "pids.current", NULL, 1);
        put_stat(out, "pids-events", dir, id, "pids.events", "max", 1);
    } else if (!strcmp(controller, "cpu")) {
        put_stat(out, "throttled-us", dir, id, "cpu.stat", "throttled_time", 1000);
    } else if (!strcmp(controller, "cpuacct")) {
        put_stat(out, "cpu-us", dir, id, "cpuacct.usage", NULL, 1000);
    }
}

static void stats_v2(struct buffer *out, const struct cgroup_parents *parents, const char *id) {
    put_stat(out, "memory-bytes", parents->v2, id, "memory.current", NULL, 1);
    put_stat(out, "memory-peak", parents->v2, id, "memory.peak", NULL, 1);
    put_stat(out, "memory-events", parents->v2, id, "memory.events", "oom_kill", 1);
    put_stat(out, "pids", parents->v2, id, "pids.current", NULL, 1);
    put_stat(out, "pids-events", parents->v2, id, "pids.events", "max", 1);
    if (parents->v2_cpu) put_stat(out, "throttled-us", parents->v2, id, "cpu.stat", "throttled_usec", 1);
    put_stat(out, "cpu-us", parents->v2, id, "cpu.stat", "usage_usec", 1);
    put_io(out, parents->v2, id);
}

void on_stats(struct spawner *spawner, const struct frame *frame) {
    struct destroy request; /* the same shape: an id */
    struct buffer out = {0};
    const struct cgroup_parents *parents = &spawner->cgroups;
    const struct sandbox *sandbox =
        destroy_parse(frame->body, frame->length, &request) ? NULL : sandbox_find(spawner, request.id);
    if (!sandbox) {
        answer_error(spawner, frame->id, ESRCH, 0, "there is no such sandbox");
        return;
    }
    record_put(&out, "pid");
    record_put_number(&out, (uint64_t)sandbox->pid);
    for (uint32_t i = 0; i < parents->v1_count; i++) stats_v1(&out, parents->v1[i].name, parents->v1[i].dir, request.id);
    if (parents->v2 >= 0) stats_v2(&out, parents, request.id);
    answer(spawner, ANSWER_OK, frame->id, buffer_bytes(&out), buffer_length(&out));
    buffer_free(&out);
}
