/* The end of a sandbox, whoever asked for it: processes, then cgroups, socket, scrubbed trees, lock, in that order.
 * A sandbox is a small state machine: LIVE, KILLED (the signal is sent), REAPED (PID 1 is gone, and with it all below it and its
 * mounts), SCRUBBING (a child removes a large tree). Nothing here blocks the loop.
 * Invariant: an answer that says gone is given after everything is; what could not be taken away is told, never passed over. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "contain.h"
#include "remove.h"
#include "sys.h"

enum { INLINE_ENTRIES = 64, RETRIES_MAX = 200, RETRY_MS = 1, RETRY_LATER_MS = 25, FAULT_BYTES = 600, FOREIGN_STEP = 13 };

struct sandbox *sandbox_find(struct spawner *spawner, const char *id) {
    struct sandbox *sandbox = spawner->sandboxes;
    while (sandbox && strcmp(sandbox->id, id) != 0) sandbox = sandbox->next;
    return sandbox;
}

static void close_one(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

static void forget(struct sandbox *sandbox) {
    struct spawner *spawner = sandbox->spawner;
    struct sandbox **place = &spawner->sandboxes;
    while (*place != sandbox) place = &(*place)->next;
    *place = sandbox->next;
    spawner->sandbox_count--;
    /* The lock is given up explicitly: a scrubbing child may still hold a copy of the descriptor for a moment. */
    if (sandbox->journal >= 0) flock(sandbox->journal, LOCK_UN);
    close_one(&sandbox->journal);
    close_one(&sandbox->pidfd);
    close_one(&sandbox->barrier);
    close_one(&sandbox->fault);
    loop_timer_stop(&spawner->loop, &sandbox->retry);
    for (uint32_t i = 0; i < sandbox->scrubs; i++) free(sandbox->scrub[i]);
    free(sandbox);
    spawner_maybe_exit(spawner);
}

/* `STEP ERRNO MESSAGE` of a step that failed in the child, if there was one. */
static void read_fault(struct sandbox *sandbox, uint32_t *step, uint32_t *error, char *message) {
    char text[FAULT_BYTES];
    *step = *error = 0;
    *message = 0;
    ssize_t count = sandbox->fault < 0 ? -1 : read(sandbox->fault, text, sizeof text - 1);
    if (count <= 0) return;
    text[count] = 0;
    int at = 0;
    /* The writer was ours until its exec and the guest afterwards: whatever it says, it is numbers and one bounded line. */
    text[strcspn(text, "\n")] = 0;
    /* Not a step of ours: the complaint of a foreign runtime, which builds the root. */
    if (sscanf(text, "%9u %9u %n", step, error, &at) < 2) *step = FOREIGN_STEP;
    snprintf(message, FAULT_BYTES, "%s", at < count ? text + at : "");
}

static void tell_died(struct sandbox *sandbox) {
    struct buffer out = {0};
    uint32_t step, error;
    char message[FAULT_BYTES];
    read_fault(sandbox, &step, &error, message);
    bool ok = record_put(&out, "id") && record_put(&out, sandbox->id) && record_put(&out, "step") && record_put_number(&out, step) &&
              record_put(&out, "errno") && record_put_number(&out, error) && record_put(&out, "status") &&
              record_put_number(&out, (uint32_t)sandbox->status) && record_put(&out, "message") && record_put(&out, message);
    if (ok) answer(sandbox->spawner, ANSWER_DIED, 0, buffer_bytes(&out), buffer_length(&out));
    buffer_free(&out);
}

static void tell_failed(struct sandbox *sandbox) {
    answer_error(sandbox->spawner, sandbox->request, (int)sandbox->create_errno, sandbox->create_step, sandbox->create_message);
}

/* All is gone, or `error` says what is not. */
static void finish(struct sandbox *sandbox, int error, const char *what) {
    struct spawner *spawner = sandbox->spawner;
    bool wanted = !sandbox->orphan;
    if (wanted && sandbox->create_errno) tell_failed(sandbox);
    else if (wanted && !sandbox->asked) tell_died(sandbox);
    else if (wanted && error) answer_error(spawner, sandbox->request, -error, 0, what);
    else if (wanted) answer(spawner, ANSWER_OK, sandbox->request, NULL, 0);
    if (error) fprintf(stderr, "corral-guest spawner: sandbox %s: %s: %s\n", sandbox->id, what, strerror(-error));
    forget(sandbox);
}

static int fork_scrubber(struct sandbox *sandbox) {
    pid_t pid = fork();
    if (pid < 0) return -errno;
    if (pid > 0) {
        sandbox->scrubber = pid;
        sandbox->scrubbed = sandbox->scrubs;
        sandbox->state = SANDBOX_SCRUBBING;
        return 0;
    }
    /* SAFETY: without it a scrub outlives a spawner that was killed, and races with the reaper that finishes its work. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* SAFETY: copies of our sockets would keep them open when we close them: a client that was sent away would not see it. */
    sys_close_range(3, ~0u);
    int error = 0;
    for (uint32_t i = sandbox->scrubbed; i < sandbox->scrubs; i++) {
        int one = tree_remove(sandbox->scrub[i], REMOVE_ALL);
        if (!error) error = one;
    }
    _exit(error ? 1 : 0);
}

/* Small trees at once, a large one in a child: the loop has others to serve. */
static void scrub(struct sandbox *sandbox) {
    int error = 0;
    while (sandbox->scrubbed < sandbox->scrubs) {
        error = tree_remove(sandbox->scrub[sandbox->scrubbed], INLINE_ENTRIES);
        if (error) break;
        sandbox->scrubbed++;
    }
    if (error > 0) error = fork_scrubber(sandbox);
    if (sandbox->state != SANDBOX_SCRUBBING) finish(sandbox, error, "a tree could not be removed");
}

static void settle(struct sandbox *sandbox);

static void try_again(struct timer *timer) { settle(CONTAINER_OF(timer, struct sandbox, retry)); }

/* PID 1 is gone. Cgroups may need a moment: the kernel takes leaving processes out of them after they were reaped. */
static void settle(struct sandbox *sandbox) {
    struct spawner *spawner = sandbox->spawner;
    int error = sandbox->has_cgroup ? cgroup_remove(spawner, sandbox->id) : 0;
    if (error == -EBUSY && sandbox->retries < RETRIES_MAX) {
        sandbox->retry.fire = try_again;
        loop_timer(&spawner->loop, &sandbox->retry, in_ms(sandbox->retries++ < 10 ? RETRY_MS : RETRY_LATER_MS));
        return;
    }
    sandbox->has_cgroup = false;
    if (sandbox->socket[0] && unlink(sandbox->socket) != 0 && errno != ENOENT && !error) error = -errno;
    if (error) finish(sandbox, error, "a cgroup or the socket could not be removed");
    else scrub(sandbox);
}

void sandbox_kill(struct sandbox *sandbox) {
    if (sandbox->state != SANDBOX_LIVE) return;
    sandbox->state = SANDBOX_KILLED;
    if (sandbox->pidfd < 0) {
        settle(sandbox); /* may free it */
        return;
    }
    /* SAFETY: by pidfd: a number could by now be somebody else's. */
    sys_pidfd_kill(sandbox->pidfd, SIGKILL);
    thaw_to_die(sandbox);
}

/* CREATE failed at `step`: the same way out as every other, then the error is told. */
void sandbox_abandon(struct sandbox *sandbox, uint32_t request, int error, uint32_t step, const char *message) {
    sandbox->request = request;
    sandbox->create_errno = (uint32_t)error;
    sandbox->create_step = step;
    sandbox->create_message = message;
    sandbox_kill(sandbox);
}

bool sandbox_reaped(struct spawner *spawner, pid_t pid, int status) {
    for (struct sandbox *sandbox = spawner->sandboxes; sandbox; sandbox = sandbox->next) {
        if (sandbox->state == SANDBOX_SCRUBBING && sandbox->scrubber == pid) {
            sandbox->state = SANDBOX_REAPED;
            if (WIFEXITED(status) && WEXITSTATUS(status) == 0) scrub(sandbox); /* more may have been asked for meanwhile */
            else finish(sandbox, -EIO, "a tree could not be removed");
            return true;
        }
        if (sandbox->pid != pid || sandbox->state > SANDBOX_KILLED) continue;
        sandbox->state = SANDBOX_REAPED;
        sandbox->status = status;
        settle(sandbox);
        return true;
    }
    return false;
}

/* Beside those of an earlier DESTROY, whose client is gone. */
static bool take_scrubs(struct sandbox *sandbox, const struct destroy *request) {
    for (uint32_t i = 0; i < request->scrubs; i++) {
        uint32_t same = 0;
        while (same < sandbox->scrubs && strcmp(sandbox->scrub[same], request->scrub[i]) != 0) same++;
        if (same < sandbox->scrubs) continue;
        if (same == SCRUB_MAX || !(sandbox->scrub[same] = strdup(request->scrub[i]))) return false;
        sandbox->scrubs = same + 1;
    }
    return true;
}

/* Their end goes on; the answer would be a stranger's to hear. */
void sandboxes_orphan(struct spawner *spawner) {
    for (struct sandbox *sandbox = spawner->sandboxes; sandbox; sandbox = sandbox->next)
        sandbox->orphan = sandbox->asked || sandbox->create_errno;
}

void on_destroy(struct spawner *spawner, const struct frame *frame) {
    struct destroy request;
    if (destroy_parse(frame->body, frame->length, &request)) {
        answer_error(spawner, frame->id, EINVAL, 0, request.wrong);
        return;
    }
    struct sandbox *sandbox = sandbox_find(spawner, request.id);
    if (sandbox && sandbox->asked && !sandbox->orphan) {
        answer_error(spawner, frame->id, EALREADY, 0, "it is being destroyed already");
        return;
    }
    /* One that is gone already, or whose spawner is: level-triggered, what is left of it under that name goes. */
    bool gone = !sandbox;
    if (gone) sandbox = sandbox_new(spawner, request.id);
    if (gone && sandbox) sandbox->has_cgroup = true;
    if (!sandbox || !take_scrubs(sandbox, &request)) {
        answer_error(spawner, frame->id, ENOMEM, 0, "out of memory");
        return;
    }
    sandbox->asked = true;
    sandbox->orphan = false;
    sandbox->create_errno = 0;
    sandbox->request = frame->id;
    if (gone) {
        sandbox->state = SANDBOX_REAPED;
        settle(sandbox);
    } else {
        sandbox_kill(sandbox);
    }
}
