/* FREEZE: every process of a sandbox stands still, PID 1 included, or goes on. By the sandbox's own v2 directory where there is one,
 * else by a v1 `freezer`. Nobody waits here: the answer says what the kernel says now, and who wants it done asks again.
 * Invariant: a sandbox that was told to end is never left standing. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "contain.h"
#include "sys.h"

enum { FREEZE_TEXT_BYTES = 256 };

/* The v1 hierarchy that freezes, or -1. Where there is a v2 tree the sandbox has no directory in it. */
static int v1_freezer(const struct spawner *spawner) {
    for (uint32_t i = 0; i < spawner->cgroups.v1_count; i++)
        if (!strcmp(spawner->cgroups.v1[i].name, "freezer")) return spawner->cgroups.v1[i].dir;
    return -1;
}

static int write_below(int parent, const char *id, const char *name, const char *value) {
    int dir = openat(parent, id, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0) return -errno;
    int error = cgroup_write(dir, name, value);
    close(dir);
    return error;
}

static int set_state(const struct spawner *spawner, const char *id, bool frozen) {
    int v2 = spawner->cgroups.v2, v1 = v1_freezer(spawner);
    if (v2 >= 0) return write_below(v2, id, "cgroup.freeze", frozen ? "1" : "0");
    return v1 < 0 ? -EOPNOTSUPP : write_below(v1, id, "freezer.state", frozen ? "FROZEN" : "THAWED");
}

/* A process in the middle of a disk access stands still only after it. */
static bool is_frozen(const struct spawner *spawner, const char *id) {
    char text[FREEZE_TEXT_BYTES];
    int v2 = spawner->cgroups.v2;
    if (v2 >= 0) return cgroup_read(v2, id, "cgroup.events", text, sizeof text) && strstr(text, "frozen 1");
    return cgroup_read(v1_freezer(spawner), id, "freezer.state", text, sizeof text) && !strncmp(text, "FROZEN", 6);
}

void thaw_to_die(const struct sandbox *sandbox) {
    /* SAFETY: in v1 a frozen process takes no signal, so one that was killed would stand there for good. */
    if (sandbox->has_cgroup && v1_freezer(sandbox->spawner) >= 0) set_state(sandbox->spawner, sandbox->id, false);
}

void on_freeze(struct spawner *spawner, const struct frame *frame) {
    struct freeze request;
    if (freeze_parse(frame->body, frame->length, &request)) {
        answer_error(spawner, frame->id, EINVAL, 0, request.wrong);
        return;
    }
    struct sandbox *sandbox = sandbox_find(spawner, request.id);
    if (!sandbox || sandbox->state != SANDBOX_LIVE) {
        answer_error(spawner, frame->id, ESRCH, 0, "there is no such sandbox");
        return;
    }
    int error = set_state(spawner, request.id, request.frozen);
    if (error) {
        answer_error(spawner, frame->id, -error, 0, "no cgroup of the sandbox can freeze it");
        return;
    }
    struct buffer out = {0};
    bool ok = record_put(&out, "frozen") && record_put_number(&out, is_frozen(spawner, request.id));
    if (ok) answer(spawner, ANSWER_OK, frame->id, buffer_bytes(&out), buffer_length(&out));
    else answer_error(spawner, frame->id, ENOMEM, 0, "out of memory");
    buffer_free(&out);
}
